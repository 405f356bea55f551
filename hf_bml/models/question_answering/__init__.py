"""Question answering: how question, sound and picture are joined behind their encoders (paper Table 7).

| name       | how they are joined                                         | after                     |
|------------|-------------------------------------------------------------|---------------------------|
| `avsd`     | factor graph attention, an LSTM over sound and frames       | Schwartz et al. 2019      |
| `panoavqa` | transformers, each modality attends to the next             | LAViT, Yun et al. 2021    |

Both are our re-implementations, adapted to a choice among given answers; each module says what differs.
"""

from __future__ import annotations

from .avsd import AVSD
from .base import Architecture
from .panoavqa import PanoAVQA

QUESTION_ANSWERING_ARCHITECTURES: dict[str, type[Architecture]] = {"avsd": AVSD, "panoavqa": PanoAVQA}

__all__ = ["AVSD", "QUESTION_ANSWERING_ARCHITECTURES", "Architecture", "PanoAVQA"]
