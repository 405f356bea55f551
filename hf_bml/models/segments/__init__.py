"""Architectures that label every segment of a clip (paper Table 7, AVE): what lies between the inputs and the logits.

| name    | how the modalities meet                                                            | modalities  |
|---------|------------------------------------------------------------------------------------|-------------|
| `avga`  | one guides the attention in another; the states of all recurrent layers are joined | two or more |
| `avsdn` | the recurrent layers' last states are fused and start a decoder (re-implemented)   | any number  |
| `psp`   | as `avga` before, then segments that match across the two modalities are added     | two         |

For all of them: the feature of a modality is the input of its recurrent layers `(batch, segments, dim)`. There it is
zeroed when a modulation drops it, when a sample lacks it, and when another modality is scored. What lies before the
modalities meet for good is the modality's encoder, theta^m: its recurrent layers too, and for a guided modality the
attention. A guided feature holds what the guide pointed at, also where the guide itself is dropped later; only a guide
that a sample lacks does not point at anything.
"""

from __future__ import annotations

from .avga import AVGA
from .avsdn import AVSDN
from .base import SegmentArchitecture
from .psp import PSP

SEGMENT_ARCHITECTURES: dict[str, type[SegmentArchitecture]] = {"avga": AVGA, "avsdn": AVSDN, "psp": PSP}

__all__ = ["AVGA", "AVSDN", "PSP", "SEGMENT_ARCHITECTURES", "SegmentArchitecture"]
