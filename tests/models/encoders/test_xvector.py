from __future__ import annotations

import pytest
import torch
from tiny import unreached

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.encoders.build import build_encoder
from hf_bml.models.encoders.xvector import statistics_pooling

SMALL = {"type": "xvector", "num_bins": 4, "hidden_size": 6, "pooled_size": 5}


def test_fourteen_frames_are_lost_and_sizes_are_the_originals():
    encoder = build_encoder("audio", {"type": "xvector", "num_bins": 24}).eval()
    assert encoder.tokens(torch.randn(1, 1, 24, 299)).values.shape == (1, 285, 1500)
    assert encoder.segment[0].in_features == 3000
    assert encoder(torch.randn(1, 1, 24, 15)).shape == (1, 512)


def test_statistics_are_biased_and_leave_padding_out():
    values = torch.tensor([[[1.0], [3.0], [100.0]]])
    pooled = statistics_pooling(values, torch.tensor([[True, True, False]]), eps=0.0)
    assert pooled.tolist() == [[2, 1]]


def test_padding_frames_do_not_count():
    torch.manual_seed(0)
    encoder = build_encoder("audio", SMALL).eval()
    short = torch.randn(2, 1, 4, 20)
    padded = torch.cat([short, torch.full((2, 1, 4, 5), 50.0)], dim=-1)
    mask = torch.tensor([[True] * 20 + [False] * 5] * 2)
    torch.testing.assert_close(encoder(padded, mask), encoder(short), atol=1e-5, rtol=1e-4)


def test_gradient_reaches_every_parameter_and_a_checkpoint_predicts_the_same(tmp_path):
    model = MultimodalForClassification(MultimodalConfig(modalities={"audio": SMALL}, num_labels=2))
    audio = torch.randn(8, 1, 4, 30)
    model.train()(audio=audio, labels=torch.tensor([0, 1] * 4)).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters()) and unreached(model) == []
    model.save_pretrained(tmp_path)
    loaded = MultimodalForClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.eval()(audio=audio).logits, model.eval()(audio=audio).logits)


@pytest.mark.parametrize("shape", [(2, 1, 4, 14), (2, 1, 5, 20), (2, 4, 20)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 1, 4, at least 15 frames\), found"):
        build_encoder("audio", SMALL)(torch.zeros(shape))
