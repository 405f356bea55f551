from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hf_bml.analysis.missing_modality import presence
from hf_bml.cli import main
from hf_bml.study.finished_run import evaluate, load_run
from hf_bml.study.missing import missing_run

NAMES = ["audio", "visual"]


def test_file_and_table(finished, capsys):
    assert main(["missing", "run", "--rates", "0.1", "0.5"]) == 0
    found = json.loads((finished / "missing.json").read_text())
    assert (found["split"], found["seeds"], found["absence"]) == ("test", [0, 1, 2, 3, 4], "modality_mask")
    assert "zeros" not in found
    assert [(grid["fixed"], grid["fixed_rate"], grid["varied"]) for grid in found["grids"]] == [
        ("audio", 0.1, "visual"), ("audio", 0.2, "visual"), ("visual", 0.1, "audio"), ("visual", 0.2, "audio")
    ]  # fmt: skip
    assert all(grid["rates"] == [0.1, 0.5] for grid in found["grids"])
    printed = capsys.readouterr().out
    first = found["grids"][0]
    assert f"| {100 * first['accuracy'][1]:.1f} ± {100 * first['std'][1]:.1f} " in printed
    assert f"nothing missing: {100 * found['complete']:.1f}" in printed


def test_zero_input_says_where_zeros_are_not_silence(finished, capsys):
    assert main(["missing", "run", "--rates", "0.1", "--absence", "zero_input"]) == 0
    line = "zeros are not silence for audio: features that are all 0, which no clip may have"
    assert line in capsys.readouterr().out
    found = json.loads((finished / "missing.json").read_text())
    assert (
        found["absence"] == "zero_input" and list(found["zeros"]) == NAMES and line.endswith(found["zeros"]["audio"])
    )


@pytest.mark.parametrize("absence", ["zero_input", "modality_mask"])
def test_nothing_missing_is_plain_evaluation(finished, absence):
    found = missing_run("run", fixed_rates=[0.0], rates=[0.0], seeds=[0], absence=absence)
    plain = evaluate(finished, "test")["accuracy"]
    assert found["complete"] == pytest.approx(plain)
    assert [grid["accuracy"] for grid in found["grids"]] == [[pytest.approx(plain)]] * 2


@pytest.mark.parametrize("absence", ["zero_input", "modality_mask"])
def test_lookup_equals_masking_the_inputs_of_every_sample(finished, absence):
    found = missing_run("run", "train", ["audio"], ["visual"], [0.6], [0.7], [3, 4], absence)
    run = load_run(finished)
    model, rows = run.trainer().model, run.dataset["train"][:]
    accuracies = []
    for seed in (3, 4):
        masks = presence(60, {"audio": 0.6, "visual": 0.7}, seed)
        inputs = {name: torch.stack(rows[name]) for name in NAMES}
        mask = torch.as_tensor(np.stack([masks[name] for name in NAMES], axis=1))
        if absence == "zero_input":
            inputs = {name: value * mask[:, [column]] for column, (name, value) in enumerate(inputs.items())}
            mask = None
        with torch.no_grad():
            logits = model.eval()(**inputs, modality_mask=mask).logits
        accuracies.append((logits.argmax(1) == torch.tensor(rows["labels"])).double().mean().item())
    [grid] = found["grids"]
    assert grid["accuracy"] == [pytest.approx(np.mean(accuracies))]
    assert grid["std"] == [pytest.approx(np.std(accuracies, ddof=1))]
    assert accuracies[0] < found["complete"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "config.yaml"),
        (["run", "--split", "tets"], "Did you mean 'test'"),
        (["run", "--fixed", "adio"], "Did you mean 'audio'"),
        (["run", "--varied", "sound"], "unknown modality 'sound'"),
        (["run", "--fixed", "audio", "--varied", "audio"], "expected two different modalities"),
        (["run", "--rates", "1.5"], "--rates: expected probabilities in [0, 1], found [1.5]"),
        (["run", "--seeds", "1", "1"], "--seeds must differ"),
        (["run", "--absence", "nan"], "--absence must be one of modality_mask, zero_input, found 'nan'"),
        (["run", "--rate", "many"], "invalid float value: 'many'"),
    ],
)
def test_bad_input_is_one_line(finished, capsys, arguments, message):
    assert main(["missing", *arguments]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("hf-bml missing: ") and message in line


def test_a_single_modality_has_no_grid(finished, capsys):
    from hf_bml.study.alone import alone_recipe, train_alone

    recipe = alone_recipe(load_run(finished), "audio")
    train_alone([recipe])
    capsys.readouterr()
    assert main(["missing", "run/alone/audio"]) == 2
    assert "expected two different modalities" in capsys.readouterr().err
