"""Modulations: the methods that hold the dominant modality back. To add one: a file, a line in MODULATIONS, a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..suggestion import did_you_mean
from .base import BalanceState, CopyLosses, MicroBatch, Modulation, ModulationConfig, ModulationStack, TrainCopy
from .discrepancy import DiscrepancyMonitor, discrepancy_differences, discrepancy_ratios, discriminative_scores
from .ogm import OGM, OGMConfig, gradient_coefficients
from .opm import OPM, OPMConfig, drop_probabilities

MODULATIONS: dict[str, type[Modulation]] = {"opm": OPM, "ogm": OGM}

__all__ = [
    "MODULATIONS",
    "OGM",
    "OPM",
    "BalanceState",
    "CopyLosses",
    "DiscrepancyMonitor",
    "MicroBatch",
    "Modulation",
    "ModulationConfig",
    "ModulationStack",
    "OGMConfig",
    "OPMConfig",
    "TrainCopy",
    "build_modulations",
    "discrepancy_differences",
    "discrepancy_ratios",
    "discriminative_scores",
    "drop_probabilities",
    "gradient_coefficients",
]


def build_modulations(specification: Mapping[str, Mapping[str, Any] | None] | None) -> list[Modulation]:
    """Builds modulations from `{"opm": {"q_base": 0.5}, "ogm": {"alpha": 0.8, "noise": "entry_std"}}`.

    Raises:
        ValueError: unknown name or option (the closest valid one is named), or a value out of range.
    """
    modulations = []
    for name, options in (specification or {}).items():
        if name not in MODULATIONS:
            hint = did_you_mean(name, MODULATIONS)
            raise ValueError(f"Unknown modulation {name!r}.{hint} Known: {sorted(MODULATIONS)}.")
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"Options of modulation {name!r} must be a mapping or empty, found {options!r}.")
        modulations.append(MODULATIONS[name](**(options or {})))
    return modulations
