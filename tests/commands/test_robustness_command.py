from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from recipe_parts import DIGITS

from hf_bml.analysis.robustness import conditions_of
from hf_bml.cli import main
from hf_bml.study import robustness, robustness_after_run, split_rows
from hf_bml.study.corruption_choice import parse_corruption
from hf_bml.study.finished_run import evaluate, load_run, predict
from hf_bml.study.missing import missing_run
from hf_bml.study.probe import probe_run
from hf_bml.study.robustness import robustness_run

FEW_DIGITS = """
from datasets import DatasetDict
from hf_bml.data.catalogue.digits import load as load_all

def load():
    return DatasetDict({name: split.shuffle(seed=0).select(range(24)) for name, split in load_all().items()})
"""
SHORT = """
optim: sgd
learning_rate: 0.1
max_steps: 4
eval_strategy: "no"
save_strategy: "no"
use_cpu: true
disable_tqdm: true
report_to: none
"""
THREE = """
import numpy as np
from datasets import Dataset, DatasetDict

def load():
    splits = {}
    for seed, name in enumerate(("train", "validation", "test")):
        generator = np.random.default_rng(seed)
        labels = np.arange(30) % 3
        columns = {m: (np.eye(3)[labels] * scale + generator.normal(size=(30, 3))).tolist() for m, scale in SCALES}
        splits[name] = Dataset.from_dict({**columns, "labels": labels})
    return DatasetDict(splits)

SCALES = (("audio", 1.0), ("visual", 4.0), ("text", 0.5))
"""
THREE_RECIPE = """
dataset: three_vectors:load
modalities:
  audio: &encoder {type: sequence, input_size: 3, hidden_size: 4, num_heads: 1, num_layers: 0}
  visual: {<<: *encoder}
  text: {<<: *encoder}
"""


@pytest.fixture(autouse=True)
def nothing_kept():
    """Rows of another test's split are not used."""
    split_rows._kept.clear()


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A run of a few steps on raw audio and images, whose training saw white noise."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "few_digits.py").write_text(FEW_DIGITS)
    recipe = DIGITS.replace("dataset: digits", "dataset: few_digits:load").replace(
        "overlap: 64}", "overlap: 64, augment: {white_noise: {snr: [0, 20]}, p: 0.5}}"
    )
    (folder / "digits.yaml").write_text(recipe + SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "digits.yaml", "--output_dir", str(folder / "run")]) == 0
    return folder / "run"


def by_kind(found, kind):
    return {(one.modalities, one.label): one for one in conditions_of(found) if one.kind == kind}


def test_clean_is_evaluation_and_missing_is_missing_at_rate_1(finished):
    found = robustness_run(finished)
    missing = missing_run(finished, fixed_rates=[1.0], rates=[0.0], seeds=[0])
    assert found["summary"]["clean"] == pytest.approx(evaluate(finished, "test")["accuracy"])
    for grid in missing["grids"]:
        assert found["summary"][f"missing_{grid['fixed']}"] == pytest.approx(grid["accuracy"][0])
    assert len(by_kind(found, "noisy")) == 6 and len(by_kind(found, "missing")) == 2
    assert {one.n for one in conditions_of(found)} == {40}
    assert json.loads((finished / "robustness_test.json").read_text()) == json.loads(json.dumps(found))


def test_the_weak_encoder_is_probed_as_the_probe_command_does_it(finished):
    found = robustness_run(finished)
    [final] = [entry for entry in probe_run(finished)["checkpoints"] if entry["final"]]
    assert found["probe"]["accuracy"] == final["accuracy"] and found["probe"]["weak"] == "visual"
    assert found["summary"]["probe_weak"] == final["accuracy"]["visual"] == found["summary"]["probe_visual"]


def test_what_was_measured_without_probes_is_completed(finished, monkeypatch):
    found = robustness_run(finished)
    path = finished / "robustness_test.json"
    old = json.loads(path.read_text())
    del old["probe"]
    old["summary"] = {name: value for name, value in old["summary"].items() if not name.startswith("probe_")}
    old["conditions"][0]["accuracy"] = 0.123  # is kept
    path.write_text(json.dumps(old))
    recipe = load_run(finished).recipe
    _, _, measure = (one.measure for one in robustness_after_run.measure_robustness(["validation", "test"]))
    expected = {f"robust/{name}": value for name, value in found["summary"].items() if name.startswith("probe_")}
    assert measure(recipe, {}) == expected and len(expected) == 3
    assert json.loads(path.read_text())["conditions"] == old["conditions"]
    monkeypatch.setattr(robustness_after_run, "load_run", None)
    assert measure(recipe, {}) == expected
    path.unlink()
    monkeypatch.undo()
    assert measure(recipe, {}) == expected and json.loads(path.read_text())["conditions"][0]["accuracy"] > 0.2


def test_votes_and_trust(finished, capsys):
    found = robustness_run(finished)
    run = load_run(finished)
    clean = predict(run.trainer(), run.dataset["test"], with_features=True)
    for name, logits in clean.unimodal_logits.items():
        size = np.linalg.norm(logits - logits.mean(axis=1, keepdims=True), axis=1).mean()
        assert found["conditions"][0]["votes"][name] == pytest.approx(size)
    assert main(["robustness", "run", "--trust"]) == 0
    again = json.loads((finished / "robustness_test.json").read_text())
    trusted = again.pop("trust")
    assert again == json.loads(json.dumps(found))  # what is measured without trust stays the same
    with Image.open(finished / "votes.png") as picture:
        assert picture.width > 500
    for plain, other in zip(conditions_of(found), conditions_of(trusted), strict=True):
        lower = [other.votes[name] <= plain.votes[name] for name in plain.votes]
        assert all(lower) and len(lower) == 2 - (plain.kind == "missing")
        assert (plain.kind == "missing") == (plain.votes == other.votes) and plain.label == other.label
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| clean  ")][:1]
    assert line.split("|")[-2].strip() == f"{100 * trusted['summary']['clean']:.1f}"


def test_trust_needs_a_sum_of_votes(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "unimodal_prediction": "zero_out"}))
    assert main(["robustness", str(run), "--trust"]) == 2
    assert "--trust: expected joint logits that are the sum" in capsys.readouterr().err


def test_the_dominant_modality_is_read_from_validation(finished):
    found = robustness_run(finished)
    run = load_run(finished)
    trainer = run.trainer()
    for modality, accuracy in found["dominant"]["without"].items():
        seen = predict(trainer, run.dataset["validation"], absent=[modality])
        assert accuracy == pytest.approx(seen.correct.mean())
    assert found["dominant"]["modality"] == "audio"  # which was made to tell the classes better
    on_validation = robustness_run(finished, "validation")
    assert on_validation["dominant"] == found["dominant"]
    given = robustness_run(finished, dominant="visual")
    assert given["dominant"] == {"modality": "visual"}
    assert given["summary"]["dominant_noisy"] == found["summary"]["others_noisy"]


def test_raw_signals_once_more_and_by_hand(digits_run):
    """Twice the same, with what was kept and without; noise of a row as the processor's own corruption makes it."""
    found = robustness_run(digits_run)
    assert robustness_run(digits_run) == found
    split_rows._kept.clear()
    assert robustness_run(digits_run) == found
    noisy = by_kind(found, "noisy")
    assert {modality for (modality,), _ in noisy} == {"audio", "visual"} and len(noisy) == 7 + 9
    assert {label for (_, label), one in noisy.items() if one.seen} == {f"white_noise {snr} dB" for snr in (20, 10, 0)}
    assert found["training_saw"] == "Training saw 50 % of audio corrupted by white_noise (snr 0 to 20 dB)."
    assert robustness_run(digits_run, seed=1)["conditions"] != found["conditions"]


def test_two_runs_see_the_same_noise(digits_run, monkeypatch):
    seen = []

    def spy(trainer, dataset, **options):
        if isinstance(dataset, split_rows.Rows) and dataset.modality == "audio":
            seen.append(dataset[3]["audio"])
        return predict(trainer, dataset, **options)

    monkeypatch.setattr(robustness, "predict", spy)
    for _ in range(2):
        split_rows._kept.clear()
        robustness_run(digits_run, corruptions=[parse_corruption("audio.babble:snr=0")])
    assert len(seen) == 2 and (seen[0] == seen[1]).all()
    assert not (seen[0] == load_run(digits_run).dataset["test"][3]["audio"]).all()


def test_memory_is_bounded(digits_run, monkeypatch):
    found = robustness_run(digits_run)
    split_rows._kept.clear()
    monkeypatch.setattr(split_rows, "KEPT_BYTES", 0)
    assert robustness_run(digits_run) == found
    [rows] = split_rows._kept.values()
    assert all(not values._values for values in rows._values.values())


def test_three_modalities_in_pairs(tmp_path, monkeypatch, capsys):
    (tmp_path / "three_vectors.py").write_text(THREE)
    (tmp_path / "three.yaml").write_text(THREE_RECIPE + SHORT)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "three.yaml", "--output_dir", "runs/three", "--max_steps", "30"]) == 0
    (tmp_path / "visual.yaml").write_text("extends: three.yaml\nmodalities: {audio: null, text: null}\n")
    assert main(["train", "visual.yaml", "--output_dir", "runs/visual"]) == 0
    capsys.readouterr()
    assert main(["robustness", "runs/three", "runs/visual"]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "runs/three/robustness_test.json").read_text())
    missing = by_kind(found, "missing")
    assert [names for names, _ in missing] == [
        ("audio",), ("visual",), ("text",), ("audio", "visual"), ("audio", "text"), ("visual", "text")
    ]  # fmt: skip
    assert found["dominant"]["modality"] == "visual"
    assert found["summary"]["missing_average"] == pytest.approx(
        np.mean([one.accuracy for (names, _), one in missing.items() if len(names) == 1])
    )
    alone = json.loads((tmp_path / "runs/visual/robustness_test.json").read_text())
    assert not by_kind(alone, "missing") and "without it nothing is left" in alone["left_out"][0]
    assert "Dominant for all rows: visual" in printed and "visual: a single modality" in printed
    others = f"{100 * alone['summary']['clean']:.1f}"  # which noise of the other modalities does not reach
    [line] = [line for line in printed.splitlines() if line.startswith("| visual")]
    assert [cell.strip() for cell in line.split("|")][5:7] == [
        f"{100 * alone['summary']['noisy_visual']:.1f}", others
    ]  # fmt: skip
    with Image.open(tmp_path / "runs/robustness.png") as picture:
        assert picture.width > 500


def test_command(finished, capsys):
    chosen = ["audio.feature_noise:scale=3", "visual.feature_noise"]
    assert main(["robustness", "run", "--split", "validation", "--seed", "4", "--corruptions", *chosen]) == 0
    found = json.loads((finished / "robustness_validation.json").read_text())
    assert [label for _, label in by_kind(found, "noisy")] == [
        "feature_noise 3 sd", "feature_noise 0.5 sd", "feature_noise 1 sd", "feature_noise 2 sd"
    ]  # fmt: skip
    printed = capsys.readouterr().out
    noisy = next(iter(by_kind(found, "noisy").values()))
    assert f"| audio: feature_noise 3 sd    | {100 * noisy.accuracy:.1f}" in printed
    assert "validation split, 20 predictions, noise of seed 4" in printed
    assert "Training saw no corrupted signals." in printed and (finished / "robustness.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["run", "--split", "tets"], "Did you mean 'test'"),
        (["run", "--seed", "-1"], "--seed must be at least 0, found -1"),
        (["run", "--dominant", "adio"], "Did you mean 'audio'"),
        (
            ["run", "--corruptions", "white_noise"],
            "expected MODALITY.CORRUPTION[:OPTION=VALUE,...], found 'white_noise'",
        ),
        (["run", "--corruptions", "audio.featur_noise"], "Did you mean 'feature_noise'"),
        (["run", "--corruptions", "adio.feature_noise"], "Did you mean 'audio'"),
        (["run", "--corruptions", "audio.white_noise"], "does not fit; audio takes feature_noise."),
        (["run", "--corruptions", "audio.white_noise:snr=10"], "expected a corruption of vector"),
        (["run", "--corruptions", "audio.feature_noise:scal=1"], "Did you mean 'scale'"),
    ],
)
def test_bad_input_is_one_line(finished, capsys, arguments, message):
    assert main(["robustness", *arguments]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("hf-bml robustness: ") and message in line
