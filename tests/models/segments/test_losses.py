from __future__ import annotations

import math

import pytest
import torch
from tiny_segments import tiny_segment_config, tiny_segment_model, tiny_segments

from hf_bml.ground.task import cross_entropy
from hf_bml.models.segments.losses import (
    event_shares,
    event_similarities,
    pair_similarity_loss,
    softmax_margins,
)


def test_cross_entropy_is_the_mean_over_segments():
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert cross_entropy(logits, torch.tensor([[1, 0]])).item() == pytest.approx(expected)


def test_soft_margin_of_the_softmax():
    """p = (0.25, 0.75), class 1: the mean over classes of log(1 + exp(p_0)) and log(1 + exp(-p_1))."""
    logits = torch.tensor([[[0.0, math.log(3)]]])
    expected = (math.log(1 + math.exp(0.25)) + math.log(1 + math.exp(-0.75))) / 2
    assert softmax_margins(logits, torch.tensor([[1]])).item() == pytest.approx(expected)


def test_similarities_are_cosines_spread_over_the_clip():
    first = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [1.0, 1.0]]])
    second = torch.tensor([[[3.0, 0.0], [-1.0, 0.0], [0.0, 5.0]]])
    cosine = 1 / math.sqrt(2)
    expected = torch.tensor([[1.0, 0.0, cosine]]) / (1 + cosine)  # the negative one counts as 0
    torch.testing.assert_close(event_similarities(first, second), expected)


def test_pair_similarity_by_hand():
    first = second = torch.ones(1, 4, 2)  # similarity 1/4 each; two of four segments hold the event
    labels = torch.tensor([[2, 0, 0, 2]])
    assert pair_similarity_loss(first, second, labels, background=2).item() == pytest.approx(0.0625)
    torch.testing.assert_close(event_shares(labels, 2), torch.tensor([[0.0, 0.5, 0.5, 0.0]]))
    assert torch.equal(event_shares(torch.full((1, 4), 2), 2), torch.zeros(1, 4))  # a clip without event


def test_published_losses_in_the_model():
    inputs, labels = tiny_segments(4)
    model = tiny_segment_model("psp", segment_loss="pair_similarity").eval()
    output = model(**inputs, labels=labels)
    branches = model.architecture(model.encoders, output.features).branches
    pair = pair_similarity_loss(*branches.values(), labels, background=2)
    torch.testing.assert_close(output.loss, cross_entropy(output.logits, labels) + 100 * pair)
    model = tiny_segment_model("avga", segment_loss="soft_margin").eval()
    output = model(**inputs, labels=labels)
    torch.testing.assert_close(output.loss, softmax_margins(output.logits, labels).mean())


def test_half_precision_is_widened():
    logits = torch.randn(2, 3, 4).to(torch.bfloat16)
    labels = torch.zeros(2, 3, dtype=torch.long)
    for loss in (cross_entropy(logits, labels), softmax_margins(logits, labels).mean()):
        assert loss.dtype == torch.float32
    assert event_similarities(logits, logits).dtype == torch.float32


def test_bad_losses():
    with pytest.raises(ValueError, match=r"segment_loss must be one of .*'soft_margn'. Did you mean 'soft_margin'"):
        tiny_segment_config("avga", segment_loss="soft_margn")
    with pytest.raises(ValueError, match="compares the branches of psp, which architecture 'avga' does not have"):
        tiny_segment_config("avga", segment_loss="pair_similarity")
