"""With every modality absent a model still predicts: the empty coalition of Shapley values."""

from __future__ import annotations

import pytest
import torch
from tiny import scrambled, tiny_image_config, tiny_images

from hf_bml import MultimodalForClassification


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fusion": "sum"},
        {"fusion": "film"},
        {"fusion": "gated"},
        {"fusion": "product", "unimodal_prediction": "probe"},
        {"head_hidden_sizes": [8]},
        {"interaction": "centralnet", "interaction_options": {"stages": 3}},
        {"interaction": "mmtm", "interaction_options": {"stages": 2}},
        {"interaction": "cross_attention"},
    ],
    ids=str,
)
def test_the_prediction_is_the_same_for_all_inputs(options):
    torch.manual_seed(0)
    model = scrambled(MultimodalForClassification(tiny_image_config(**options))).eval()
    with torch.no_grad():
        logits = model(**tiny_images(), modality_mask=torch.zeros(4, 2, dtype=torch.bool)).logits
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits, logits[:1].expand(4, -1))
