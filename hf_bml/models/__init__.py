"""Models, registered with the Auto classes of transformers."""

from transformers import AutoConfig, AutoModel

from .balance import BalancedModel, balance
from .configuration_multimodal import MultimodalConfig
from .configuration_segment_classification import SegmentClassificationConfig
from .encoders import ENCODERS
from .fusion import FUSIONS
from .interaction import INTERACTIONS
from .modeling_multimodal import MultimodalClassifierOutput, MultimodalForClassification
from .modeling_segment_classification import MultimodalForSegmentClassification, SegmentClassifierOutput
from .segments import SEGMENT_ARCHITECTURES

AutoConfig.register(MultimodalConfig.model_type, MultimodalConfig)
AutoModel.register(MultimodalConfig, MultimodalForClassification)
AutoConfig.register(SegmentClassificationConfig.model_type, SegmentClassificationConfig)
AutoModel.register(SegmentClassificationConfig, MultimodalForSegmentClassification)

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "INTERACTIONS",
    "SEGMENT_ARCHITECTURES",
    "BalancedModel",
    "MultimodalClassifierOutput",
    "MultimodalConfig",
    "MultimodalForClassification",
    "MultimodalForSegmentClassification",
    "SegmentClassificationConfig",
    "SegmentClassifierOutput",
    "balance",
]
