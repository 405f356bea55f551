"""Models, registered with the Auto classes of transformers."""

from transformers import AutoConfig, AutoModel

from .balance import BalancedModel, balance
from .configuration_multimodal import MultimodalConfig
from .encoders import ENCODERS
from .fusion import FUSIONS
from .interaction import INTERACTIONS
from .modeling_multimodal import MultimodalClassifierOutput, MultimodalForClassification

AutoConfig.register(MultimodalConfig.model_type, MultimodalConfig)
AutoModel.register(MultimodalConfig, MultimodalForClassification)

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "INTERACTIONS",
    "BalancedModel",
    "MultimodalClassifierOutput",
    "MultimodalConfig",
    "MultimodalForClassification",
    "balance",
]
