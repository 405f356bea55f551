"""Processing in forked processes, after the parent has computed in several threads."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import numpy as np
import torch
from datasets import Dataset, DatasetDict
from hf_bml import MultimodalProcessor

torch.set_num_threads(2)
wave = {"array": np.sin(np.arange(48000.0)), "sampling_rate": 16000}
processor = MultimodalProcessor({"audio": {"type": "log_spectrogram"}})
processor.prepare(audio=wave)
rows = [{"audio": {**wave, "array": wave["array"].tolist()}, "labels": label} for label in (0, 1, 0, 1)]
print(len(processor.apply(DatasetDict(train=Dataset.from_list(rows)), num_proc=2)["train"]))
"""


def test_workers_do_not_wait_for_threads_that_a_fork_has_not(tmp_path):
    several = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, env=several, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert done.stdout.split() == ["4"], done.stderr[-2000:]
