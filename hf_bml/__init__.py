"""hf_bml: balanced multimodal training for the Hugging Face ecosystem."""

__version__ = "0.1.0"

from transformers import AutoProcessor

from .hub.pipeline import MultimodalClassificationPipeline, register_pipeline
from .hub.remote_code import save_code
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
from .training.trainer import MultimodalBalancedTrainer
from .training.training_args import BalancedTrainingArguments

# here, because processing and models are leaves
for config_class in (MultimodalConfig, SegmentClassificationConfig, QuestionAnsweringConfig):
    AutoProcessor.register(config_class, MultimodalProcessor)
register_pipeline()

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
