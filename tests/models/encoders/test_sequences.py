from __future__ import annotations

import math

import torch

from hf_bml.models.encoders.sequences import (
    Tokens,
    frames_as_one_sequence,
    masked_mean,
    positions_as_tokens,
    sinusoidal_positions,
)


def test_sinusoidal_positions_of_any_width():
    positions = sinusoidal_positions(4, 5, torch.zeros(1))
    assert positions.shape == (4, 5)
    torch.testing.assert_close(positions[2, :2], torch.tensor([math.sin(2), math.cos(2)]))
    torch.testing.assert_close(positions[0], torch.tensor([0.0, 1, 0, 1, 0]))


def test_masked_mean():
    values = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert masked_mean(values, torch.tensor([[1, 1, 0]])).item() == 2
    assert masked_mean(values[:, :2], None).item() == Tokens(values[:, :2]).mean().item() == 2


def test_positions_as_tokens():
    maps = torch.arange(12.0).view(1, 2, 2, 3)  # channel, row, column
    assert positions_as_tokens(maps).tolist() == [[[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]]]


def test_frames_as_one_sequence():
    tokens = torch.arange(8.0).view(4, 2, 1)  # two clips of two frames of two tokens
    joined = frames_as_one_sequence(tokens, 2, torch.tensor([[1, 1], [1, 0]]))
    assert isinstance(joined, Tokens) and joined.frames == 2
    assert joined.values[..., 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert joined.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert frames_as_one_sequence(tokens, 2, None).mask is None
