"""What is laid out for a push, and what is left behind."""

from __future__ import annotations

import json
import warnings

import pytest

from hf_bml.hub.push import PushError
from hf_bml.hub.staging import stage
from hf_bml.training.checkpoint import is_complete, seal_checkpoint, seal_state

MODEL = {"config.json": "{}", "model.safetensors": "weights", "processor_config.json": "{}", "README.md": "# card"}
OTHER = {"curves.png": "png", "modeling_own.py": "pass", "tokenizer.json": "{}"}
PRIVATE = {"training_args.bin": "token", "optimizer.pt": "x", "config.yaml": "path", "trainer_state.json": "{}"}
CHECKPOINT = {
    **{"model.safetensors": "weights", "optimizer.pt": "moments", "training_args.bin": "token"},
    **{"checkpoint_manifest.json": "{}", "global_step8/shard.pt": "shard"},
    "trainer_state.json": json.dumps(
        {"best_model_checkpoint": "/home/somebody/run/checkpoint-4", "best_global_step": 4}
    ),
}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_what_belongs_to_the_model_is_staged(tmp_path):
    run = write(tmp_path / "run", {**MODEL, **OTHER, **PRIVATE, "checkpoint-8/model.safetensors": "x"})
    staged = stage(run, tmp_path / "staged")
    assert names(staged) == {*MODEL, *OTHER}
    (run / "model.safetensors").unlink()
    assert (staged / "model.safetensors").read_text() == "weights"  # whatever the training deletes


def test_a_place_on_this_machine_in_a_config_is_named(tmp_path):
    config = {"modalities": {"text": {"type": "tokens", "tokenizer": "/home/somebody/tokenizer"}}}
    run = write(tmp_path / "run", {**MODEL, "processor_config.json": json.dumps(config)})
    with pytest.warns(UserWarning, match=r"processor_config\.json names a place on this machine"):
        stage(run, tmp_path / "staged")


def test_a_sealed_checkpoint_stays_complete(tmp_path):
    run = write(tmp_path / "run", MODEL)
    checkpoint = write(run / "checkpoint-8", {"model.safetensors": "weights"})
    seal_checkpoint(checkpoint)
    write(checkpoint, {"trainer_state.json": '{"global_step": 8, "best_model_checkpoint": "/home/somebody"}'})
    seal_state(checkpoint)
    staged = stage(run, tmp_path / "staged", [(checkpoint, "last-checkpoint")])
    assert is_complete(staged / "last-checkpoint") and is_complete(checkpoint)


def test_the_place_that_an_encoder_came_from_is_not_pushed(tmp_path):
    config = {"modalities": {"text": {"type": "transformers", "model": "/home/somebody/bert", "config": {"a": 1}}}}
    run = write(tmp_path / "run", {**MODEL, "config.json": json.dumps(config)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its config is stored and its weights are in the model: nothing is missing
        staged = stage(run, tmp_path / "staged")
    encoder = json.loads((staged / "config.json").read_text())["modalities"]["text"]
    assert encoder == {"type": "transformers", "model": "PATH", "config": {"a": 1}}
    assert json.loads((run / "config.json").read_text()) == config


def test_folders_of_tokenizers_and_code_are_staged(tmp_path):
    folders = {"tokenizer_text/tokenizer.json": "{}", "hf_bml_code/modeling.py": "pass"}
    run = write(tmp_path / "run", {**MODEL, **folders, "runs/events": "x"})
    assert names(stage(run, tmp_path / "staged")) == {*MODEL, *folders}


@pytest.mark.parametrize(("model_type", "code"), [("multimodal", True), ("bert", False)])
def test_code_is_that_of_our_own_models(tmp_path, model_type, code):
    run = write(tmp_path / "run", {**MODEL, "config.json": json.dumps({"model_type": model_type})})
    staged = stage(run, tmp_path / "staged", code=True)
    assert (staged / "hf_bml_code" / "modeling_multimodal.py").is_file() is code
    assert "auto_map" not in (run / "config.json").read_text()


def test_checkpoints_keep_what_a_training_needs_to_go_on(tmp_path):
    run = write(tmp_path / "run", MODEL)
    checkpoint = write(run / "checkpoint-8", CHECKPOINT)
    staged = stage(run, tmp_path / "staged", [(checkpoint, "last-checkpoint")])
    expected = {f"last-checkpoint/{name}" for name in CHECKPOINT if name != "training_args.bin"}
    assert names(staged) == {*MODEL, *expected}
    state = json.loads((staged / "last-checkpoint" / "trainer_state.json").read_text())
    assert state == {"best_model_checkpoint": None, "best_global_step": 4}
    assert "somebody" in (checkpoint / "trainer_state.json").read_text()  # the run's own stays


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    assert names(stage(write(tmp_path / "run", MODEL), tmp_path / "staged")) == set(MODEL)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(PushError, match=r"holds no model\.safetensors; expected the folder of a trained model"):
        stage(write(tmp_path / "run", {"config.json": "{}"}), tmp_path / "staged")
