"""hf_bml: balanced multimodal training for the Hugging Face ecosystem."""

from transformers import AutoProcessor

from .models import BalancedModel, MultimodalClassifierOutput, MultimodalConfig, MultimodalForClassification, balance
from .modulation import MODULATIONS, OGM, OPM, DiscrepancyMonitor, Modulation, OGMConfig, OPMConfig
from .processing import MultimodalDataCollator, MultimodalProcessor
from .trainer import MultimodalBalancedTrainer
from .training_args import BalancedTrainingArguments

__version__ = "0.1.0"

AutoProcessor.register(MultimodalConfig, MultimodalProcessor)  # here, because processing and models are leaves

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
    "MultimodalProcessor",
    "OGMConfig",
    "OPMConfig",
    "balance",
]
