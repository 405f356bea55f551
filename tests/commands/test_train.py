from __future__ import annotations

import errno
import json
import math
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from PIL import Image
from recipe_parts import DIGITS

from hf_bml import OPM, MultimodalForClassification
from hf_bml.cli import main
from hf_bml.study import experiment
from hf_bml.study.parser import train_parser
from hf_bml.study.run_groups import read_groups

RECIPE = (
    DIGITS
    + """modulations:
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
)


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def test_train_leaves_a_complete_run_and_evaluate_agrees(recipe, tmp_path, capsys, draw_curves, monkeypatch):
    monkeypatch.setattr(experiment, "draw_curves", draw_curves)
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
    assert config["dataset"] == "digits" and config["seed"] == 42  # also what was left at its default
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


def test_the_record_holds_what_modulations_sum_up(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(OPM, "summary", lambda self: {"kind": self.name})
    assert main(["train", str(recipe), "--output_dir", str(tmp_path), "--max_steps", "2"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["modulations"] == {"opm": {"kind": "opm"}}  # ogm has nothing to say


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


def test_auto_is_both_first_start_and_restart(own, tmp_path, capsys):
    """A job whose command stays the same: it begins, is resumed, and is left as it is when it has finished."""
    run = tmp_path / "run"
    command = ["train", "own.yaml", "--output_dir", str(run), "--save_strategy", "steps", "--save_steps", "1"]
    command += ["--resume_from_checkpoint", "auto"]
    assert main(command) == 0
    first = json.loads((run / "metrics.json").read_text())
    assert first["resumed_from"] is None
    (run / "metrics.json").unlink()
    shutil.rmtree(run / "checkpoint-2")
    assert main(command) == 0
    again = json.loads((run / "metrics.json").read_text())
    assert again["resumed_from"] == str(run / "checkpoint-1") and again["test"] == first["test"]
    assert main(command) == 0
    assert "not trained again" in capsys.readouterr().out
    assert main([*command, "--learning_rate", "1e-3"]) == 2
    assert "is of a training with other options" in capsys.readouterr().err


def test_a_job_that_is_requeued_loses_nothing(own, tmp_path):
    """Nor does another training in the same folder: the earlier run can still be evaluated where it lies."""
    run = tmp_path / "run"
    command = ["train", "own.yaml", "--output_dir", str(run)]
    assert main(command) == 0
    weights = [(run / "model.safetensors").read_bytes()]
    for number, options in enumerate(([], ["--save_strategy", "steps", "--learning_rate", "1e-3"]), start=1):
        assert main(["evaluate", str(run)]) == 0
        metrics = (run / "metrics.json").read_text()
        with pytest.warns(UserWarning, match="held 0 checkpoints and results of an earlier training"):
            assert main([*command, *options]) == 0
        aside = run / ("earlier_training" if number == 1 else "earlier_training_2")
        assert (aside / "metrics.json").read_text() == metrics
        assert not (run / "metrics_test.json").exists()  # of a model that is no longer there
        assert (aside / "model.safetensors").read_bytes() == weights[-1]
        weights.append((run / "model.safetensors").read_bytes())
    assert main(["evaluate", str(run / "earlier_training")]) == 0
    accuracy = json.loads((run / "earlier_training" / "metrics.json").read_text())["test"]["accuracy"]
    assert json.loads((run / "earlier_training" / "metrics_test.json").read_text())["accuracy"] == accuracy
    assert [group.label for group in read_groups([tmp_path])[0]] == ["run"]


@pytest.mark.parametrize(
    ("function", "where"), [("check_writable", "before the data"), ("write_recipe", "after the training")]
)
def test_a_disk_that_refuses_is_one_line(own, tmp_path, capsys, monkeypatch, function, where):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    if function == "check_writable":
        monkeypatch.setattr("hf_bml.study.experiment.build_data", None)  # never reached
        monkeypatch.setattr("hf_bml.ground.disk.writing_refused", lambda folder: OSError(errno.EROFS, "", folder))
    else:
        monkeypatch.setattr("hf_bml.study.experiment.write_recipe", refuse)
    assert main(["train", "own.yaml", "--output_dir", str(tmp_path / "run")]) == 2
    expected = f"hf-bml train: cannot write to '{tmp_path / 'run'}': Read-only file system. Choose a folder that can"
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith(expected)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "digit"], "digits"),
        (["--modalities", '{"sound": {"type": "conv"}}'], "sound"),
        (["--modalities.audio.in_channels", "3"], "in_channels=3, but the processor gives num_channels=1"),
        (["--modulations.opm.q_base", "1.5"], "q_base must be a number in (0, 1), found 1.5"),
        (["--modulations.ogm.alpha", "-1"], "alpha must be a number in [0, inf), found -1"),
        (["--dataset_options.snr", "3"], "snr_db"),
        (["--fusion", "conact"], "Did you mean 'concat'"),
        (["--processors.audio.type", "log_spectogram"], "log_spectrogram"),
        (["--learnin_rate", "1"], "Did you mean 'learning_rate'"),
        (["--modulations.opm", "{"], "is not YAML"),
        (["--max_steps", "many"], "invalid int value: 'many'"),
        (["--seeds", "0", "0"], "--seeds must differ, found [0, 0]"),
        (["--seeds", "0", "next.yaml"], "If next.yaml is a recipe, give it before the first option"),
        (["--learning_rate", "0.1", "next.yaml"], "If next.yaml is a recipe, give it before the first option"),
        (["--compare", "acc"], "Did you mean 'accuracy'"),
        (["--metric_for_best_model", "acuracy"], "Did you mean 'accuracy'"),
        (["--resume_from_checkpoint", "last"], "expected a complete checkpoint-STEP"),
        (["--model_name_or_path", "/nowhere"], "is not a checkpoint"),
    ],
)
def test_bad_input_is_one_line(recipe, tmp_path, capsys, arguments, message):
    assert main(["train", str(recipe), "--output_dir", str(tmp_path / "run"), *arguments]) == 2
    captured = capsys.readouterr().err
    errors = [line for line in captured.splitlines() if line.startswith("hf-bml train: ")]
    assert len(errors) == 1 and errors[0] == captured.splitlines()[-1]
    assert message in errors[0]
    assert "Traceback" not in captured and "usage:" not in captured


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("modulations:", "modulatons:", "Did you mean 'modulations'"),
        ("channels: [4, 8]", "chanels: [4, 8]", "Did you mean 'channels'"),
        ("type: frames", "type: framse", "Did you mean 'frames'"),
        ("dataset: digits", "dataset: digit", "Did you mean 'digits'"),
        ("dataset: digits", "dataset: digits\ndataset_options: {snr: 1}", "snr_db"),
        ("dataset: digits", "dataset: digits\nfusion: conact", "Did you mean 'concat'"),
        ("max_steps: 6", "max_steps: many", "max_steps must be a whole number"),
    ],
)
def test_bad_recipe_stops_before_the_first_run(recipe, tmp_path, capsys, before, after, message):
    bad = tmp_path / "bad.yaml"
    bad.write_text(RECIPE.replace(before, after))
    assert main(["train", str(recipe), str(bad), "--output_dir", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert message in error and "bad.yaml" in error
    assert not (tmp_path / "runs").exists()


def test_own_dataset_with_absent_values_and_no_processor(own, tmp_path):
    assert main(["train", "own.yaml", "--output_dir", "run"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["environment"]["processes"] == 1
    text = own.read_text()
    (tmp_path / "next.yaml").write_text(text.split("modalities")[0] + text[text.index("max_steps") :])
    assert main(["train", "next.yaml", "--model_name_or_path", "run", "--output_dir", "next"]) == 0
    assert (tmp_path / "next" / "processor_config.json").is_file()


@pytest.mark.parametrize(
    ("option", "message"), [("label=7", "test"), ("value=.nan", "NaN"), ("label=loud", "Could not convert")]
)
def test_bad_rows_of_the_test_split_are_found_before_training(own, tmp_path, capsys, option, message):
    assert main(["train", "own.yaml", "--output_dir", "run", f"--dataset_options.{option}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("hf-bml train: ") and message in error
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_the_model_is_saved_before_it_is_tested(own, tmp_path, monkeypatch):
    from hf_bml import MultimodalBalancedTrainer

    def fail(self, *args, **kwargs):
        raise ValueError("no evaluation today")

    monkeypatch.setattr(MultimodalBalancedTrainer, "evaluate", fail)
    assert main(["train", "own.yaml", "--output_dir", "run", "--eval_strategy", "no"]) == 2
    for name in ("model.safetensors", "processor_config.json", "config.yaml"):
        assert (tmp_path / "run" / name).is_file()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "run"]) == 0


def test_finished_runs_are_in_the_summary_when_a_later_one_fails(own, tmp_path, monkeypatch, capsys):
    run = experiment.run

    def second_fails(recipe):
        if recipe.training.seed == 2:
            raise ValueError("out of luck")
        return run(recipe)

    monkeypatch.setattr(experiment, "run", second_fails)
    assert main(["train", "own.yaml", "--output_dir", "runs", "--seeds", "1", "2"]) == 2
    assert len(json.loads((tmp_path / "runs" / "summary.json").read_text())["own"]) == 1


def test_a_compared_metric_that_the_data_lack_stops_after_the_first_run(recipe, tmp_path, capsys):
    """Ten classes: no f1_binary, which only the data tell."""
    command = ["train", str(recipe), "--output_dir", str(tmp_path / "runs"), "--seeds", "0", "1"]
    assert main([*command, "--compare", "f1_binary"]) == 2
    captured = capsys.readouterr()
    assert captured.out.count(": training") == 1
    assert captured.err.strip().endswith("validation_accuracy.") and "f1_binary" in captured.err
    assert len(json.loads((tmp_path / "runs" / "summary.json").read_text())["tiny"]) == 1


def test_evaluate_leaves_the_training_folder_alone(own, tmp_path, monkeypatch, capsys):
    assert main(["train", "own.yaml", "--output_dir", "run"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "run" / "model.safetensors").unlink()
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("hf-bml evaluate: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "'nowhere' is not a checkpoint"),
        (["evaluate", "nowhere", "--split", "valid"], "Did you mean 'validation'"),
        (["trian"], "Did you mean 'train'"),
    ],
)
def test_other_command_errors(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_and_version(capsys):
    assert main([]) == 0 and main(["--version"]) == 0
    assert "train" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for text in ("--seeds", "--modulations.opm.q_base", "hf-bml options training", "transformers.TrainingArguments"):
        assert text in shown
    assert len(shown.splitlines()) < 30
    assert shown == train_parser().format_help()  # of the parser that reads the command line


@pytest.mark.slow
def test_two_processes(recipe, tmp_path):
    launch = "-m torch.distributed.run --standalone --nproc_per_node 2 -m hf_bml.commands.train"
    options = f"--output_dir {tmp_path / 'run'} --per_device_train_batch_size 8 --use_cpu true"
    command = [sys.executable, *launch.split(), str(recipe), *options.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["environment"]["processes"] == 2
    assert math.isfinite(metrics["test"]["loss"])
    assert done.stdout.count("test split") == done.stdout.count(": training") == 1  # the main process reports


@pytest.mark.parametrize(("rank", "messages"), [("0", 1), ("1", 0)])
def test_bad_input_of_several_processes_is_told_once(recipe, tmp_path, monkeypatch, capsys, rank, messages):
    monkeypatch.setenv("RANK", rank)
    assert main(["train", str(recipe), "--output_dir", str(tmp_path / "run"), "--fusion", "conact"]) == 2
    assert capsys.readouterr().err.count("hf-bml train: ") == messages
