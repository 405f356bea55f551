"""What a recipe logs and evaluates that says nothing about it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from streams import write_recipe

from hf_bml.cli import main
from hf_bml.study import experiment
from hf_bml.study.fingerprint import fingerprint
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe

ROWS = """
import numpy as np
from datasets import Dataset, DatasetDict

def load():
    splits = {}
    for seed, (name, samples) in enumerate({"train": 96, "validation": 12, "test": 12}.items()):
        generator = np.random.default_rng(seed)
        labels = generator.integers(3, size=samples)
        columns = {
            name: (np.eye(size)[labels] * strength + generator.normal(size=(samples, size))).tolist()
            for name, size, strength in (("audio", 5, 3.0), ("visual", 4, 1.0))
        }
        splits[name] = Dataset.from_dict({**columns, "labels": labels.tolist()})
    return DatasetDict(splits)
"""
MINIMAL = """
dataset: my_clips:load
modalities:
  audio: {type: sequence, input_size: 5, hidden_size: 4, num_heads: 1, num_layers: 0}
  visual: {type: sequence, input_size: 4, hidden_size: 4, num_heads: 1, num_layers: 0}
modulations: {opm: {}}
"""
QUIET = ["--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none", "--save_strategy", "no"]


def history_of(folder):
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def epochs_with(history, key):
    return [entry["epoch"] for entry in history if key in entry]


def page_of(folder):
    assert main(["report", str(folder), "--output", str(folder / "report")]) == 0
    return (folder / "report" / "report.html").read_text()


@pytest.fixture
def minimal(tmp_path, monkeypatch):
    """A recipe of modalities and a modulation on 120 clips, in the current directory; 36 steps of 8."""
    (tmp_path / "my_clips.py").write_text(ROWS)
    (tmp_path / "minimal.yaml").write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def real_curves(draw_curves, monkeypatch):
    monkeypatch.setattr(experiment, "draw_curves", draw_curves)


def test_a_minimal_recipe_logs_evaluates_and_draws(minimal, capsys):
    assert main(["train", "minimal.yaml", "--output_dir", "run", *QUIET]) == 0
    line = "my_clips:load: train 96, validation 12, test 12 rows; 3 classes; splits as the data set gives them\n"
    assert capsys.readouterr().out.count(line) == 1
    history = history_of(minimal / "run")
    assert epochs_with(history, "balance/ratio_audio") == [1.0, 2.0, 3.0]
    assert epochs_with(history, "eval_accuracy") == [1.0, 2.0, 3.0]
    assert set(json.loads((minimal / "run/metrics.json").read_text())["final_ratios"]) == {"audio", "visual"}
    assert np.asarray(Image.open(minimal / "run/curves.png")).std() > 10
    page = page_of(minimal / "run")
    assert "Discrepancy ratio of each modality" in page and "was logged during" not in page


def test_a_run_that_logs_nothing_draws_nothing_and_its_report_says_why(minimal, capsys):
    arguments = ["--logging_strategy", "no", "--eval_strategy", "no", "--max_steps", "4"]
    assert main(["train", "minimal.yaml", "--output_dir", "run", *QUIET, *arguments]) == 0
    assert "curves.png is not drawn: nothing was logged" in capsys.readouterr().out
    assert not (minimal / "run/curves.png").exists()
    page = page_of(minimal / "run")
    assert "No discrepancy ratio was logged during the training of these runs" in page
    assert "run: logging_strategy: no, in a training of 4 steps" in page
    assert "No validation loss and accuracy was logged" in page and "run: eval_strategy: no" in page


def test_a_streamed_run_logs_and_evaluates(tmp_path):
    recipe = write_recipe(tmp_path)
    given = ("logging_steps", "eval_strategy", "eval_steps", "save_steps", "max_steps")
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith(given)]
    recipe.write_text("\n".join([*lines, "max_steps: 20"]))
    assert main(["train", str(recipe), "--output_dir", str(tmp_path / "run")]) == 0
    history = history_of(tmp_path / "run")
    assert len(epochs_with(history, "balance/ratio_audio")) == 20
    assert [entry["step"] for entry in history if "eval_accuracy" in entry] == list(range(2, 21, 2))
    assert (tmp_path / "run/curves.png").is_file()


@pytest.mark.parametrize(
    ("text", "strategy", "steps", "kept"),
    [
        ("", "epoch", None, None),
        ("max_steps: 30", "steps", 0.1, None),
        ("eval_steps: 5", "steps", 5, None),
        ("eval_strategy: 'no'", "no", None, "no"),
        ("{eval_strategy: 'no', max_steps: 30}", "no", None, "no"),
        ("eval_strategy: epoch", "epoch", None, "epoch"),
        ("{eval_strategy: steps, eval_steps: 7}", "steps", 7, "steps"),
    ],
)
def test_when_a_recipe_evaluates(tmp_path, text, strategy, steps, kept):
    for each in twice_parsed(tmp_path, text):
        assert (each.training.eval_strategy.value, each.training.eval_steps) == (strategy, steps)
        assert each.explicit.get("eval_strategy") == kept


def twice_parsed(folder, text):
    """A recipe, and its `config.yaml`, which holds `explicit`: the same recipe again."""
    path, parser = folder / "own.yaml", train_parser()
    path.write_text(text or "{}")
    recipe = parse_recipe(parser, path, [str(path)])
    path.write_text(yaml.safe_dump(recipe.explicit))
    return recipe, parse_recipe(parser, path, [str(path)])


@pytest.mark.parametrize(
    ("text", "logging", "saving"),
    [
        ("", ("epoch", 500), ("epoch", 500)),
        ("num_train_epochs: 10", ("epoch", 500), ("epoch", 500)),
        ("num_train_epochs: 11", ("epoch", 500), ("steps", 0.1)),
        ("max_steps: 30", ("steps", 500), ("steps", 500)),
        ("{logging_steps: 500, save_steps: 500}", ("steps", 500), ("steps", 500)),
        ("{logging_strategy: steps, save_strategy: steps}", ("steps", 500), ("steps", 500)),
        ("{logging_strategy: 'no', save_strategy: 'no'}", ("no", 500), ("no", 500)),
        ("{eval_strategy: steps, load_best_model_at_end: true}", ("epoch", 500), ("steps", 500)),
    ],
)
def test_when_a_recipe_logs_and_saves(tmp_path, text, logging, saving):
    for each in twice_parsed(tmp_path, text):
        training = each.training
        assert (training.logging_strategy.value, training.logging_steps) == logging
        assert (training.save_strategy.value, training.save_steps) == saving


def test_what_is_said_of_the_defaults_does_not_change_the_fingerprint(tmp_path):
    """So runs of older versions are reused; what differs from the Trainer's defaults counts as it did."""
    model = "modalities: {audio: {type: conv}, visual: {type: conv}}\n"
    default = "logging_strategy: steps\nlogging_steps: 500\nsave_strategy: steps\nsave_steps: 500\n"
    texts = [model, model + default, model + "logging_strategy: epoch\n"]
    plain, said, other = (fingerprint(twice_parsed(tmp_path, text)[0]) for text in texts)
    assert plain == said != other
