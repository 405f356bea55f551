"""Models, registered with the Auto classes of transformers."""

from transformers import AutoConfig, AutoModel

from .balance import BalancedModel, balance
from .configuration_multimodal import MultimodalConfig
from .configuration_question_answering import QuestionAnsweringConfig
from .encoders import ENCODERS
from .fusion import FUSIONS
from .interaction import INTERACTIONS
from .modeling_multimodal import MultimodalClassifierOutput, MultimodalForClassification
from .modeling_question_answering import MultimodalForQuestionAnswering, QuestionAnsweringOutput
from .question_answering import QUESTION_ANSWERING_ARCHITECTURES

AutoConfig.register(MultimodalConfig.model_type, MultimodalConfig)
AutoModel.register(MultimodalConfig, MultimodalForClassification)
AutoConfig.register(QuestionAnsweringConfig.model_type, QuestionAnsweringConfig)
AutoModel.register(QuestionAnsweringConfig, MultimodalForQuestionAnswering)

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "INTERACTIONS",
    "QUESTION_ANSWERING_ARCHITECTURES",
    "BalancedModel",
    "MultimodalClassifierOutput",
    "MultimodalConfig",
    "MultimodalForClassification",
    "MultimodalForQuestionAnswering",
    "QuestionAnsweringConfig",
    "QuestionAnsweringOutput",
    "balance",
]
