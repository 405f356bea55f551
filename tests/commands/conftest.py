from __future__ import annotations

import sys

import pytest
from PIL import Image
from recipe_parts import EVERY_EPOCH, QUIET

from hf_bml.cli import main
from hf_bml.study import experiment

MODULE = """
from datasets import Dataset, DatasetDict

def load(label=1, value=1.0):
    rows = {"a": [[0.0, 1.0], None, [1.0, 0.0], [0.5, 0.5]], "b": [[0.0], [1.0], [2.0], [3.0]], "labels": [0, 1, 0, 1]}
    test = {**rows, "b": [[0.0], [1.0], [2.0], [value]], "labels": [0, 1, 0, label]}
    return DatasetDict(train=Dataset.from_dict(rows), validation=Dataset.from_dict(rows), test=Dataset.from_dict(test))
"""
OWN = (
    """
dataset: my_rows:load
modalities:
  a: &encoder {type: sequence, input_size: 2, hidden_size: 4, num_heads: 1, num_layers: 0}
  b: {<<: *encoder, input_size: 1}
max_steps: 2
save_strategy: "no"
"""
    + QUIET
)


@pytest.fixture(scope="package", autouse=True)
def draw_curves():
    """The function, in whose place runs get a small picture: drawing takes as long as a tiny training."""
    function = experiment.draw_curves
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            experiment, "draw_curves", lambda *arguments: Image.new("RGB", (3, 3)).save(arguments[2] / "curves.png")
        )
        yield function


@pytest.fixture
def trained(monkeypatch):
    """The recipes that are trained during a test, in their order."""
    recipes, run = [], experiment.run

    def counting(recipe, *callbacks):
        recipes.append(recipe)
        return run(recipe, *callbacks)

    monkeypatch.setattr(experiment, "run", counting)
    return recipes


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A recipe for a dataset of the user's own, in the current directory."""
    (tmp_path / "my_rows.py").write_text(MODULE)
    (tmp_path / "own.yaml").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    monkeypatch.delitem(sys.modules, "my_rows", raising=False)
    return tmp_path / "own.yaml"


VECTORS = """
import numpy as np
from datasets import Dataset, DatasetDict

def load():
    splits = {}
    for seed, (name, samples) in enumerate({"train": 60, "validation": 20, "test": 40}.items()):
        generator = np.random.default_rng(seed)
        labels = generator.integers(3, size=samples)
        columns = {
            name: (np.eye(size)[labels] * strength + generator.normal(size=(samples, size))).tolist()
            for name, size, strength in (("audio", 5, 3.0), ("visual", 4, 1.5))
        }
        splits[name] = Dataset.from_dict({**columns, "labels": labels.tolist()})
    return DatasetDict(splits)
"""
VECTORS_RECIPE = (
    """
dataset: my_vectors:load
modalities:
  audio: {type: sequence, input_size: 5, hidden_size: 4, num_heads: 1, num_layers: 0}
  visual: {type: sequence, input_size: 4, hidden_size: 4, num_heads: 1, num_layers: 0}
modulations:
  opm: {q_base: 0.5}
optim: sgd
learning_rate: 3e-1
per_device_train_batch_size: 16
per_device_eval_batch_size: 16
"""
    + EVERY_EPOCH
    + QUIET
)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A run of three epochs with all its checkpoints, on vectors of which the audio tells the class better."""
    folder = tmp_path_factory.mktemp("vectors")
    (folder / "my_vectors.py").write_text(VECTORS)
    (folder / "vectors.yaml").write_text(VECTORS_RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "vectors.yaml", "--output_dir", "run"]) == 0
    return folder / "run"


@pytest.fixture
def finished(trained_run, monkeypatch):
    """The folder of that run, from whose parent commands can be started."""
    monkeypatch.chdir(trained_run.parent)
    return trained_run
