from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from hf_bml.models.segments.guided_attention import GuidedAttention, guide_and_guided


def zeroed(module):
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    return module


@pytest.fixture
def values():
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_without_weights_it_is_the_mean_of_the_positions(values):
    attended = zeroed(GuidedAttention(5, 6, 4))(values, torch.randn(2, 3, 6))
    torch.testing.assert_close(attended, values.mean(2))


def test_by_hand():
    """One hidden unit that sees the feature's first entry: z = tanh(relu(x_0) + g), two positions."""
    attention = zeroed(GuidedAttention(2, 1, 2))
    with torch.no_grad():
        attention.project.weight[0, 0] = 1
        attention.from_position.weight[0, 0] = 1
        attention.from_guide.weight.copy_(
            torch.tensor([[0.5], [-0.25]])
        )  # the same guidance, another share a position
        attention.weigh.weight[0, 0] = 2
    values = torch.tensor([[[[1.0, 10.0], [-3.0, 20.0]]]])
    first, second = 2 * math.tanh(1 + 0.5 * 2), 2 * math.tanh(0 - 0.25 * 2)
    share = math.exp(first) / (math.exp(first) + math.exp(second))
    weights = attention.weights(values, torch.full((1, 1, 1), 2.0))
    torch.testing.assert_close(weights[0, 0, 0].item(), share, rtol=1e-4, atol=1e-5)
    attended = attention(values, torch.full((1, 1, 1), 2.0))
    torch.testing.assert_close(attended[0, 0, 1].item(), share * 10 + (1 - share) * 20, rtol=1e-4, atol=1e-4)


def test_no_guidance_is_guidance_of_zero(values):
    attention = GuidedAttention(5, 6, 4)
    torch.testing.assert_close(attention(values, None), attention(values, torch.zeros(2, 3, 6)))
    assert not torch.allclose(attention(values, None), attention(values, torch.ones(2, 3, 6)))


def test_another_number_of_positions():
    with pytest.raises(ValueError, match=r"expected 49 positions per segment, found 1. .*positions: 1.*regions: true"):
        GuidedAttention(5, 6, 49)(torch.zeros(2, 3, 1, 5), None)


@pytest.mark.parametrize(
    ("guide", "guided", "expected"),
    [
        (None, None, ("a", "b")),
        ("c", None, ("c", "a")),
        (None, "a", ("b", "a")),
        (None, "c", ("a", "c")),
        ("b", "a", ("b", "a")),
    ],
)
def test_roles(guide, guided, expected):
    assert guide_and_guided(SimpleNamespace(guide=guide, guided=guided), ["a", "b", "c"]) == expected


@pytest.mark.parametrize(
    ("guide", "guided", "modalities", "message"),
    [
        ("adio", None, ["audio", "visual"], "guide must be one of .*'adio'. Did you mean 'audio'"),
        ("audio", "audio", ["audio", "visual"], "guide and guided must be two modalities, found 'audio' for both"),
        (None, None, ["audio"], r"two or more, found \['audio'\]"),
    ],
)
def test_bad_roles(guide, guided, modalities, message):
    with pytest.raises(ValueError, match=message):
        guide_and_guided(SimpleNamespace(guide=guide, guided=guided), modalities)
