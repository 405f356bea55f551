"""What is left of a finished run's model when a modality is missing or noisy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from ..analysis.calibration import calibration
from ..analysis.comparison import MEASURED, Row, mean_cell
from ..analysis.linear_probe import ProbeSettings
from ..analysis.predictions import Predictions
from ..analysis.robustness import (
    VALIDATION,
    Condition,
    change,
    conditions_of,
    dominant_modality,
    noisy_by_type,
    probe_summary,
    robustness_summary,
    shown_columns,
    weak_modality,
    with_common_dominant,
)
from ..analysis.summary import markdown_table, percent
from ..ground.suggestion import did_you_mean
from ..processing.corruptions import CORRUPTIONS, Corruption, build_corruption, default_corruptions
from ..processing.decoded_split import DecodedSplit
from ..processing.seen_in_training import augmentation_of, augmentation_text
from ..processing.tensor_storage import stored_source
from ..training.trainer import MultimodalBalancedTrainer
from .assembly import raw_data
from .finished_run import FinishedRun, check_modality, check_split, load_run, predict
from .json_file import read_json, write_json
from .methods import parse_options
from .probe import encoder_accuracies
from .progress import CompactProgressCallback
from .recipe import Recipe
from .run_files import RunFiles, RunGroup
from .series import AfterRun, flat_result
from .tensorboard_log import log_to_tensorboard

FEWEST_FOR_PAIRS = 3  # modalities: of two, a missing pair leaves nothing


@dataclass(frozen=True)
class Chosen:
    """A corruption that was asked for.

    Attributes:
        modality: whose signal.
        name: in `CORRUPTIONS`.
        options: None for the default severities.
        text: as it was written.
    """

    modality: str
    name: str
    options: Mapping[str, Any] | None
    text: str


def parse_corruption(text: str) -> Chosen:
    """Reads `audio.white_noise`, at its default severities, or `audio.white_noise:snr=10`.

    Raises:
        ValueError: another form, an unknown corruption, or options that it does not have.
    """
    place, colon, given = text.partition(":")
    modality, dot, name = place.rpartition(".")
    if not dot or not modality:
        raise ValueError(f"--corruptions: expected MODALITY.CORRUPTION[:OPTION=VALUE,...], found {text!r}.")
    if name not in CORRUPTIONS:
        hint = did_you_mean(name, CORRUPTIONS)
        raise ValueError(f"--corruptions: no corruption {name!r}.{hint} Known: {', '.join(CORRUPTIONS)}.")
    options = parse_options(given, text) if colon else None
    build_corruption(name, options)
    return Chosen(modality, name, options, text)


def parse_corruptions(texts: Sequence[str] | None, modalities: Sequence[str]) -> list[Chosen] | None:
    """Reads several; None stays None, which means all that fit.

    Args:
        texts: see `parse_corruption`.
        modalities: of any of the runs.

    Raises:
        ValueError: see there; or a modality that no run has.
    """
    chosen = None if texts is None else [parse_corruption(text) for text in texts]
    for one in chosen or ():
        check_modality(f"--corruptions {one.text}", one.modality, modalities)
    return chosen


def robustness_path(run_dir: str | Path, split: str) -> Path:
    """Where the results of a split lie."""
    return Path(run_dir) / f"robustness_{split}.json"


def robustness_run(
    run_dir: str | Path,
    split: str = "test",
    corruptions: Sequence[Chosen] | None = None,
    seed: int = 0,
    dominant: str | None = None,
    with_probes: bool = True,
) -> dict[str, Any]:
    """Evaluates a run's final model on clean data, with each modality noisy, and with each missing.

    Of three and more modalities each pair is missing, too. The split is decoded once; noise depends on seed, row,
    modality and kind of corruption alone, so all runs see the same. The encoders are probed as `hf-bml probe` does it,
    with its default settings. Writes `robustness_<split>.json` and, if the run
    has one, into its TensorBoard log. Under a launcher all processes predict; the main process writes.

    Args:
        run_dir: folder that `hf-bml train` wrote.
        split: train (not augmented), validation or test.
        corruptions: those of modalities that the model lacks are left out; default: all that fit, at their default
            severities.
        seed: of all noise, at least 0.
        dominant: the dominant modality; default: that whose absence costs most accuracy on the validation split.
        with_probes: whether the encoders are probed.

    Returns:
        JSON-able: `split`, `seed`, `modalities`; `conditions`, see [`Condition`](../analysis/robustness.py);
        `dominant`, with the `modality`, and the accuracies `clean` and `without` each modality on validation, that it
        was read from; `probe`, see `add_probes`; `summary`, see `robustness_summary` and `probe_summary`;
        `training_saw`, a sentence; and `left_out`, sentences.

    Raises:
        FileNotFoundError: not a run's folder.
        ValueError: unknown split, modality or corruption, one that does not fit, a negative seed, or a model whose
            outputs are no classification.
    """
    check_split(split)
    if seed < 0:
        raise ValueError(f"--seed must be at least 0, found {seed}.")
    run = load_run(run_dir)
    trainer = run.trainer()
    trainer.remove_callback(CompactProgressCallback)  # a bar per condition
    modalities = list(trainer.modalities)
    if dominant is not None:
        check_modality("--dominant", dominant, modalities)
    pairs, left_out = fitting_corruptions(run, modalities, corruptions)
    with trainer.args.main_process_first(desc="decoding"):
        rows = split_rows(run, split, seed, pairs)
    augmentation = {} if run.processor is None else augmentation_of(run.processor)
    clean = predict(trainer, rows.clean, with_features=with_probes)
    conditions = [measured(clean, "clean")]
    for modality, corruption in pairs:
        noisy = predict(trainer, rows.corrupted(modality, corruption))
        facts = {"corruption": corruption.name, "options": corruption.options, "label": corruption.label}
        seen = corruption.name in augmentation.get(modality, {})
        conditions.append(measured(noisy, "noisy", (modality,), **facts, seen=seen))
    conditions += missing_conditions(trainer, rows.clean, 2 if len(modalities) >= FEWEST_FOR_PAIRS else 1)
    if len(modalities) == 1:
        left_out.append(f"{modalities[0]} is the only modality: without it nothing is left.")
    found: dict[str, Any] = {"split": split, "seed": seed, "modalities": modalities}
    found["conditions"] = [asdict(one) for one in conditions]
    found["dominant"] = dominance(run, trainer, conditions, split, dominant)
    found["summary"] = robustness_summary(conditions, found["dominant"]["modality"])
    if with_probes:
        add_probes(found, run, trainer, clean)
    found["training_saw"] = "" if run.processor is None else augmentation_text(run.processor)
    found["left_out"] = left_out
    if trainer.is_world_process_zero():
        write_json(found, robustness_path(run_dir, split))
        scalars = {f"{MEASURED}{name}": value for name, value in found["summary"].items()}
        log_to_tensorboard(run, split, {None: scalars})
    return found


def add_probes(
    found: dict[str, Any], run: FinishedRun, trainer: MultimodalBalancedTrainer, clean: Predictions
) -> None:
    """Adds `probe` and its part of `summary` to what `robustness_run` returns.

    `probe` has the `accuracy` of a probe of each modality's encoder on the split, the probe's `settings`, and which
    modality is `weak`: the one whose absence costs least accuracy on validation, None if that is not known.

    Args:
        found: with `modalities`, `dominant` and `summary`.
        run, trainer: with the model.
        clean: what it predicts on the split, with features.
    """
    settings = ProbeSettings()
    train = predict(trainer, run.dataset["train"], with_features=True)
    accuracy = encoder_accuracies(trainer, train, clean, settings)
    dominant = found["dominant"]
    weak = weak_modality(found["modalities"], dominant["modality"], dominant.get("without", {}))
    found["probe"] = {"accuracy": accuracy, "settings": asdict(settings), "weak": weak}
    found["summary"] |= probe_summary(accuracy, weak)


def measured(found: Predictions, kind: str, modalities: Iterable[str] = (), **facts: Any) -> Condition:
    """A condition's results."""
    ece = calibration(found.logits, found.labels)["ece"]
    return Condition(kind, float(found.correct.mean()), ece, len(found.labels), tuple(modalities), **facts)


def missing_conditions(trainer: MultimodalBalancedTrainer, dataset: Any, most: int) -> list[Condition]:
    """Every modality is missing in all samples, and up to `most` at once; none of a single one.

    They are marked as absent, not set to zero.
    """
    found = []
    for count in range(1, most + 1) if len(trainer.modalities) > 1 else ():
        for absent in itertools.combinations(trainer.modalities, count):
            found.append(measured(predict(trainer, dataset, absent=absent), "missing", absent))
    return found


def dominance(
    run: FinishedRun,
    trainer: MultimodalBalancedTrainer,
    conditions: Sequence[Condition],
    split: str,
    given: str | None,
) -> dict[str, Any]:
    """See `dominant` of `robustness_run`."""
    if given is not None or len(trainer.modalities) == 1:
        return {"modality": given or trainer.modalities[0]}
    if split != "validation":
        kept = robustness_path(run.folder, "validation")
        if kept.is_file() and trainer.args.world_size == 1:
            conditions = conditions_of(read_json(kept, "conditions"))
        else:
            dataset = run.dataset["validation"]
            conditions = [measured(predict(trainer, dataset), "clean"), *missing_conditions(trainer, dataset, 1)]
    without = {
        one.modalities[0]: one.accuracy for one in conditions if one.kind == "missing" and len(one.modalities) < 2
    }
    clean = next(one.accuracy for one in conditions if one.kind == "clean")
    return {"modality": dominant_modality(without), "clean": clean, "without": without}


def fitting_corruptions(
    run: FinishedRun, modalities: Sequence[str], chosen: Sequence[Chosen] | None
) -> tuple[list[tuple[str, Corruption]], list[str]]:
    """Pairs of a modality and its corruption, and a sentence on every modality that none of the default ones fits."""
    if run.processor is None:
        return [], ["The columns are tensors already, and no corruption fits them."]
    features = raw_data(run.recipe)["train"].features or {}
    left_out, transforms = [], {}
    for name in modalities:
        transform = run.processor.transforms[name]
        if transform.signal is None:
            left_out.append(f"{name}: {type(transform).__name__} declares no signal that a corruption could change.")
        elif stored_source(features.get(name)):
            left_out.append(f"{name}: its column holds prepared tensors, not raw values.")
        else:
            transforms[name] = transform
    every = default_corruptions(transforms)
    if chosen is None:
        return every, left_out
    pairs: list[tuple[str, Corruption]] = []
    for one in chosen:
        if one.modality not in modalities:
            continue
        if one.options is not None and one.modality in transforms:
            pairs.append((one.modality, build_corruption(one.name, one.options)))
            continue
        own = [pair for pair in every if (pair[0], pair[1].name) == (one.modality, one.name)]
        if not own:
            names = list(dict.fromkeys(corruption.name for modality, corruption in every if modality == one.modality))
            raise ValueError(
                f"--corruptions {one.text}: does not fit; {one.modality} takes {', '.join(names) or 'none'}."
            )
        pairs += own
    return pairs, []


KEPT_BYTES = 2**30  # of rows in memory: the runs of a command see the same ones, one run after the other
KEPT_SPLITS = 4
_kept: dict[str, SplitRows] = {}


def split_rows(run: FinishedRun, split: str, seed: int, pairs: Sequence[tuple[str, Corruption]]) -> SplitRows:
    """The rows of a run's split; those of equal processors and data are made once."""
    if run.processor is None:
        return SplitRows(None, run.dataset[split], seed)
    raw = raw_data(run.recipe)
    modalities = list(dict.fromkeys(modality for modality, _ in pairs))

    def decoded() -> DecodedSplit:
        return DecodedSplit(run.processor, raw[split], modalities, raw["train"], run.recipe.data.dataset_num_proc)

    if not isinstance(raw[split], Dataset):
        return SplitRows(decoded(), None, seed)
    data = [raw[name]._fingerprint for name in (split, "train")]
    key = json.dumps([run.processor.to_dict(), data, modalities, seed], default=str)
    if key not in _kept:
        if len(_kept) == KEPT_SPLITS:
            del _kept[next(iter(_kept))]
        _kept[key] = SplitRows(decoded(), None, seed)
    return _kept[key]


class SplitRows:
    """The rows of a split, clean and corrupted; what was made once is kept while there is room for it.

    Args:
        decoded: the split; None where nothing can be corrupted.
        clean: the processed rows, if `decoded` is None.
        seed: of the noise.
    """

    def __init__(self, decoded: DecodedSplit | None, clean: Any, seed: int):
        self._decoded = decoded
        self._seed = seed
        self._values: dict[str, KeptValues] = {}
        self.clean = clean
        if decoded is not None:
            self.clean = Rows(self._kept_values("clean", decoded.clean.__getitem__, len(decoded.clean)))

    def corrupted(self, modality: str, corruption: Corruption) -> Rows:
        """The split with one modality corrupted, see `DecodedSplit.corrupted`."""
        key = json.dumps([modality, corruption.name, corruption.options], default=str)
        rows = self._decoded.corrupted(modality, corruption, self._seed)
        return Rows(self.clean.values, modality, self._kept_values(key, rows.value, len(rows)))

    def _kept_values(self, key: str, make: Callable[[int], Any], count: int) -> KeptValues:
        if key not in self._values:
            self._values[key] = KeptValues(make, count, KEPT_BYTES // KEPT_SPLITS // 16)
        return self._values[key]


class KeptValues:
    """Values by index, made by a function, and kept in memory until they have `most` bytes.

    Args:
        make: from the index to the value.
        count: of the values.
        most: bytes.
    """

    def __init__(self, make: Callable[[int], Any], count: int, most: int):
        self._make = make
        self._values: dict[int, Any] = {}
        self._left = most
        self.count = count

    def __getitem__(self, index: int) -> Any:
        if index in self._values:
            return self._values[index]
        value = self._make(index)
        self._left -= byte_count(value)
        if self._left > 0:
            self._values[index] = value
        return value


@dataclass
class Rows(torch.utils.data.Dataset):
    """Rows of a split, of which one modality may have other values."""

    values: KeptValues
    modality: str = ""
    others: KeptValues | None = None

    def __len__(self) -> int:
        return self.values.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.values[index]
        return row if self.others is None else {**row, self.modality: self.others[index]}


def byte_count(value: Any) -> int:
    """Bytes of the tensors in a row or a modality's value."""
    if isinstance(value, Mapping):
        return sum(map(byte_count, value.values()))
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def robustness_text(found: Mapping[str, Any]) -> str:
    """The printed tables of one run: every condition, then the summary."""
    conditions = conditions_of(found)
    clean = conditions[0].accuracy
    lines = []
    for one in conditions:
        names = ", ".join(one.modalities)
        what = {"clean": "clean", "missing": f"without {names}", "noisy": f"{names}: {one.label}"}[one.kind]
        seen = {"noisy": "yes" if one.seen else "no"}.get(one.kind, "")
        lines.append([what, percent(one.accuracy), change(one.accuracy, clean), percent(one.ece), seen])
    header = ["condition", "accuracy, %", "change", "calibration error, %", "seen in training"]
    summary = found["summary"]
    rows = [[name.replace("_", " "), percent(value)] for name, value in summary.items() if "/" not in name]
    notes = [dominance_text(found["dominant"], conditions), found["training_saw"], *found["left_out"]]
    return "\n\n".join(
        [
            f"{found['split']} split, {conditions[0].n} predictions, noise of seed {found['seed']}",
            markdown_table(header, lines),
            markdown_table(["summary", "%"], rows),
            "\n".join(note for note in notes if note),
        ]
    )


def dominance_text(dominant: Mapping[str, Any], conditions: Sequence[Condition]) -> str:
    """Which modality is dominant, and what its noise was."""
    name = dominant["modality"]
    kinds = ", ".join(noisy_by_type(conditions).get(name, {}))
    text = f"Dominant: {name}"
    if "without" in dominant:
        cost = 100 * (dominant["clean"] - dominant["without"][name])
        text += f", whose absence costs most on validation ({cost:.1f} points)"
    return f"{text}; its noise: {kinds}." if kinds else f"{text}."


def robustness_rows(
    groups: Sequence[RunGroup], found: Mapping[Path, Mapping[str, Any]], dominant: str | None = None
) -> tuple[list[Row], list[str]]:
    """A row per group of seeds, with the same dominant modality in all, and notes on what was averaged.

    Args:
        groups: the runs.
        found: of `robustness_run` on test, by folder; runs without are left out.
        dominant: the dominant modality; default: see `with_common_dominant`.
    """
    rows = []
    for group in groups:
        measured_runs = [(run, found[run.folder]) for run in group.runs if run.folder in found]
        runs = [{**flat_result(run.result), **run_entries(run, own)} for run, own in measured_runs]
        rows += [Row(group.label, methods=group.methods, runs=runs)] if runs else []
    return with_common_dominant(rows, dominant)


def run_entries(run: RunFiles, found: Mapping[str, Any]) -> dict[str, Any]:
    """What a row knows of a run's robustness: its numbers, and those of validation or what the dominant modality was
    read from there."""
    validation = {}
    if "validation" in run.robustness:
        validation = prefixed(run.robustness["validation"]["summary"], VALIDATION)
    elif "without" in found["dominant"]:
        validation = {f"{VALIDATION}missing_{name}": v for name, v in found["dominant"]["without"].items()}
        validation[f"{VALIDATION}clean"] = found["dominant"]["clean"]
    return {**validation, **prefixed(found["summary"], MEASURED)}


def prefixed(summary: Mapping[str, float], prefix: str) -> dict[str, float]:
    """The numbers as runs know them."""
    return {f"{prefix}{name}": value for name, value in summary.items()}


def rows_text(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The printed table of several runs, a row each, and the notes."""
    header, lines = rows_cells(rows)
    return "\n\n".join([markdown_table(header, lines), *notes])


def rows_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of that table: means ± standard deviations over seeds, times 100."""
    names = [f"{MEASURED}clean", *shown_columns(rows)]
    header = ["run", "seeds", *(name.removeprefix(MEASURED).replace("_", " ") for name in names)]
    return header, [[row.label, str(len(row.runs)), *(mean_cell(row, name) for name in names)] for row in rows]


def measure_robustness(
    splits: Sequence[str], corruptions: Sequence[Chosen] | None = None, seed: int = 0
) -> list[AfterRun]:
    """What `hf-bml compare` measures of every run beside its own metrics; on test also probes of its encoders, which
    are added to the results of runs that were measured without.

    Args:
        splits: `validation`, `test` or both.
        corruptions, seed: see `robustness_run`.
    """
    texts = "default" if corruptions is None else [one.text for one in corruptions]

    def measure_of(split: str) -> AfterRun:
        prefix = VALIDATION if split == "validation" else MEASURED

        def measure(recipe: Recipe, result: Mapping[str, Any]) -> dict[str, float]:
            found = robustness_run(recipe.training.output_dir, split, corruptions, seed, with_probes=split == "test")
            return prefixed(found["summary"], prefix)

        return AfterRun(json.dumps({"robustness": split, "corruptions": texts, "seed": seed}), measure)

    def measure_probes(recipe: Recipe, result: Mapping[str, Any]) -> dict[str, float]:
        found = probed_run(recipe, "test", corruptions, seed)
        return prefixed(probe_summary(found["probe"]["accuracy"], found["probe"]["weak"]), MEASURED)

    probes = [AfterRun(json.dumps({"probe": "test"}), measure_probes)] if "test" in splits else []
    return [*(measure_of(split) for split in splits), *probes]


def probed_run(recipe: Recipe, split: str, corruptions: Sequence[Chosen] | None, seed: int) -> dict[str, Any]:
    """What `robustness_<split>.json` holds, with probes; only these are measured if it has none."""
    folder = recipe.training.output_dir
    path = robustness_path(folder, split)
    known = [read_json(path) if path.is_file() else None]
    if recipe.training.world_size > 1:
        broadcast_object_list(known)  # the main process decides for all
    [found] = known
    if found is None:
        return robustness_run(folder, split, corruptions, seed)
    if "probe" not in found:
        run = load_run(folder)
        trainer = run.trainer()
        trainer.remove_callback(CompactProgressCallback)
        add_probes(found, run, trainer, predict(trainer, run.dataset[split], with_features=True))
        if trainer.is_world_process_zero():
            write_json(found, path)
    return found
