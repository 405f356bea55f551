from __future__ import annotations

import math

import pytest
import torch
from tiny import unreached
from tiny_segments import tiny_segment_model, tiny_segments

from hf_bml.models.segments.avsdn import DualResidualFusion


def test_dual_residual_fusion_by_hand():
    """U_audio x = 2 tanh(x), U_visual x = 1: r = (2 tanh(0.5) + 1) / 2."""
    fusion = DualResidualFusion(["audio", "visual"], 1)
    for parameter in fusion.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        fusion.residuals["audio"][0].weight.fill_(1)
        fusion.residuals["audio"][2].weight.fill_(2)
        fusion.residuals["visual"][2].bias.fill_(1)
    shared = (2 * math.tanh(0.5) + 1) / 2
    expected = (math.tanh(0.5 + shared) + math.tanh(-1 + shared)) / 2
    fused = fusion({"audio": torch.tensor([[0.5]]), "visual": torch.tensor([[-1.0]])})
    assert fused.item() == pytest.approx(expected, abs=1e-6)


def test_the_encoders_reach_the_labels_through_the_decoders_start_only():
    """With the fusions cut off, what the encoders say changes nothing, and the decoder starts from zero."""
    model = tiny_segment_model("avsdn").eval()
    inputs, _ = tiny_segments(3)
    for fusion in (model.architecture.hidden_fusion, model.architecture.cell_fusion):
        fusion.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    features = torch.cat([inputs["audio"], inputs["visual"].mean(2)], -1)
    decoded, _ = model.architecture.decoder(features)
    torch.testing.assert_close(model(**inputs).logits, model.architecture.classifier(decoded))


@pytest.mark.parametrize("modalities", [("audio",), ("audio", "visual", "text")])
def test_any_number_of_modalities(modalities):
    model = tiny_segment_model("avsdn", modalities)
    inputs, labels = tiny_segments(4, modalities)
    model(**inputs, labels=labels).loss.backward()
    assert unreached(model) == []
