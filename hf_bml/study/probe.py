"""Linear probe of every encoder of a finished run at every saved checkpoint (paper Fig. 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..analysis.linear_probe import ProbeSettings, probe_accuracy
from ..analysis.predictions import Predictions
from ..analysis.summary import markdown_table, percent
from ..training.trainer import MultimodalBalancedTrainer
from .alone import alone_recipe, parse_alone, train_alone
from .finished_run import FinishedRun, SavedModel, check_split, load_run, predict
from .json_file import write_json
from .tensorboard_log import log_to_tensorboard

PROBE_NAME = "probe.json"


def probe_run(
    run_dir: str | Path,
    split: str = "test",
    settings: ProbeSettings | None = None,
    alone: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Probes every saved model of a run, and writes `probe.json` and, if the run has one, into its TensorBoard log.

    Nothing is selected: the settings are fixed, and the final model is the one that training chose on validation.
    Under a launcher all processes train and predict, and each fits the probes; the main process writes.

    Args:
        run_dir: folder that `hf-bml train` wrote.
        split: where the probes are tested.
        settings: of the probe.
        alone: `MODALITY` or `MODALITY=RUN_DIR`, see `parse_alone`; None for no unimodal models.

    Returns:
        JSON-able: `split`; `settings`; `checkpoints`, each with `step`, `epoch`, `final`, and `accuracy` per modality;
        `alone`, per modality its `checkpoints`, with one `accuracy` each, and the `accuracy` of its final model.

    Raises:
        FileNotFoundError: not a run's folder, or one without final model.
        ValueError: unknown split or modality, a model that cannot be used, or a unimodal run of other modalities or
            classes.
    """
    check_split(split)
    settings = settings or ProbeSettings()
    run = load_run(run_dir)
    models = run.saved_models()
    modalities = list(run.trainer().modalities)
    chosen = parse_alone(alone, modalities) if alone is not None else {}
    to_train = {name: alone_recipe(run, name) for name, folder in chosen.items() if folder is None}
    # Probes first: another run's data would push this one's out of the memory.
    found: dict[str, Any] = {"split": split, "settings": asdict(settings)}
    found["checkpoints"] = [probe_model(run, model, split, settings) for model in models]
    found["alone"] = {}
    train_alone(list(to_train.values()))
    for name, folder in chosen.items():
        place = Path(to_train[name].training.output_dir) if folder is None else folder
        found["alone"][name] = probe_alone(place, name, run, split, settings)
    if run.recipe.training.process_index == 0:
        write_json(found, Path(run_dir) / PROBE_NAME)
        log_to_tensorboard(run, split, scalars(found))
    return found


def scalars(found: Mapping[str, Any]) -> dict[int | None, dict[str, float]]:
    """The accuracies by step, as trackers know them."""
    steps: dict[int | None, dict[str, float]] = {}
    for entry in found["checkpoints"]:
        named = {f"probe/accuracy_{name}": value for name, value in entry["accuracy"].items()}
        steps.setdefault(entry["step"], {}).update(named)
    for name, alone in found["alone"].items():
        for entry in alone["checkpoints"]:
            if entry["accuracy"] is not None:
                steps.setdefault(entry["step"], {})[f"probe/alone_accuracy_{name}"] = entry["accuracy"]
    return steps


def probe_model(run: FinishedRun, model: SavedModel, split: str, settings: ProbeSettings) -> dict[str, Any]:
    """One entry of `checkpoints`."""
    trainer = run.trainer(model.folder)
    train, test = (predict(trainer, run.dataset[name], with_features=True) for name in ("train", split))
    accuracies = encoder_accuracies(trainer, train, test, settings)
    return {"step": model.step, "epoch": model.epoch, "final": model.final, "accuracy": accuracies}


def encoder_accuracies(
    trainer: MultimodalBalancedTrainer, train: Predictions, test: Predictions, settings: ProbeSettings
) -> dict[str, float]:
    """The probe's accuracy by modality, of samples that have it; a modality that none has is left out.

    Args:
        trainer: with the model.
        train, test: what it predicts, with features.
        settings: of the probe.
    """
    accuracies = {}
    for name in train.features:
        known, asked = train.present[name], test.present[name]
        if known.any() and asked.any():
            seen = [trainer.face.own_feature(name, each.features[name]) for each in (train, test)]
            accuracies[name] = probe_accuracy(
                seen[0][known], train.labels[known], seen[1][asked], test.labels[asked], settings
            )
    return accuracies


def probe_alone(
    folder: Path, modality: str, joint: FinishedRun, split: str, settings: ProbeSettings
) -> dict[str, Any]:
    """An entry of `alone`.

    Raises:
        FileNotFoundError: not a run's folder.
        ValueError: its model has other modalities than this one, or other classes than the joint model.
    """
    run = load_run(folder)
    trainers = [joint.trainer(), run.trainer()]
    found = list(trainers[1].modalities)
    if found != [modality]:
        raise ValueError(f"--alone: expected a run with the modality {modality!r} alone in {folder}, found {found}.")
    classes = [trainer.num_labels for trainer in trainers]
    if classes[0] != classes[1]:
        raise ValueError(f"--alone: expected a run with {classes[0]} classes in {folder}, found {classes[1]}.")
    entries = [probe_model(run, model, split, settings) for model in run.saved_models()]
    for entry in entries:
        entry["accuracy"] = entry["accuracy"].get(modality)
    [final] = [entry["accuracy"] for entry in entries if entry["final"]]
    return {"checkpoints": entries, "accuracy": final}


def probe_text(found: Mapping[str, Any]) -> str:
    """The printed table: a row per step, and the final models last."""
    columns = dict.fromkeys(found["checkpoints"][-1]["accuracy"], found["checkpoints"])
    columns |= {f"{name} alone": entry["checkpoints"] for name, entry in found["alone"].items()}

    def cell(column: str, entry: Mapping[str, Any] | None) -> str:
        accuracy = entry["accuracy"] if entry is not None else None
        return percent(accuracy.get(column) if isinstance(accuracy, dict) else accuracy)

    every = [entry for entries in columns.values() for entry in entries]
    rows = []
    for step, epoch in sorted({(entry["step"], entry["epoch"]) for entry in every}):
        at = {name: next((e for e in entries if e["step"] == step), None) for name, entries in columns.items()}
        rows.append([str(step), f"{epoch:g}", *[cell(name, entry) for name, entry in at.items()]])
    final = {name: next(e for e in entries if e["final"]) for name, entries in columns.items()}
    rows.append(["final", "", *[cell(name, entry) for name, entry in final.items()]])
    table = markdown_table(["step", "epoch", *columns], rows)
    return f"{found['split']} split, accuracy of the linear probe times 100 ({found['settings']['method']})\n\n{table}"
