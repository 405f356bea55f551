"""hf_bml: balanced multimodal training for the Hugging Face ecosystem."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .ground.after_import import after_import

if TYPE_CHECKING:
    from .hub.pipeline import MultimodalClassificationPipeline as MultimodalClassificationPipeline
    from .hub.remote_code import save_code as save_code
    from .models import BalancedModel as BalancedModel
    from .models import MultimodalClassifierOutput as MultimodalClassifierOutput
    from .models import MultimodalConfig as MultimodalConfig
    from .models import MultimodalForClassification as MultimodalForClassification
    from .models import MultimodalForQuestionAnswering as MultimodalForQuestionAnswering
    from .models import MultimodalForSegmentClassification as MultimodalForSegmentClassification
    from .models import QuestionAnsweringConfig as QuestionAnsweringConfig
    from .models import QuestionAnsweringOutput as QuestionAnsweringOutput
    from .models import SegmentClassificationConfig as SegmentClassificationConfig
    from .models import SegmentClassifierOutput as SegmentClassifierOutput
    from .models import balance as balance
    from .modulation import MODULATIONS as MODULATIONS
    from .modulation import OGM as OGM
    from .modulation import OPM as OPM
    from .modulation import DiscrepancyMonitor as DiscrepancyMonitor
    from .modulation import Modulation as Modulation
    from .modulation import OGMConfig as OGMConfig
    from .modulation import OPMConfig as OPMConfig
    from .processing import MultimodalDataCollator as MultimodalDataCollator
    from .processing import MultimodalProcessor as MultimodalProcessor
    from .training.trainer import MultimodalBalancedTrainer as MultimodalBalancedTrainer
    from .training.training_args import BalancedTrainingArguments as BalancedTrainingArguments

__version__ = "0.2.0"
__all__ = [
    "MODULATIONS",
    "OGM",
    "OPM",
    "BalancedModel",
    "BalancedTrainingArguments",
    "DiscrepancyMonitor",
    "Modulation",
    "MultimodalBalancedTrainer",
    "MultimodalClassificationPipeline",
    "MultimodalClassifierOutput",
    "MultimodalConfig",
    "MultimodalDataCollator",
    "MultimodalForClassification",
    "MultimodalForQuestionAnswering",
    "MultimodalForSegmentClassification",
    "MultimodalProcessor",
    "OGMConfig",
    "OPMConfig",
    "QuestionAnsweringConfig",
    "QuestionAnsweringOutput",
    "SegmentClassificationConfig",
    "SegmentClassifierOutput",
    "balance",
    "save_code",
]

HOMES = {  # of the public names; all others are in `models`
    "modulation": ("MODULATIONS", "OGM", "OPM", "DiscrepancyMonitor", "Modulation", "OGMConfig", "OPMConfig"),
    "processing": ("MultimodalDataCollator", "MultimodalProcessor"),
    "training.trainer": ("MultimodalBalancedTrainer",),
    "training.training_args": ("BalancedTrainingArguments",),
    "hub.pipeline": ("MultimodalClassificationPipeline",),
    "hub.remote_code": ("save_code",),
}
ROOMS = ("analysis", "data", "hub", "metrics", "models", "modulation", "processing", "study", "training")


def __getattr__(name: str) -> Any:
    """Imports a public name or a room of the package when it is first used."""
    if name in ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in HOMES.items() if name in names), "models")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *ROOMS})


def register_auto_classes() -> None:
    """Makes configs, models and processor known to transformers' Auto classes."""
    from transformers import AutoConfig, AutoModel, AutoProcessor

    from . import models
    from .processing import MultimodalProcessor

    for config_class, model_class in (
        (models.MultimodalConfig, models.MultimodalForClassification),
        (models.SegmentClassificationConfig, models.MultimodalForSegmentClassification),
        (models.QuestionAnsweringConfig, models.MultimodalForQuestionAnswering),
    ):
        AutoConfig.register(config_class.model_type, config_class)
        AutoModel.register(config_class, model_class)
        AutoProcessor.register(config_class, MultimodalProcessor)


def register_pipeline() -> None:
    """Makes `pipeline("multimodal-classification")` known to transformers."""
    from .hub.pipeline import register_pipeline

    register_pipeline()


# without importing transformers, which takes seconds
after_import({"transformers": register_auto_classes, "transformers.pipelines": register_pipeline})
