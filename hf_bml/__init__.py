"""hf_bml: balanced multimodal training for the Hugging Face ecosystem."""

from .models import BalancedModel, MultimodalClassifierOutput, MultimodalConfig, MultimodalForClassification, balance
from .modulation import MODULATIONS, OGM, OPM, DiscrepancyMonitor, Modulation, OGMConfig, OPMConfig
from .trainer import MultimodalBalancedTrainer
from .training_args import BalancedTrainingArguments

__version__ = "0.1.0"

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
    "MultimodalForClassification",
    "OGMConfig",
    "OPMConfig",
    "balance",
]
