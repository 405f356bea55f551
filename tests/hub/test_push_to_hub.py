"""What is laid out for a push, what is left behind, and what a failure says."""

from __future__ import annotations

import json
import warnings

import pytest

from hf_bml.hub.push import PushError, describe_failure, make_repository, push, push_command, stage
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


def test_a_push_makes_repository_and_branch(own_hub, tmp_path):
    staged = write(tmp_path / "staged", MODEL)
    commit = push(staged, "model", "first", private=True)
    assert commit.repo_url.repo_id == "user/model"
    assert own_hub.files("model", "user/model") == {name: text.encode() for name, text in MODEL.items()}
    assert own_hub.private == {("model", "user/model")} and own_hub.messages == ["first"]
    write(staged, {"config.json": '{"a": 1}'})
    push(staged, "user/model", "second", revision="tried", delete=True)
    assert own_hub.files("model", "user/model", "tried")["config.json"] == b'{"a": 1}'
    assert own_hub.files("model", "user/model")["config.json"] == b"{}"
    assert not staged.exists()


@pytest.mark.parametrize(
    ("repo_id", "failure", "message"),
    [
        ("user/m", ("POST", "/commit/", 500, True), r"refuses to take user/m \(HTTP 500\)"),
        (
            "user/m",
            ("POST", "/repos/create", 401, True),
            r"\(HTTP 401\): log in with `hf auth login`, or set HF_TOKEN",
        ),
        ("user/m", ("POST", "/commit/", 403, True), r"\(HTTP 403\): the token must have the right to write there"),
        ("user/m", ("POST", "/commit/", None, True), r"the connection to the Hub failed while user/m was pushed"),
        ("other/m", None, r"other/m \(HTTP 403\): .*is the name of the repository your own\?"),
        ("not a name", None, r"not a name cannot be pushed: Repo id must"),
    ],
)
def test_failures_are_one_line_and_leave_the_folder(own_hub, tmp_path, repo_id, failure, message):
    own_hub.failures += [failure] if failure else []
    staged = write(tmp_path / "staged", MODEL)
    with pytest.raises(PushError, match=message) as error:
        push(staged, repo_id, "message")
    assert "\n" not in str(error.value) and own_hub.token not in str(error.value)
    assert names(staged) == set(MODEL)


def test_somebody_elses_repository_that_exists(own_hub, tmp_path):
    own_hub.add("model", "other/m", {"config.json": b"{}"})
    with pytest.raises(PushError, match=r"other/m \(HTTP 403\)"):
        push(write(tmp_path / "staged", MODEL), "other/m", "message")
    assert own_hub.files("model", "other/m") == {"config.json": b"{}"}


def test_without_network(tmp_path):
    with pytest.raises(PushError, match=r"m cannot be pushed: .*offline mode"):
        make_repository("m")


def test_other_errors_keep_their_first_line():
    assert describe_failure(RuntimeError("\nCAS error.\nmore"), "a/b") == "a/b cannot be pushed: CAS error."
    assert describe_failure(ValueError(), "a/b") == "a/b cannot be pushed: ValueError."


def test_the_command_can_be_pasted():
    command = push_command("runs/my run", "me/x", True, "v2")
    assert command == "hf-bml push 'runs/my run' --repo-id me/x --private --revision v2"
    assert push_command("run", "me/x", code=False) == "hf-bml push run --repo-id me/x --without-code"
