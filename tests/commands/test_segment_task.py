"""Event localisation from the command line, on a generated miniature of AVE's released features."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from ave_release import write_features
from card_code import quick_start_of_run
from datasets import ClassLabel, Dataset, DatasetDict, List, Value
from media_samples import write_clip

from hf_bml.cli import main as cli
from hf_bml.commands.train import main
from hf_bml.data import load_multimodal_dataset
from hf_bml.study.analyse import analyse_run
from hf_bml.study.checks import check_recipe
from hf_bml.study.experiment import label_names
from hf_bml.study.finished_run import evaluate
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "ave"
SMALL = {"avga": ["--architecture_options.attention_size=16"], "psp": ["--architecture_options.attention_size=16"]}
SHORT = [
    "--use_cpu=true",
    "--learning_rate=0.1",
    "--max_steps=16",
    "--per_device_train_batch_size=8",
    "--eval_strategy=steps",
    "--eval_steps=8",
    "--save_strategy=steps",
    "--save_steps=8",
    "--logging_strategy=steps",
    "--logging_steps=1",
    "--lr_scheduler_type=constant",
    "--lr_scheduler_kwargs=null",
    "--disable_tqdm=true",
    "--report_to=none",
]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ave")
    write_features(folder, clips=48, audio=3.0, visual=3.0)
    return folder


@pytest.fixture(scope="module", params=["avga", "avsdn", "psp"])
def run(release, request):
    """A finished run of an architecture's recipe with OPM and OGM."""
    run = release / request.param
    arguments = [f"--dataset_options.data_dir={release}", f"--output_dir={run}", *SMALL.get(request.param, [])]
    assert main([str(RECIPES / f"{request.param}_opm_ogm.yaml"), *arguments, *SHORT]) == 0
    return run


def test_training_beats_chance(release, run, tmp_path, capsys):
    result = json.loads((run / "metrics.json").read_text())
    labels = np.array(load_multimodal_dataset("ave", data_dir=str(release))["test"]["labels"][:])
    chance = np.bincount(labels.ravel()).max() / labels.size  # always the most frequent class
    assert result["test"]["accuracy"] > chance + 0.15
    assert {"event_accuracy", "accuracy_audio", "accuracy_visual"} <= result["test"].keys()
    assert set(result["final_ratios"]) == {"audio", "visual"}
    config = json.loads((run / "config.json").read_text())
    assert config["model_type"] == "multimodal_segments" and config["id2label"]["28"] == "Background"
    assert yaml.safe_load((run / "config.yaml").read_text())["task"] == "segment_classification"
    assert evaluate(run, "test")["accuracy"] == pytest.approx(result["test"]["accuracy"])
    capsys.readouterr()
    quick_start_of_run(run, tmp_path / "card")
    printed = ast.literal_eval(capsys.readouterr().out)
    assert len(printed) == 10 and set(printed) <= set(config["id2label"].values())


@pytest.mark.parametrize("run", ["avga"], indirect=True)
@pytest.mark.parametrize(
    ("command", "file", "expected"),
    [
        (["analyse"], "analysis_test.json", "Shapley value"),
        (["missing", "--rates", "0.5", "--seeds", "0"], "missing.json", "nothing missing: "),
        (["probe", "--epochs", "3"], "probe.json", "accuracy of the linear probe"),
    ],
)
def test_analyses(run, command, file, expected, capsys):
    """They count segments, eighty of the eight test clips, as the run's own evaluation does."""
    assert cli([command[0], str(run), *command[1:]]) == 0, capsys.readouterr().err
    assert expected in capsys.readouterr().out
    found = json.loads((run / file).read_text())
    result = json.loads((run / "metrics.json").read_text())["test"]
    if command[0] == "analyse":
        assert sum(found["counts"]) == sum(map(sum, found["confusion"])) == found["predictions"] == 80
        assert found["samples"] == 8
        right = sum(row[index] for index, row in enumerate(found["confusion"]))
        assert right / 80 == pytest.approx(result["accuracy"])
        assert set(found["shapley"]["values"]) == {"audio", "visual"}
    if command[0] == "missing":
        assert found["complete"] == pytest.approx(result["accuracy"])
    if command[0] == "probe":
        assert [entry["step"] for entry in found["checkpoints"]][-1] == 16
        assert found["checkpoints"][-1]["accuracy"].keys() == {"audio", "visual"}


@pytest.mark.parametrize("run", ["avga"], indirect=True)
def test_a_report(run, tmp_path, capsys):
    assert cli(["report", str(run), "--output", str(tmp_path)]) == 0, capsys.readouterr().err
    page = (tmp_path / "report.html").read_text()
    accuracy = json.loads((run / "metrics.json").read_text())["test"]["accuracy"]
    assert "Table 7a" in page and f"Test accuracy {100 * accuracy:.1f} %" in page


RAW = """
task: segment_classification
dataset: ave
dataset_options: {inputs: clips}
modalities:
  audio: {type: conv, in_channels: 1, channels: [4, 8]}
  visual: {type: conv, in_channels: 3, channels: [4, 8]}
processors:
  audio: {type: log_spectrogram, sampling_rate: 8000, duration: 10.0, window_length: 256, overlap: 0, segments: 10}
  visual: {type: video, num_frames: 10, sampling: uniform, fps: 1.0, size: 16}
architecture: avga
architecture_options: {positions: 16}
modulations: {opm: {}, ogm: {}}
optim: sgd
"""


def test_raw_clips_through_encoders(tmp_path, capsys):
    """A spectrogram and a frame for each of the ten seconds."""
    clip = write_clip(tmp_path / "clip.mp4", times=[1000 * second for second in range(10)], seconds=10.0)
    (tmp_path / "AVE").mkdir()
    for split, numbers in {"train": range(8), "val": range(8, 10), "test": range(10, 12)}.items():
        rows = [f"Bark&clip{number:02d}&good&{number % 4}&{number % 4 + 5}" for number in numbers]
        (tmp_path / f"{split}Set.txt").write_text("\n".join(rows))
        for number in numbers:
            (tmp_path / "AVE" / f"clip{number:02d}.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "raw.yaml").write_text(RAW)
    arguments = [f"--dataset_options.data_dir={tmp_path}", f"--output_dir={tmp_path / 'run'}", *SHORT, "--max_steps=2"]
    assert main([str(tmp_path / "raw.yaml"), *arguments]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "processor_config.json").is_file()
    assert evaluate(tmp_path / "run", "validation").keys() >= {"accuracy", "accuracy_audio"}
    found = analyse_run(tmp_path / "run")
    assert (found["samples"], found["predictions"], sum(found["counts"])) == (2, 20, 20)
    quick_start_of_run(tmp_path / "run", tmp_path / "card")


def parse(*arguments):
    path = RECIPES / "avga.yaml"
    return parse_recipe(train_parser(), path, [str(path), "--use_cpu=true", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--architecture", "agva"], "Did you mean 'avga'"),
        (["--architecture_options.postions", "3"], "Did you mean 'positions'"),
        (["--segment_loss", "pair_similarity"], "compares the branches of psp"),
        (["--metric_for_best_model", "f1_weighted"], "unknown metric 'f1_weighted'"),
        (["--modulations", '{"greedy": {}}'], "gates of MMTM"),
        (["--modulations", '{"ogm": {"placement": "graph"}}'], "Use ogm with placement: gradients"),
    ],
)
def test_refused_before_anything_is_loaded(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_recipe(parse(*arguments))


def test_every_metric_can_choose_the_best_model():
    for metric in ("accuracy", "event_accuracy", "accuracy_visual", "loss"):
        check_recipe(parse("--metric_for_best_model", metric))


def test_an_option_of_the_classifier():
    with pytest.raises(
        ValueError, match=r"'fusion' belongs to the tasks classification, .*, but the recipe has task: segm"
    ):
        parse("--fusion", "sum")
    with pytest.raises(ValueError, match="Did you mean 'segment_classification'"):
        parse("--task", "segments_classification")


def test_label_names_of_segments():
    names = List(ClassLabel(names=["a", "b"]), length=2)
    split = Dataset.from_dict({"labels": [[0, 1], [1, 1]]})
    assert label_names(DatasetDict(train=split.cast_column("labels", names))) == (["a", "b"], 2)
    assert label_names(DatasetDict(train=split.cast_column("labels", List(Value("int64"))))) == (None, 2)
