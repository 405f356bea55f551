"""hf_bml: balanced multimodal training for the Hugging Face ecosystem."""

from transformers import AutoProcessor

from .models import (
    BalancedModel,
    MultimodalClassifierOutput,
    MultimodalConfig,
    MultimodalForClassification,
    MultimodalForQuestionAnswering,
    QuestionAnsweringConfig,
    QuestionAnsweringOutput,
    balance,
)
from .modulation import MODULATIONS, OGM, OPM, DiscrepancyMonitor, Modulation, OGMConfig, OPMConfig
from .processing import MultimodalDataCollator, MultimodalProcessor
from .trainer import MultimodalBalancedTrainer
from .training_args import BalancedTrainingArguments

__version__ = "0.1.0"

for _config in (MultimodalConfig, QuestionAnsweringConfig):
    AutoProcessor.register(_config, MultimodalProcessor)  # here, because processing and models are leaves

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
    "MultimodalProcessor",
    "OGMConfig",
    "OPMConfig",
    "QuestionAnsweringConfig",
    "QuestionAnsweringOutput",
    "balance",
]
