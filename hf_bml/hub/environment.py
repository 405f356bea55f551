"""Where and with which versions a run was made."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from typing import Any

import torch

PACKAGES = ("hf_bml", "torch", "transformers", "datasets", "accelerate", "timm")


def environment(processes: int) -> dict[str, Any]:
    """Versions and device of this process, how many processes share the run, and today's date; no names or paths."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {
        "python": platform.python_version(),
        "device": device,
        "processes": processes,
        "date": time.strftime("%Y-%m-%d"),
        **{package: version(package) for package in PACKAGES},
    }
