"""Question answering from the command line, on a generated miniature of MUSIC-AVQA's annotation and features."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from card_code import quick_start_of_run
from music_avqa_release import write_annotation, write_features

from hf_bml.cli import main as cli
from hf_bml.commands.train import main
from hf_bml.study.checks import check_recipe
from hf_bml.study.finished_run import evaluate
from hf_bml.study.metric_checks import check_best_metric, compared_metric
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "music_avqa"
SMALL = [
    "--modalities.text.embedding_size=8",
    "--modalities.text.hidden_size=16",
    "--modalities.audio.input_size=5",
    "--modalities.audio.hidden_size=16",
    "--modalities.visual.input_size=7",
    "--modalities.visual.hidden_size=16",
    "--processors.audio.input_size=5",
    "--processors.visual.input_size=7",
    "--architecture_options.hidden_size=16",
    "--dataset_options.audio_features=audio",
    "--dataset_options.visual_features=visual",
    "--use_cpu=true",
    "--learning_rate=0.3",
    "--max_steps=40",
    "--per_device_train_batch_size=30",
    "--per_device_eval_batch_size=120",
    "--eval_strategy=steps",
    "--eval_steps=20",
    "--save_strategy=steps",
    "--save_steps=20",
    "--logging_strategy=steps",
    "--logging_steps=10",
    "--metric_for_best_model=accuracy_on_audio_visual_counting",
    "--dataloader_num_workers=0",
    "--disable_tqdm=true",
    "--report_to=none",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of the AVSD recipe with OPM and OGM."""
    folder = tmp_path_factory.mktemp("music_avqa")
    write_annotation(folder, videos=27)
    write_features(folder)
    arguments = [f"--dataset_options.data_dir={folder}", f"--output_dir={folder / 'run'}", *SMALL]
    assert main([str(RECIPES / "avsd_opm_ogm.yaml"), *arguments]) == 0
    return folder / "run"


def test_what_a_run_leaves(run):
    result = json.loads((run / "metrics.json").read_text())
    assert result["test"]["accuracy"] > 0.45  # "one" alone is a quarter, and "no" less than a third more
    modalities = {"text", "audio", "visual"}
    assert {f"accuracy_{name}" for name in modalities} <= result["test"].keys()
    types = {name: value for name, value in result["test"].items() if name.startswith("accuracy_on_")}
    assert set(types) == {
        "accuracy_on_audio_counting",
        "accuracy_on_visual_location",
        "accuracy_on_audio_visual_counting",
    }
    weights = {"accuracy_on_visual_location": 2}  # of four questions a video
    whole = sum(weights.get(name, 1) * value for name, value in types.items()) / 4
    assert result["test"]["accuracy"] == pytest.approx(whole)
    assert set(result["final_ratios"]) == modalities
    config = json.loads((run / "config.json").read_text())
    assert config["model_type"] == "multimodal_question_answering" and config["question"] == "text"
    assert sorted(config["id2label"].values()) == ["accordion", "banjo", "cello", "no", "one", "yes"]
    vocabulary = json.loads((run / "processor_config.json").read_text())["modalities"]["text"]["vocabulary"]
    assert {"flute", "accordion", "instrument"} <= set(vocabulary)
    assert yaml.safe_load((run / "config.yaml").read_text())["task"] == "question_answering"


def test_the_quick_start_of_its_card_gives_an_answer(run, tmp_path, capsys):
    quick_start_of_run(run, tmp_path)
    answers = json.loads((run / "config.json").read_text())["id2label"].values()
    assert capsys.readouterr().out.strip() in answers


def test_evaluating_again(run):
    expected = json.loads((run / "metrics.json").read_text())["test"]
    found = evaluate(run, "test")
    assert found["accuracy"] == pytest.approx(expected["accuracy"])
    assert found["accuracy_on_audio_counting"] == pytest.approx(expected["accuracy_on_audio_counting"])


@pytest.mark.parametrize(
    ("command", "file", "expected"),
    [
        (["analyse"], "analysis_test.json", "Shapley value"),
        (["missing", "--rates", "0.5", "--seeds", "0"], "missing.json", "nothing missing: "),
        (["probe"], "probe.json", "accuracy of the linear probe"),
    ],
)
def test_analyses(run, command, file, expected, capsys):
    assert cli([command[0], str(run), *command[1:]]) == 0
    assert expected in capsys.readouterr().out
    found = json.loads((run / file).read_text())
    if command[0] == "analyse":
        assert set(found["shapley"]["values"]) == {"text", "audio", "visual"}
        assert sum(found["counts"]) == found["samples"] == 108
    if command[0] == "missing":
        accuracy = json.loads((run / "metrics.json").read_text())["test"]["accuracy"]
        assert found["complete"] == pytest.approx(accuracy, abs=0.01)  # batches of another size
    if command[0] == "probe":
        assert found["checkpoints"][-1]["accuracy"].keys() == {"text", "audio", "visual"}


def test_a_report(run, tmp_path, capsys):
    assert cli(["report", str(run), "--output", str(tmp_path)]) == 0, capsys.readouterr().err
    assert "accuracy on visual location" in (tmp_path / "report.html").read_text()


def parse(*arguments):
    path = RECIPES / "avsd.yaml"
    return parse_recipe(train_parser(), path, [str(path), "--use_cpu=true", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--architecture", "avds"], "Did you mean 'avsd'"),
        (["--architecture_options.hiden_size", "3"], "Did you mean 'hidden_size'"),
        (["--question", "txt"], "Did you mean 'text'"),
        (["--metric_for_best_model", "event_accuracy"], "unknown metric 'event_accuracy'"),
        (["--metric_for_best_model", "accuracy_audo"], "Did you mean 'accuracy_audio'"),
        (["--modulations", '{"greedy": {}}'], "gates of MMTM"),
        (["--fusion", "sum"], "'fusion' belongs to the tasks classification"),
    ],
)
def test_refused_before_anything_is_loaded(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_recipe(parse(*arguments))


TYPES = ["Audio Counting", "Audio-Visual Temporal"]


def test_the_accuracy_on_a_type_of_question_can_choose_the_best_model():
    for metric in ("accuracy_on_audio_counting", "eval_accuracy_on_audio_visual_temporal"):
        recipe = parse("--metric_for_best_model", metric)
        check_recipe(recipe)
        check_best_metric(recipe, ["text"], 3, TYPES)
        compared_metric(metric.removeprefix("eval_"), recipe)


def test_a_type_that_the_data_lacks():
    recipe = parse("--metric_for_best_model", "accuracy_on_audio_countin")
    with pytest.raises(ValueError, match="Did you mean 'accuracy_on_audio_counting'"):
        check_best_metric(recipe, ["text"], 3, TYPES)


def test_classification_knows_no_types_of_questions():
    path = RECIPES.parent / "digits" / "concat.yaml"
    recipe = parse_recipe(train_parser(), path, [str(path), "--metric_for_best_model=accuracy_on_audio_counting"])
    with pytest.raises(ValueError, match="unknown metric"):
        check_recipe(recipe)
    with pytest.raises(ValueError, match="unknown metric"):
        compared_metric("accuracy_on_audio_counting", recipe)
