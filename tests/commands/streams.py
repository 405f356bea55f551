"""Streamed recipes on small parquet shards, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, List, Value

CLASSES = ["low", "middle", "high"]
SHARDS, ROWS = 4, 24
RECIPE = """
dataset: from_columns
dataset_options:
  path: parquet
  data_files: {{train: "{folder}/train-*.parquet", validation: "{folder}/validation.parquet",
               test: "{folder}/test.parquet"}}
  modalities: {{audio: sound, visual: picture}}
  label: pitch
  streaming: true
stream_buffer_size: 16
modalities:
  audio: {{type: sequence, input_size: 5, hidden_size: 4, num_heads: 1, num_layers: 0}}
  visual: {{type: sequence, input_size: 4, hidden_size: 4, num_heads: 1, num_layers: 0}}
modulations:
  opm: {{q_base: 0.5}}
optim: sgd
learning_rate: 3e-1
max_steps: 20
per_device_train_batch_size: 8
per_device_eval_batch_size: 8
logging_steps: 5
eval_strategy: steps
eval_steps: 10
save_steps: 10
use_cpu: true
disable_tqdm: true
report_to: none
"""


def write_shards(folder: Path) -> None:
    """Vectors that depend on the class, four shards of train and one of each other split; `number` counts rows."""
    features = Features(
        {"sound": List(Value("float32")), "picture": List(Value("float32")), "pitch": ClassLabel(names=CLASSES)}
    )
    generator = np.random.default_rng(0)
    names = [f"train-{shard}" for shard in range(SHARDS)] + ["validation", "test"]
    for name in names:
        labels = generator.integers(3, size=ROWS + len(name) % 2)
        columns = {
            column: np.eye(size)[labels] * 3 + generator.normal(size=(len(labels), size))
            for column, size in (("sound", 5), ("picture", 4))
        }
        Dataset.from_dict({**columns, "pitch": labels}, features=features).to_parquet(folder / f"{name}.parquet")


def write_recipe(folder: Path) -> Path:
    """The shards and their recipe in a folder."""
    write_shards(folder)
    path = folder / "streamed.yaml"
    path.write_text(RECIPE.format(folder=folder))
    return path
