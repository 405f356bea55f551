"""Cross-modal interaction: how encoders exchange information before the fusion head (paper Sec. 4.3.2, Table 3).

| name              | what the modalities exchange                                  | encoders            |
|-------------------|---------------------------------------------------------------|---------------------|
| none              | nothing (late fusion)                                         | any                 |
| `centralnet`      | the features of all stages flow into a central stream         | CNNs (timm, `conv`) |
| `mmtm`            | after the last stages, all of them gate the channels of each  | CNNs (timm, `conv`) |
| `cross_attention` | tokens attend to the other modalities' tokens (VATT-style)    | any                 |

For all of them: a modality that a sample lacks, or that a modulation drops, contributes nothing to the joint path; the
unimodal score runs each modality with the others absent; the parameters of an interaction belong to no modality.
"""

from __future__ import annotations

from .base import Interaction, fill_absent
from .centralnet import CentralNet
from .cross_attention import CrossAttention
from .mmtm import MMTM

INTERACTIONS: dict[str, type[Interaction]] = {
    "centralnet": CentralNet,
    "mmtm": MMTM,
    "cross_attention": CrossAttention,
}

__all__ = ["INTERACTIONS", "MMTM", "CentralNet", "CrossAttention", "Interaction", "fill_absent"]
