"""What is left of a finished run's model when a modality is missing or noisy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..analysis.calibration import calibration
from ..analysis.linear_probe import ProbeSettings
from ..analysis.metric_names import MEASURED
from ..analysis.predictions import Predictions
from ..analysis.robustness import (
    Condition,
    conditions_of,
    dominant_modality,
    probe_summary,
    robustness_summary,
    vote_sizes,
    weak_modality,
)
from ..analysis.trust import fit_trust, with_trust
from ..processing.corruptions import Corruption
from ..processing.seen_in_training import augmentation_of, augmentation_text
from ..training.trainer import MultimodalBalancedTrainer
from .corruption_choice import Chosen, fitting_corruptions
from .finished_run import FinishedRun, check_modality, check_split, load_run, predict
from .json_file import read_json, write_json
from .probe import encoder_accuracies
from .progress import CompactProgressCallback
from .split_rows import SplitRows, split_rows
from .tensorboard_log import log_to_tensorboard


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
    trust: bool = False,
) -> dict[str, Any]:
    """Evaluates a run's final model on clean data, with each modality noisy, and with each missing.

    Of three and more modalities each pair is missing, too. The split is decoded once; noise depends on seed, row,
    modality and kind of corruption alone, so all runs see the same. The encoders are probed as `hf-bml probe` does it,
    with its default settings. Writes `robustness_<split>.json` and, if the run has one, into its TensorBoard log.
    Under a launcher all processes predict; the main process writes.

    Args:
        run_dir: folder that `hf-bml train` wrote.
        split: train (not augmented), validation or test.
        corruptions: those of modalities that the model lacks are left out; default: all that fit, at their default
            severities.
        seed: of all noise, at least 0.
        dominant: the dominant modality; default: that whose absence costs most accuracy on the validation split.
        with_probes: whether the encoders are probed.
        trust: whether all is measured once more with votes that count less the farther a modality's features lie
            from those of training, see [`with_trust`](../analysis/trust.py).

    Returns:
        JSON-able: `split`, `seed`, `modalities`; `conditions`, see [`Condition`](../analysis/robustness.py);
        `dominant`, with the `modality`, and the accuracies `clean` and `without` each modality on validation, that it
        was read from; `probe`, see `add_probes`; `summary`, see `robustness_summary` and `probe_summary`;
        `training_saw`, a sentence; `left_out`, sentences; and `trust`, if asked for, with `conditions` and `summary`.

    Raises:
        FileNotFoundError: not a run's folder.
        ValueError: unknown split, modality or corruption, one that does not fit, a negative seed, a model whose
            outputs are no classification, or one without the split that trust needs.
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
    is_split = trainer.face.shares_when_absent() is not None
    train = predict(trainer, run.dataset["train"], with_features=True) if with_probes or trust else None
    trusting = trust_of(run, trainer, train) if trust else None
    conditions, trusted, clean = [], [], None
    for predictions, facts in evaluations(run, trainer, rows, pairs, train is not None):
        clean = clean or predictions  # the first one
        conditions.append(measured(predictions, is_split, **facts))
        if trusting is not None:
            trusted.append(measured(trusting(predictions), is_split, **facts))
    if len(modalities) == 1:
        left_out.append(f"{modalities[0]} is the only modality: without it nothing is left.")
    found: dict[str, Any] = {"split": split, "seed": seed, "modalities": modalities}
    found["conditions"] = [asdict(one) for one in conditions]
    found["dominant"] = dominance(run, trainer, conditions, split, dominant)
    found["summary"] = robustness_summary(conditions, found["dominant"]["modality"])
    if with_probes:
        add_probes(found, trainer, train, clean)
    if trusted:
        summary = {**found["summary"], **robustness_summary(trusted, found["dominant"]["modality"])}
        found["trust"] = {"conditions": [asdict(one) for one in trusted], "summary": summary}
    found["training_saw"] = "" if run.processor is None else augmentation_text(run.processor)
    found["left_out"] = left_out
    if trainer.is_world_process_zero():
        write_json(found, robustness_path(run_dir, split))
        scalars = {f"{MEASURED}{name}": value for name, value in found["summary"].items()}
        log_to_tensorboard(run, split, {None: scalars})
    return found


def evaluations(
    run: FinishedRun,
    trainer: MultimodalBalancedTrainer,
    rows: SplitRows,
    pairs: Sequence[tuple[str, Corruption]],
    with_features: bool,
) -> Iterator[tuple[Predictions, dict[str, Any]]]:
    """What the model predicts under each condition, and what its `Condition` says: first of clean rows, then with
    each corruption, then without each modality, marked as absent."""
    augmentation = {} if run.processor is None else augmentation_of(run.processor)
    yield predict(trainer, rows.clean, with_features=with_features), {"kind": "clean"}
    for modality, corruption in pairs:
        facts = {"corruption": corruption.name, "options": corruption.options, "label": corruption.label}
        noisy = rows.corrupted(modality, corruption)
        facts |= {"seen": corruption.name in augmentation.get(modality, {}), "modalities": (modality,)}
        yield predict(trainer, noisy, with_features=with_features), {"kind": "noisy", **facts}
    for count in range(1, min(3, len(trainer.modalities))):  # of two, a missing pair leaves nothing
        for absent in itertools.combinations(trainer.modalities, count):
            found = predict(trainer, rows.clean, with_features=with_features, absent=absent)
            yield found, {"kind": "missing", "modalities": absent}


def measured(found: Predictions, is_split: bool, **facts: Any) -> Condition:
    """A condition's results; votes where a modality's own logits are its share of the joint ones."""
    ece = calibration(found.logits, found.labels)["ece"]
    votes = vote_sizes(found) if is_split else {}
    return Condition(accuracy=float(found.correct.mean()), ece=ece, n=len(found.labels), votes=votes, **facts)


def add_probes(
    found: dict[str, Any], trainer: MultimodalBalancedTrainer, train: Predictions, clean: Predictions
) -> None:
    """Adds `probe` and its part of `summary` to what `robustness_run` returns.

    `probe` has the `accuracy` of a probe of each modality's encoder on the split, the probe's `settings`, and which
    modality is `weak`: the one whose absence costs least accuracy on validation, None if that is not known.

    Args:
        found: with `modalities`, `dominant` and `summary`.
        trainer: with the model.
        train, clean: what it predicts on the training split and on the measured one, with features.
    """
    settings = ProbeSettings()
    accuracy = encoder_accuracies(trainer, train, clean, settings)
    dominant = found["dominant"]
    weak = weak_modality(found["modalities"], dominant["modality"], dominant.get("without", {}))
    found["probe"] = {"accuracy": accuracy, "settings": asdict(settings), "weak": weak}
    found["summary"] |= probe_summary(accuracy, weak)


def trust_of(
    run: FinishedRun, trainer: MultimodalBalancedTrainer, train: Predictions
) -> Callable[[Predictions], Predictions]:
    """From predictions, with features, to those with trust, see `with_trust`.

    Raises:
        ValueError: the model's joint logits are not the sum of what each modality predicts.
    """
    shares = trainer.face.shares_when_absent()
    if shares is None:
        raise ValueError(
            f"--trust: expected joint logits that are the sum of what each modality predicts, found another model in "
            f"{run.folder}. Use fusion: bounded, concat without head_hidden_sizes, or sum, with late fusion."
        )
    clean = predict(trainer, run.dataset["validation"], with_features=True)
    known = {
        name: fit_trust(
            train.features[name][train.present[name]],
            train.labels[train.present[name]],
            clean.features[name][clean.present[name]],
        )
        for name in shares
    }
    absent = {name: share.float().cpu().numpy() for name, share in shares.items()}
    return lambda found: with_trust(found, known, absent)


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
    kept = robustness_path(run.folder, "validation")
    if split == "validation" or (kept.is_file() and trainer.args.world_size == 1):
        known = conditions if split == "validation" else conditions_of(read_json(kept, "conditions"))
        found = {one.modalities: one.accuracy for one in known if one.kind != "noisy"}
    else:
        absences = [(), *((name,) for name in trainer.modalities)]
        seen = (predict(trainer, run.dataset["validation"], absent=absent or None) for absent in absences)
        found = {absent: float(one.correct.mean()) for absent, one in zip(absences, seen, strict=True)}
    without = {name: found[name,] for name in trainer.modalities}
    return {"modality": dominant_modality(without), "clean": found[()], "without": without}


def prefixed(summary: Mapping[str, float], prefix: str) -> dict[str, float]:
    """The numbers as runs know them."""
    return {f"{prefix}{name}": value for name, value in summary.items()}
