"""`transformers.Trainer` whose checkpoints hold the state of the modulations."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device

from ..modulation import DiscrepancyMonitor
from .epochs import PlannedTrainer

MODULATION_STATE_NAME = "modulation_state.pt"


class StateKeepingTrainer(PlannedTrainer):
    """Saves and loads what modulations, the monitor and an epoch's plan remember.

    Attributes:
        monitor: of the discrepancy.
    """

    monitor: DiscrepancyMonitor

    def _modulation_state(self) -> dict[str, Any]:
        return {"monitor": self.monitor.state_dict(), "modulations": self.modulation.state_dict()}

    def _load_modulation_state(self, state: dict[str, Any]) -> None:
        self.monitor.load_state_dict(state["monitor"])
        self.modulation.load_state_dict(state["modulations"])

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            state = {**self._modulation_state(), "plan": self.plan_state}
            torch.save(state, Path(output_dir) / MODULATION_STATE_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        path = Path(checkpoint) / MODULATION_STATE_NAME
        if not path.is_file():
            warnings.warn(
                f"{path} is missing: the modulations start from scratch, as at the beginning of a run.", stacklevel=2
            )
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self._load_modulation_state(send_to_device(state, self.args.device))
        self.plan_state = state.get("plan")  # the first edition made no plans
