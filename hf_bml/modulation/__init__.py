"""Modulations: the methods that balance modalities. To add one: a file, a line in MODULATIONS, a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..ground.suggestion import Registry
from .agm import AGM, AGMConfig
from .amco import AMCo, AMCoConfig
from .base import PHASES, Modulation, Title
from .bundles import BUNDLES, Bundle, bundled_model_options, expanded
from .cml import CML, CMLConfig
from .config import DiscrepancyConfig, ModulationConfig, option
from .data_remixing import DataRemixing, DataRemixingConfig
from .dgl import DGL, DGLConfig
from .discrepancy import DiscrepancyMonitor, discrepancy_differences, discrepancy_ratios, discriminative_scores
from .dropout import (
    AnnealedDropout,
    AnnealedDropoutConfig,
    CurriculumDropout,
    CurriculumDropoutConfig,
    Dropout,
    DropoutConfig,
)
from .evolutional_dropout import EvolutionalDropout, EvolutionalDropoutConfig
from .g2d import G2D, G2DConfig
from .gradient_blending import GradientBlending, GradientBlendingConfig
from .greedy import Greedy, GreedyConfig
from .inforeg import InfoReg, InfoRegConfig
from .lfm import LFM, LFMConfig
from .mbsd import MBSD, MBSDConfig
from .mcr import MCR, MCRConfig
from .mla import MLA, MLAConfig
from .mmpareto import MMPareto, MMParetoConfig
from .mod_drop import ModDrop, ModDropConfig
from .multi_loss import MultiLoss, MultiLossConfig
from .ogm import OGM, OGMConfig, gradient_coefficients
from .ogm_star import OGMStar, OGMStarConfig
from .opm import OPM, OPMConfig, drop_probabilities
from .pmr import PMR, PMRConfig
from .prioritise import Prioritise, PrioritiseConfig
from .reconboost import ReconBoost, ReconBoostConfig
from .relearning import Relearning, RelearningConfig
from .sample_valuation import SampleValuation, SampleValuationConfig
from .stack import ModulationStack
from .step import CopyLosses, EpochPlan, Gradients, MicroBatch, Needs, Run, Step
from .tcmax import TCMax
from .umt import UMT, UMTConfig

MODULATIONS: Registry[type[Modulation]] = Registry(
    "modulation",
    Modulation,
    "hf_bml.modulation.MODULATIONS",
    {
        "opm": OPM,
        "ogm": OGM,
        "ogm_star": OGMStar,
        "dgl": DGL,
        "tcmax": TCMax,
        "mbsd": MBSD,
        "cml": CML,
        "gradient_blending": GradientBlending,
        "greedy": Greedy,
        "agm": AGM,
        "pmr": PMR,
        "lfm": LFM,
        "mcr": MCR,
        "inforeg": InfoReg,
        "mod_drop": ModDrop,
        "multi_loss": MultiLoss,
        "mmpareto": MMPareto,
        "prioritise": Prioritise,
        "g2d": G2D,
        "mla": MLA,
        "reconboost": ReconBoost,
        "umt": UMT,
        "sample_valuation": SampleValuation,
        "data_remixing": DataRemixing,
        "relearning": Relearning,
        "amco": AMCo,
        "dropout": Dropout,
        "annealed_dropout": AnnealedDropout,
        "curriculum_dropout": CurriculumDropout,
        "evolutional_dropout": EvolutionalDropout,
    },
)

__all__ = [
    "AGM",
    "BUNDLES",
    "CML",
    "DGL",
    "G2D",
    "LFM",
    "MBSD",
    "MCR",
    "MLA",
    "MODULATIONS",
    "OGM",
    "OPM",
    "PHASES",
    "PMR",
    "UMT",
    "AGMConfig",
    "AMCo",
    "AMCoConfig",
    "AnnealedDropout",
    "AnnealedDropoutConfig",
    "Bundle",
    "CMLConfig",
    "CopyLosses",
    "CurriculumDropout",
    "CurriculumDropoutConfig",
    "DGLConfig",
    "DataRemixing",
    "DataRemixingConfig",
    "DiscrepancyConfig",
    "DiscrepancyMonitor",
    "Dropout",
    "DropoutConfig",
    "EpochPlan",
    "EvolutionalDropout",
    "EvolutionalDropoutConfig",
    "G2DConfig",
    "GradientBlending",
    "GradientBlendingConfig",
    "Gradients",
    "Greedy",
    "GreedyConfig",
    "InfoReg",
    "InfoRegConfig",
    "LFMConfig",
    "MBSDConfig",
    "MCRConfig",
    "MLAConfig",
    "MMPareto",
    "MMParetoConfig",
    "MicroBatch",
    "ModDrop",
    "ModDropConfig",
    "Modulation",
    "ModulationConfig",
    "ModulationStack",
    "MultiLoss",
    "MultiLossConfig",
    "Needs",
    "OGMConfig",
    "OGMStar",
    "OGMStarConfig",
    "OPMConfig",
    "PMRConfig",
    "Prioritise",
    "PrioritiseConfig",
    "ReconBoost",
    "ReconBoostConfig",
    "Relearning",
    "RelearningConfig",
    "Run",
    "SampleValuation",
    "SampleValuationConfig",
    "Step",
    "TCMax",
    "Title",
    "UMTConfig",
    "build_modulations",
    "bundled_model_options",
    "discrepancy_differences",
    "discrepancy_ratios",
    "discriminative_scores",
    "drop_probabilities",
    "expanded",
    "gradient_coefficients",
    "option",
]


def build_modulations(specification: str | Mapping[str, Mapping[str, Any] | None] | None) -> list[Modulation]:
    """Builds modulations from `{"opm": {"q_base": 0.5}, "ogm": {"alpha": 0.8, "noise": "entry_std"}}`; a method of
    one's own is named by its path, `{"package.module:Name": {...}}`, and a bundle stands for its modulations,
    `"balanced"` or `{"balanced": {}, "mod_drop": {"p": 0.2}}`.

    Raises:
        ValueError: unknown name or option (the closest valid one is named), or a value out of range.
    """
    modulations = []
    for name, options in expanded(specification).items():
        method = MODULATIONS.find(name, BUNDLES)
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"Options of modulation {name!r} must be a mapping or empty, found {options!r}.")
        try:
            modulations.append(method(**(options or {})))
        except ValueError as error:
            known = str(error).startswith("Modulation ")
            raise ValueError(str(error) if known else f"Modulation {name!r}: {error}") from error
    return modulations
