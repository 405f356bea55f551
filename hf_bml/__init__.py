"""hf_bml: balanced multimodal training for the Hugging Face ecosystem."""

from transformers import AutoProcessor

from .models import (
    BalancedModel,
    MultimodalClassifierOutput,
    MultimodalConfig,
    MultimodalForClassification,
    MultimodalForSegmentClassification,
    SegmentClassificationConfig,
    SegmentClassifierOutput,
    balance,
)
from .modulation import MODULATIONS, OGM, OPM, DiscrepancyMonitor, Modulation, OGMConfig, OPMConfig
from .processing import MultimodalDataCollator, MultimodalProcessor
from .trainer import MultimodalBalancedTrainer
from .training_args import BalancedTrainingArguments

__version__ = "0.1.0"

# here, because processing and models are leaves
AutoProcessor.register(MultimodalConfig, MultimodalProcessor)
AutoProcessor.register(SegmentClassificationConfig, MultimodalProcessor)

__all__ = [
    "MODULATIONS",
    "OGM",
    "OPM",
    "BalancedModel",
    "BalancedTrainingArguments",
    "DiscrepancyMonitor",
    "Modulation",
    "MultimodalBalancedTrainer",
    "MultimodalClassifierOutput",
    "MultimodalConfig",
    "MultimodalDataCollator",
    "MultimodalForClassification",
    "MultimodalForSegmentClassification",
    "MultimodalProcessor",
    "OGMConfig",
    "OPMConfig",
    "SegmentClassificationConfig",
    "SegmentClassifierOutput",
    "balance",
]
