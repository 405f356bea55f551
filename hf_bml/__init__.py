"""hf_bml: balanced multimodal training for the Hugging Face ecosystem."""

from transformers import AutoProcessor

from .models import (
    BalancedModel,
    MultimodalClassifierOutput,
    MultimodalConfig,
    MultimodalForClassification,
    MultimodalForQuestionAnswering,
    MultimodalForSegmentClassification,
    QuestionAnsweringConfig,
    QuestionAnsweringOutput,
    SegmentClassificationConfig,
    SegmentClassifierOutput,
    balance,
)
from .modulation import MODULATIONS, OGM, OPM, DiscrepancyMonitor, Modulation, OGMConfig, OPMConfig
from .processing import MultimodalDataCollator, MultimodalProcessor
from .trainer import MultimodalBalancedTrainer
from .training_args import BalancedTrainingArguments

__version__ = "0.1.0"

# Here, because processing and models are leaves.
for config_class in (MultimodalConfig, SegmentClassificationConfig, QuestionAnsweringConfig):
    AutoProcessor.register(config_class, MultimodalProcessor)

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
]
