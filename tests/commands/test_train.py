import json
import math
import os
import subprocess
import sys

import pytest
import yaml
from PIL import Image

from hf_bml import MultimodalForClassification
from hf_bml.cli import main

RECIPE = """
dataset: digits
modalities:
  audio: {type: conv, channels: [4, 8]}
  visual: {type: conv, channels: [4, 8]}
processors:
  audio: {type: log_spectrogram, sampling_rate: 8000, duration: 0.3, window_length: 128, overlap: 64}
  visual: {type: frames, size: 8, num_channels: 1}
modulations:
  opm: {q_base: 0.5}
  ogm: {alpha: 0.5, noise: entry_std}
optim: sgd
optim_args: momentum=0.9
learning_rate: 5e-2
max_steps: 6
per_device_train_batch_size: 16
per_device_eval_batch_size: 128
logging_steps: 3
eval_strategy: steps
eval_steps: 3
save_strategy: "no"
use_cpu: true
disable_tqdm: true
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def test_train_leaves_a_complete_run_and_evaluate_agrees(recipe, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(recipe), "--output_dir", str(run)]) == 0
    printed = capsys.readouterr().out
    for quantity in ("accuracy", "mean_average_precision", "f1_weighted", "accuracy_audio", "ratio visual"):
        assert quantity in printed
    metrics = json.loads((run / "metrics.json").read_text())
    assert all(math.isfinite(value) for value in metrics["test"].values())
    assert set(metrics["final_ratios"]) == {"audio", "visual"}
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["modulations"]["ogm"] == {"alpha": 0.5, "noise": "entry_std"}
    assert (run / "model.safetensors").is_file() and (run / "processor_config.json").is_file()
    assert Image.open(run / "curves.png").size[0] > 1000
    assert MultimodalForClassification.from_pretrained(run).config.id2label[3] == "3"

    assert main(["evaluate", str(run)]) == 0
    again = json.loads((run / "metrics_test.json").read_text())
    assert again == pytest.approx(metrics["test"], abs=1e-6)
    assert main(["evaluate", str(run), "--split", "validation"]) == 0
    assert json.loads((run / "metrics_validation.json").read_text())["accuracy"] == pytest.approx(
        metrics["validation"]["accuracy"]
    )


def test_a_run_can_be_repeated_from_its_config(recipe, tmp_path):
    assert main(["train", str(recipe), "--output_dir", str(tmp_path / "a"), "--seed", "7"]) == 0
    assert main(["train", str(tmp_path / "a" / "config.yaml"), "--output_dir", str(tmp_path / "b")]) == 0
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    assert first["test"] == second["test"]


def test_several_recipes_and_seeds_are_compared_and_reused(recipe, tmp_path, capsys):
    plain = tmp_path / "plain.yaml"
    plain.write_text(RECIPE.replace("modulations:", "modulations: {}").replace("  opm: {q_base: 0.5}\n", "").replace(
        "  ogm: {alpha: 0.5, noise: entry_std}\n", ""))  # fmt: skip
    command = ["train", str(plain), str(recipe), "--seeds", "0", "1", "--output_dir", str(tmp_path / "runs")]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert first.count(": training") == 4
    table = (tmp_path / "runs" / "summary.md").read_text()
    assert table in first
    assert "| plain  | 2" in table and "difference to plain" in table
    results = json.loads((tmp_path / "runs" / "summary.json").read_text())
    assert [len(results[name]) for name in ("plain", "tiny")] == [2, 2]
    assert results["plain"][0] != results["plain"][1]  # seeds differ
    assert main(command) == 0
    assert capsys.readouterr().out.count("not trained again") == 4
    assert main([*command, "--learning_rate", "1e-3"]) == 0
    assert capsys.readouterr().out.count(": training") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "digit"], "digits"),
        (["--modalities", '{"sound": {"type": "conv"}}'], "sound"),
        (["--modalities.audio.in_channels", "3"], "expected (batch, 3, height, width)"),
        (["--modulations.opm.q_base", "1.5"], "q_base must be a number in (0, 1), found 1.5"),
        (["--modulations.ogm.alpha", "-1"], "alpha must be a number in [0, inf), found -1"),
        (["--dataset_options.snr", "3"], "snr_db"),
        (["--fusion", "conact"], "Did you mean 'concat'"),
        (["--processors.audio.type", "log_spectogram"], "log_spectrogram"),
        (["--learnin_rate", "1"], "Did you mean 'learning_rate'"),
    ],
)
def test_bad_input_is_one_line(recipe, tmp_path, capsys, arguments, message):
    assert main(["train", str(recipe), "--output_dir", str(tmp_path / "run"), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hf-bml train: ")
    assert message in error


def test_bad_recipe_stops_before_the_first_run(recipe, tmp_path, capsys):
    bad = tmp_path / "bad.yaml"
    bad.write_text(RECIPE + "modulatons: {}\n")
    assert main(["train", str(recipe), str(bad), "--output_dir", str(tmp_path / "runs")]) == 2
    assert "Did you mean 'modulations'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["evaluate", "nowhere"], "config.yaml"), (["trian"], "Did you mean 'train'")],
)
def test_other_command_errors(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_and_version(capsys):
    assert main([]) == 0 and main(["--version"]) == 0
    assert "train" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--learning_rate", "--dataset_options", "--modulations.opm.q_base", "--modulations.ogm.alpha"):
        assert option in shown


@pytest.mark.slow
def test_accelerate_launch(recipe, tmp_path):
    launch = "-m accelerate.commands.launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no"
    options = f"--output_dir {tmp_path / 'run'} --per_device_train_batch_size 8"
    command = [sys.executable, *f"{launch} --dynamo_backend no -m hf_bml.commands.train {recipe} {options}".split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert math.isfinite(metrics["test"]["loss"])
    assert done.stdout.count("test split") == 1  # the main process reports
