from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_bml import MultimodalForClassification
from hf_bml.analysis.linear_probe import ProbeSettings
from hf_bml.cli import main
from hf_bml.study.alone import alone_recipe
from hf_bml.study.finished_run import load_run, predict
from hf_bml.study.probe import probe_run


def test_every_checkpoint_is_probed(finished, capsys):
    assert main(["probe", "run", "--epochs", "5"]) == 0
    found = json.loads((finished / "probe.json").read_text())
    assert found["split"] == "test" and found["alone"] == {}
    assert found["settings"]["epochs"] == 5 and found["settings"]["standardise"] is True
    assert [entry["step"] for entry in found["checkpoints"]] == [4, 8, 12]
    assert [entry["epoch"] for entry in found["checkpoints"]] == [1, 2, 3]
    state = json.loads((finished / "trainer_state.json").read_text())
    assert [entry["step"] for entry in found["checkpoints"] if entry["final"]] == [state["best_global_step"]]
    assert all(set(entry["accuracy"]) == {"audio", "visual"} for entry in found["checkpoints"])
    printed = capsys.readouterr().out
    last = found["checkpoints"][-1]["accuracy"]
    assert f"{100 * last['audio']:.1f}" in printed and "| final" in printed


def test_accuracy_of_an_independent_probe(finished):
    found = probe_run("run", "validation", ProbeSettings(method="logistic", l2=2.0))
    entry = found["checkpoints"][1]
    model = MultimodalForClassification.from_pretrained(finished / "checkpoint-8").eval()
    rows = {split: load_run(finished).dataset[split][:] for split in ("train", "validation")}
    for name, accuracy in entry["accuracy"].items():
        with torch.no_grad():
            features = {split: model.encoders[name](torch.stack(part[name])) for split, part in rows.items()}
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000))
        probe.fit(features["train"], rows["train"]["labels"])
        assert accuracy == pytest.approx(probe.score(features["validation"], rows["validation"]["labels"]))


def test_alone_is_trained_once_by_the_same_recipe(finished, trained, capsys):
    shutil.rmtree(finished / "alone", ignore_errors=True)
    assert main(["probe", "run", "--alone"]) == 0
    assert [list(recipe.model.modalities) for recipe in trained] == [["audio"], ["visual"]]
    joint, alone = (yaml.safe_load((finished / name / "config.yaml").read_text()) for name in (".", "alone/visual"))
    assert {name for name in joint if joint[name] != alone.get(name)} == {"modalities", "modulations", "output_dir"}
    assert set(alone) <= set(joint)
    found = json.loads((finished / "probe.json").read_text())
    for name in ("audio", "visual"):
        entries = found["alone"][name]["checkpoints"]
        assert [entry["step"] for entry in entries] == [4, 8, 12]
        [final] = [entry["accuracy"] for entry in entries if entry["final"]]
        assert found["alone"][name]["accuracy"] == final
    assert found["alone"]["audio"]["accuracy"] > 0.6
    assert "visual alone" in capsys.readouterr().out

    assert main(["probe", "run", "--alone", "visual"]) == 0
    assert len(trained) == 2 and "not trained again" in capsys.readouterr().out
    assert main(["probe", "run", "--alone", "audio=run/alone/audio"]) == 0
    again = json.loads((finished / "probe.json").read_text())
    assert again["alone"] == {"audio": found["alone"]["audio"]} and len(trained) == 2
    assert main(["probe", "run", "--alone", "visual=run/alone/audio"]) == 2
    assert "expected a run with the modality 'visual' alone" in capsys.readouterr().err


def test_alone_is_not_pushed_over_the_joint_model(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy", ignore=shutil.ignore_patterns("alone"))
    config = tmp_path / "copy" / "config.yaml"
    options = {"push_to_hub": True, "hub_model_id": "me/joint", "run_name": "joint"}
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **options}))
    recipe = alone_recipe(load_run(tmp_path / "copy"), "audio")
    assert not recipe.training.push_to_hub and recipe.training.hub_model_id is None
    assert not {"push_to_hub", "hub_model_id"} & set(recipe.explicit)  # nor by who trains its config.yaml again
    assert recipe.training.run_name == "joint, audio alone"


def test_an_interrupted_alone_run_goes_on(finished, tmp_path, monkeypatch):
    from hf_bml import MultimodalBalancedTrainer

    shutil.copytree(finished, tmp_path / "copy", ignore=shutil.ignore_patterns("alone"))
    step = MultimodalBalancedTrainer.training_step

    def sixth_fails(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(MultimodalBalancedTrainer, "training_step", sixth_fails)
    with pytest.raises(KeyboardInterrupt):
        probe_run(tmp_path / "copy", alone=["audio"])
    monkeypatch.setattr(MultimodalBalancedTrainer, "training_step", step)
    probe_run(tmp_path / "copy", alone=["audio"])
    metrics = json.loads((tmp_path / "copy" / "alone" / "audio" / "metrics.json").read_text())
    assert metrics["resumed_from"].endswith("checkpoint-4")


def test_damaged_checkpoints_are_left_out(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    weights = copy / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    best = json.loads((copy / "trainer_state.json").read_text())["best_global_step"]
    shutil.rmtree(copy / f"checkpoint-{best}")
    models = load_run(copy).saved_models()
    assert [model.step for model in models] == sorted({8, 12, best})
    assert [(model.folder, model.step) for model in models if model.final] == [(copy, best)]
    (copy / "model.safetensors").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match="safetensors"):
        load_run(copy).saved_models()


def test_a_modality_is_probed_where_it_is_present(own, monkeypatch):
    """Three of four rows have a, with classes 0, 0, 1, which features 01, 10 and 0.5 0.5 tell apart or not."""
    assert main(["train", "own.yaml", "--output_dir", "run"]) == 0
    run = load_run("run")
    assert predict(run.trainer(), run.dataset["train"], with_features=True).present["a"].tolist() == [
        True, False, True, True
    ]  # fmt: skip
    found = probe_run("run")
    [entry] = found["checkpoints"]  # nothing was saved in between
    assert entry["final"] and entry["accuracy"]["a"] in [pytest.approx(k / 3) for k in range(4)]
    assert entry["accuracy"]["b"] in (0, 0.25, 0.5, 0.75, 1)


def test_features_are_the_encoders_own_and_train_rows_are_not_augmented(finished):
    run = load_run(finished)
    trainer = run.trainer()
    seen = predict(trainer, run.dataset["test"], with_features=True)
    rows = run.dataset["test"][:]
    with torch.no_grad():
        expected = trainer.model.encoders["audio"](torch.stack(rows["audio"])).numpy()
    np.testing.assert_allclose(seen.features["audio"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "config.yaml"),
        (["run", "--split", "tets"], "Did you mean 'test'"),
        (["run", "--alone", "visul"], "Did you mean 'visual'"),
        (["run", "--alone", "audio", "audio=x"], "'audio' is given twice"),
        (["run", "--alone", "audio=nowhere"], "nowhere holds no config.yaml"),
        (["run", "--alone", "audio=run"], "expected a run with the modality 'audio' alone"),
        (["run", "--epochs", "0"], "epochs must be greater than 0, found 0"),
        (["run", "--method", "svm"], "sgd, logistic, found 'svm'"),
        (["run", "--epoch", "1"], "unrecognized arguments: --epoch 1"),
    ],
)
def test_bad_input_is_one_line(finished, capsys, arguments, message):
    assert main(["probe", *arguments]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("hf-bml probe: ") and message in line


def test_a_run_that_began_with_a_checkpoint_cannot_be_reduced(finished, tmp_path, capsys):
    assert main(["train", "vectors.yaml", "--model_name_or_path", "run", "--output_dir", str(tmp_path / "next")]) == 0
    capsys.readouterr()
    assert main(["probe", str(tmp_path / "next"), "--alone"]) == 2
    assert "pass --alone audio=RUN_DIR" in capsys.readouterr().err
