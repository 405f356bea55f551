"""Models and their configs."""

from __future__ import annotations

from ..ground.seams import check_seams
from .balanced.balance import balance
from .balanced.wrap import BalancedModel
from .configuration_multimodal import MultimodalConfig
from .configuration_question_answering import QuestionAnsweringConfig
from .configuration_segment_classification import SegmentClassificationConfig
from .encoders.base import Encoder
from .encoders.build import ENCODERS, expected_input
from .fusion import FUSIONS, FusionHead
from .interaction import INTERACTIONS
from .modeling_multimodal import MultimodalClassifierOutput, MultimodalForClassification
from .modeling_question_answering import MultimodalForQuestionAnswering, QuestionAnsweringOutput
from .modeling_segment_classification import MultimodalForSegmentClassification, SegmentClassifierOutput
from .question_answering import QUESTION_ANSWERING_ARCHITECTURES
from .segments import SEGMENT_ARCHITECTURES

check_seams("models")

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "INTERACTIONS",
    "QUESTION_ANSWERING_ARCHITECTURES",
    "SEGMENT_ARCHITECTURES",
    "BalancedModel",
    "Encoder",
    "FusionHead",
    "MultimodalClassifierOutput",
    "MultimodalConfig",
    "MultimodalForClassification",
    "MultimodalForQuestionAnswering",
    "MultimodalForSegmentClassification",
    "QuestionAnsweringConfig",
    "QuestionAnsweringOutput",
    "SegmentClassificationConfig",
    "SegmentClassifierOutput",
    "balance",
    "expected_input",
]
