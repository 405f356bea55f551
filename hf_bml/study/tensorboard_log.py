"""Scalars of analyses in the TensorBoard log of the run's training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from .finished_run import FinishedRun

EVENTS = "runs/*/events.out.tfevents.*"  # where transformers logs, below a run's folder
PREFIXES = {"train": "train", "validation": "eval", "test": "test"}  # what transformers calls the splits


def log_to_tensorboard(run: FinishedRun, split: str, scalars: Mapping[int | None, Mapping[str, float]]) -> Path | None:
    """Adds scalars to the newest TensorBoard log in a run's folder; the main process calls it.

    Other trackers are not reopened: a second run would begin there, or a finished one would be frozen again.

    Args:
        run: the run.
        split: what the scalars are of; their names get its prefix, as in `test/probe/accuracy_audio`.
        scalars: values by name, by step; None is the final model's.

    Returns:
        the folder of the log; None if the training has written none, or if TensorBoard is not installed.
    """
    files = sorted(run.folder.glob(EVENTS), key=lambda file: file.stat().st_mtime)
    if not files:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        warnings.warn(
            f"{run.folder} has a TensorBoard log, but TensorBoard is not installed: the analysis is not added. "
            "Install it with: pip install 'hf_bml[tensorboard]'",
            stacklevel=2,
        )
        return None
    folder = files[-1].parent
    with SummaryWriter(log_dir=str(folder)) as writer:
        for step, values in scalars.items():
            place = next(model.step for model in run.saved_models() if model.final) if step is None else step
            for name, value in values.items():
                writer.add_scalar(f"{PREFIXES[split]}/{name}", value, place)
    return folder
