"""Finished runs without training: folders with the files that a run leaves; and a few rows to train on."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict

import numpy as np
import yaml
from datasets import Dataset, DatasetDict

from hf_bml.analysis.robustness import Condition, robustness_summary

METRICS = {"loss": 0.5, "mean_average_precision": 0.7, "mean_average_precision_classes": 3.0, "f1_weighted": 0.6}
SCALES = {"audio": 2.0, "visual": 0.3}
RATES = [0.1, 0.2, 0.3]
CONV = {"type": "conv", "in_channels": 1, "channels": [2]}
SGD = {"method": "sgd", "epochs": 50}


def write_run(
    folder, accuracy=0.75, seed=0, modalities=("audio", "visual"), ratio=1.5, history=True, encoder=CONV, **options
):
    """Writes `config.yaml`, `config.json`, `metrics.json` and `trainer_state.json`; `options` are the recipe's."""
    folder.mkdir(parents=True)
    metrics = {**METRICS, "accuracy": accuracy, **{f"accuracy_{m}": accuracy - 0.1 for m in modalities}}
    ratios = {
        m: ratio ** (1 if index == 0 else -1) if len(modalities) > 1 else 1.0 for index, m in enumerate(modalities)
    }
    options = {"dataset": "digits", "learning_rate": 0.1, **options, "seed": seed, "output_dir": str(folder)}
    (folder / "config.yaml").write_text(yaml.safe_dump(options))
    encoders = dict.fromkeys(modalities, encoder)
    write_json(folder / "config.json", {"modality_order": list(modalities), "modalities": encoders})
    write_json(
        folder / "metrics.json",
        {
            "validation": metrics,
            "test": metrics,
            "final_ratios": ratios,
            "modulations": {},
            "train_seconds": 10.0 + seed,
            "resumed_from": None,
            "seed": seed,
            "fingerprint": "f",
            "environment": {"python": "3", "device": "CPU, 1 threads", "torch": "2", "date": "2026-11-25"},
        },
    )
    entries = []
    for epoch in (1.0, 2.0) if history else ():
        entry = {"epoch": epoch, "loss": 1 / epoch, "step": int(epoch)}
        for m in modalities:
            entry |= {f"balance/ratio_{m}": ratios[m], f"unimodal/accuracy_{m}": 0.5}
            if "opm" in (options.get("modulations") or {}):
                entry[f"opm/drop_probability_{m}"] = 0.4
        entries += [entry, {"epoch": epoch, "eval_loss": 1.0, **{f"eval_{k}": v for k, v in metrics.items()}}]
    write_json(folder / "trainer_state.json", {"log_history": entries})
    return folder


def write_analyses(folder, classes, modalities=("audio", "visual"), split="test", probe=SGD, **missing):
    """Adds `probe.json`, `missing.json`, `robustness_test.json` and `analysis_<split>.json`, as the commands of these
    names write them.

    `missing` are entries of `missing.json`.
    """
    checkpoints = [
        {"step": step, "epoch": float(step), "final": step == 2, "accuracy": dict.fromkeys(modalities, accuracy)}
        for step, accuracy in ((1, 0.3), (2, 0.6), (3, 0.5))
    ]
    alone = {m: {"checkpoints": [{"step": 1, "epoch": 1.0, "accuracy": 0.7}], "accuracy": 0.7} for m in modalities}
    write_json(folder / "probe.json", {"split": split, "settings": probe, "checkpoints": checkpoints, "alone": alone})
    fixed, varied = modalities[:2]
    grid = {"fixed": fixed, "fixed_rate": 0.1, "varied": varied, "rates": RATES}
    grids = [{**grid, "accuracy": [0.7, 0.65, 0.6], "std": [0.01] * 3}]
    found = {"split": split, "absence": "zero_input", "seeds": [0, 1], "grids": grids, "complete": 0.75}
    write_json(folder / "missing.json", {**found, **missing})
    predictions = ["joint", *modalities]
    write_robustness(folder, modalities)
    count = len(classes)
    bins = [{"lower": 0.5, "upper": 1.0, "confidence": 0.8, "accuracy": 0.7, "count": 9}]
    subsets = [c for size in range(len(modalities) + 1) for c in itertools.combinations(modalities, size)]
    write_json(
        folder / f"analysis_{split}.json",
        {
            "split": split,
            "samples": 4 * count,
            "predictions": 4 * count,
            "classes": list(classes),
            "per_class": {p: [0.5] * (count - 1) + [None] for p in predictions},
            "counts": [4] * (count - 1) + [0],
            "confusion": [[3 * (t == p) + ((t + 1) % count == p) for p in range(count)] for t in range(count)],
            "calibration": {p: {"ece": 0.05, "bins": bins} for p in predictions},
            "shapley": {
                "values": dict.fromkeys(modalities, 0.3),
                "coalitions": {"+".join(c): 0.1 + 0.3 * len(c) for c in subsets},
            },
            "tsne": {m: [[float(i), float(-i), i % count] for i in range(3 * count)] for m in modalities},
        },
    )


def write_robustness(folder, modalities=("audio", "visual"), missing=0.5, noisy=0.62, seed=0, kind="blur"):
    """Adds `robustness_test.json`: every modality has one kind of noise, of one severity."""
    conditions = [Condition("clean", 0.75, 0.1, 40)]
    conditions += [Condition("noisy", noisy, 0.2, 40, (m,), kind, {}, f"{kind} 0.02") for m in modalities]
    conditions += [Condition("missing", missing, 0.1, 40, (m,)) for m in modalities if len(modalities) > 1]
    without = {m: 0.3 + 0.1 * index for index, m in enumerate(modalities)}
    dominant = {"modality": modalities[0], "clean": 0.8, "without": without}
    found = {"split": "test", "seed": seed, "modalities": list(modalities), "dominant": dominant}
    found |= {"conditions": [asdict(one) for one in conditions], "left_out": [], "training_saw": "Training saw all."}
    found["summary"] = robustness_summary(conditions, modalities[0])
    write_json(folder / "robustness_test.json", found)


def write_json(path, value):
    path.write_text(json.dumps(value))


def load():
    """A data set of 24 rows a split, three classes: audio tells them apart, visual hardly."""
    generator = np.random.default_rng(0)
    labels = np.arange(24) % 3
    corners = np.array([[0.0, 2.0], [2.0, 0.0], [-2.0, -2.0]])

    def split():
        columns = {name: corners[labels] * scale + generator.normal(size=(24, 2)) for name, scale in SCALES.items()}
        return Dataset.from_dict({**{name: values.tolist() for name, values in columns.items()}, "labels": labels})

    return DatasetDict(train=split(), validation=split(), test=split())
