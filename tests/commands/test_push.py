"""`hf-bml card` and `hf-bml push` on a run, and what others get who load it from the Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import pytest
import yaml
from card_code import quick_start
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import RepositoryNotFoundError
from recipe_parts import DIGITS

from hf_bml.cli import main

RECIPE = (
    DIGITS
    + """modulations:
  opm: {q_base: 0.5}
optim: sgd
learning_rate: 5e-2
max_steps: 4
per_device_train_batch_size: 16
per_device_eval_batch_size: 256
logging_steps: 2
eval_strategy: steps
eval_steps: 2
save_strategy: steps
save_steps: 2
use_cpu: true
disable_tqdm: true
"""
)
OF_THE_MODEL = {"README.md", "config.json", "curves.png", "model.safetensors", "processor_config.json"}
LOADING = """
import sys
from transformers import AutoModel, AutoProcessor
import hf_bml

name, revision = sys.argv[1:]
model = AutoModel.from_pretrained(name, revision=revision)
processor = AutoProcessor.from_pretrained(name, revision=revision)
print(type(model).__name__, type(processor).__name__, model.config.id2label[9])
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(RECIPE)
    assert main(["train", str(folder / "tiny.yaml"), "--output_dir", str(folder / "tiny")]) == 0
    return folder / "tiny"


def python(code, hub, home, *arguments, **changes):
    environment = {**hub.environment(home), **changes}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=280
    )


def test_a_pushed_run_is_loaded_and_its_quick_start_gives_a_label(run_dir, own_hub, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    command = ["push", str(run_dir), "--repo-id", "digits", "--private", "--license", "mit"]
    assert main(command) == 0
    assert f"pushed to {own_hub.endpoint}/user/digits, commit " in capsys.readouterr().out
    files = own_hub.files("model", "user/digits")
    assert without_code(files) == OF_THE_MODEL
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before
    assert str(run_dir).encode() not in b"".join(files.values())
    card = files["README.md"].decode()
    data = ModelCard(card).data
    test = json.loads((run_dir / "metrics.json").read_text())["test"]
    assert data.eval_results[0].metric_value == pytest.approx(test["accuracy"], abs=1e-4)
    assert data.license == "mit" and data.model_name == "digits"
    assert 'from_pretrained("user/digits")' in card

    done = python(quick_start(card), own_hub, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] in map(str, range(10))

    assert main([*command[:-2], "--revision", "tried", "--message", "Another try"]) == 0
    done = python(LOADING, own_hub, tmp_path, "user/digits", "tried")
    assert done.stdout.split() == ["MultimodalForClassification", "MultimodalProcessor", "9"], done.stderr[-3000:]
    assert own_hub.messages == ["Upload model", "Another try"]
    with pytest.raises(RepositoryNotFoundError):  # private
        HfApi(own_hub.endpoint, token="hf_other").model_info("user/digits")


def test_the_card_of_a_folder_runs_from_there(run_dir, fake_hub, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(run_dir.parent)
    assert main(["card", "tiny", "--output", str(tmp_path / "cards" / "tiny"), "--name", "digits-tiny"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "cards" / "tiny" / "README.md")
    card = (tmp_path / "cards" / "tiny" / "README.md").read_text()
    assert (tmp_path / "cards" / "tiny" / "curves.png").read_bytes() == (run_dir / "curves.png").read_bytes()
    assert "# digits-tiny" in card and 'from_pretrained("tiny")' in card and str(run_dir.parent) not in card
    done = python(quick_start(card), fake_hub, tmp_path)
    assert done.returncode == 0 and done.stdout.split()[-1] in map(str, range(10)), done.stderr[-3000:]
    assert not fake_hub.repositories


def test_checkpoints_only_when_asked_for(run_dir, own_hub):
    assert main(["push", str(run_dir), "--repo-id", "user/all", "--checkpoints"]) == 0
    files = set(own_hub.files("model", "user/all"))
    assert {"checkpoint-2/optimizer.pt", "checkpoint-4/trainer_state.json"} <= files
    assert not any(name.endswith("training_args.bin") for name in files)
    assert main(["push", str(run_dir / "checkpoint-2"), "--repo-id", "user/early"]) == 0
    assert without_code(own_hub.files("model", "user/early")) == OF_THE_MODEL
    card = own_hub.files("model", "user/early")["README.md"].decode()
    assert "these are the weights of step 2 of 4" in card and "trained on digits" in card


def without_code(files):
    """Names of the files, of which some must be code."""
    assert "hf_bml_code/modeling_multimodal.py" in files
    return {name for name in files if not name.startswith("hf_bml_code/")}


@pytest.mark.parametrize(("option", "has_code"), [("--with-code", True), ("--without-code", False)])
def test_with_and_without_code(run_dir, own_hub, option, has_code):
    assert main(["push", str(run_dir), "--repo-id", "user/code", option]) == 0
    files = own_hub.files("model", "user/code")
    assert ("hf_bml_code/modeling_multimodal.py" in files) is has_code
    assert ("auto_map" in json.loads(files["config.json"])) is has_code
    assert ("trust_remote_code=True" in files["README.md"].decode()) is has_code
    assert "auto_map" not in json.loads((run_dir / "config.json").read_text())


def test_a_card_of_ones_own(run_dir, own_hub, tmp_path):
    (tmp_path / "own.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert main(["push", str(run_dir), "--repo-id", "user/own", "--card", str(tmp_path / "own.md")]) == 0
    assert own_hub.files("model", "user/own")["README.md"].decode().endswith("# Mine\n")


@pytest.mark.parametrize(
    ("arguments", "failure", "message"),
    [
        (["--repo-id", "user/x"], ("POST", "/commit/", 500, True), "the Hub refuses to take user/x (HTTP 500)."),
        (["--repo-id", "user/x"], ("POST", "/commit/", None, True), "the connection to the Hub failed"),
        (["--repo-id", "other/x"], None, "(HTTP 403): the token must have the right to write there"),
        (["--repo-id", "user/x", "--card", "none.md"], None, "--card none.md does not exist"),
        ([], None, "--repo-id"),
    ],
)
def test_failures_are_one_line(run_dir, own_hub, capsys, arguments, failure, message):
    own_hub.failures += [failure] if failure else []
    assert main(["push", str(run_dir), *arguments]) == 2
    captured = capsys.readouterr().err.strip()
    assert captured.startswith("hf-bml push: ") and message in captured and "\n" not in captured


@pytest.mark.parametrize("command", [["card"], ["push", "--repo-id", "x"]])
def test_not_a_run(command, tmp_path, capsys):
    assert main([command[0], str(tmp_path), *command[1:]]) == 2
    assert "holds no config.json" in capsys.readouterr().err


def test_training_with_push_to_hub_ends_with_the_results_on_the_hub(run_dir, own_hub, tmp_path):
    recipe, folder = run_dir.parent / "tiny.yaml", tmp_path / "pushed"
    options = ["--push_to_hub", "true", "--hub_model_id", "user/run", "--hub_token", own_hub.token]
    assert main(["train", str(recipe), "--output_dir", str(folder), *options]) == 0
    assert own_hub.messages[-2:] == ["End of training", "Upload model"]
    data = ModelCard(own_hub.files("model", "user/run")["README.md"].decode()).data
    assert {result.dataset_split for result in data.eval_results} == {"validation", "test"}
    assert without_code(own_hub.files("model", "user/run")) == OF_THE_MODEL
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["hub_model_id"] == "user/run" and "hub_token" not in config
    requests = len(own_hub.requests)
    assert main(["evaluate", str(folder)]) == 0
    assert len(own_hub.requests) == requests  # evaluating pushes nothing


def test_results_that_cannot_be_pushed_are_kept(run_dir, own_hub, tmp_path):
    own_hub.failures.append(("POST", "/repos/create", 401, True))
    recipe, folder = run_dir.parent / "tiny.yaml", tmp_path / "kept"
    options = ["--push_to_hub", "true", "--hub_model_id", "user/run"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["train", str(recipe), "--output_dir", str(folder), *options]) == 0
    messages = {str(warning.message) for warning in caught if "Not pushed" in str(warning.message)}
    [message] = messages
    assert message.endswith(f"push it later with: hf-bml push {folder} --repo-id user/run")
    assert (folder / "metrics.json").is_file()


def test_results_whose_card_cannot_be_written_are_kept(run_dir, own_hub, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hf_bml.hub.run_folder.write_run_card", full)  # after the training
    monkeypatch.setattr("hf_bml.training.pushing.write_card", full)  # at its end
    recipe, folder = run_dir.parent / "tiny.yaml", tmp_path / "kept"
    options = ["--push_to_hub", "true", "--hub_model_id", "user/run", "--hub_token", own_hub.token]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["train", str(recipe), "--output_dir", str(folder), *options]) == 0
    messages = {str(warning.message) for warning in caught if "Not pushed" in str(warning.message)}
    assert messages == {
        f"Not pushed to the Hub: cannot write to '{folder}': No space left on device. Make room. The run is kept; "
        "push it later with: "
        f"hf-bml push {folder} --repo-id user/run"
    }
    assert (folder / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hub_model_id", "not a name"], "Repo id must"),
        (["--seeds", "0", "1", "--push_to_hub", "true"], "push_to_hub: the 2 runs would overwrite each other"),
    ],
)
def test_what_can_never_be_pushed_is_refused_before_training(run_dir, tmp_path, capsys, options, message):
    recipe = str(run_dir.parent / "tiny.yaml")
    assert main(["train", recipe, "--output_dir", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "run" / "model.safetensors")
