import sys

import pytest

MODULE = """
from datasets import Dataset, DatasetDict

def load(label=1, value=1.0):
    rows = {"a": [[0.0, 1.0], None, [1.0, 0.0], [0.5, 0.5]], "b": [[0.0], [1.0], [2.0], [3.0]], "labels": [0, 1, 0, 1]}
    test = {**rows, "b": [[0.0], [1.0], [2.0], [value]], "labels": [0, 1, 0, label]}
    return DatasetDict(train=Dataset.from_dict(rows), validation=Dataset.from_dict(rows), test=Dataset.from_dict(test))
"""
OWN = """
dataset: my_rows:load
modalities:
  a: &encoder {type: sequence, input_size: 2, hidden_size: 4, num_heads: 1, num_layers: 0}
  b: {<<: *encoder, input_size: 1}
max_steps: 2
save_strategy: "no"
use_cpu: true
disable_tqdm: true
report_to: none
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A recipe for a dataset of the user's own, in the current directory."""
    (tmp_path / "my_rows.py").write_text(MODULE)
    (tmp_path / "own.yaml").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    monkeypatch.delitem(sys.modules, "my_rows", raising=False)
    return tmp_path / "own.yaml"
