"""Means of tensors between two log events, kept on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


class RunningMean:
    """Sums named `(modalities,)` tensors without a host sync and hands out their means as `<name>_<modality>`; that of
    a 0-d tensor as `<name>`.

    Args:
        modalities: names in the order of the tensors' entries.

    Example:
        >>> import torch
        >>> means = RunningMean(["audio", "visual"])
        >>> means.add({"balance/ratio": torch.tensor([3.0, 0.5])})
        >>> means.add({"balance/ratio": torch.tensor([1.0, 1.5])})
        >>> means.pop()
        {'balance/ratio_audio': tensor(2.), 'balance/ratio_visual': tensor(1.)}
    """

    def __init__(self, modalities: Sequence[str]):
        self.modalities = tuple(modalities)
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def pop(self) -> dict[str, Tensor]:
        means: dict[str, Tensor] = {}
        for name, total in self._sums.items():
            mean = total / self._counts[name]
            if mean.dim():
                keys = [f"{name}_{modality}" for modality in self.modalities]
                means.update(zip(keys, mean.unbind(), strict=True))
            else:
                means[name] = mean
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
