from __future__ import annotations

import pytest
import torch

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.encoders.build import build_encoder


def test_layers_and_sizes():
    encoder = build_encoder("audio", {"type": "mlp", "input_size": 100})
    assert encoder.output_size == 512 and [type(m).__name__ for m in encoder.layers[0]] == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
    ]
    deep = build_encoder("audio", {"type": "mlp", "input_size": 3, "hidden_sizes": [5, 4]}).eval()
    values = torch.randn(2, 3)
    assert deep(values).shape == (2, 4) and (deep(values) >= 0).all()
    torch.testing.assert_close(deep.tokens(values).values[:, 0], deep(values))


def test_checkpoint(tmp_path):
    options = {"type": "mlp", "input_size": 3, "hidden_sizes": [5]}
    model = MultimodalForClassification(MultimodalConfig(modalities={"audio": options}, num_labels=2)).eval()
    model.save_pretrained(tmp_path)
    values = torch.randn(2, 3)
    loaded = MultimodalForClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(audio=values).logits, model(audio=values).logits)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 1), (3,)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 3\), found"):
        build_encoder("audio", {"type": "mlp", "input_size": 3})(torch.zeros(shape))


@pytest.mark.parametrize("sizes", [[], [0], "12", [4, -1]])
def test_wrong_sizes(sizes):
    with pytest.raises(ValueError, match="hidden_sizes must be a list"):
        build_encoder("audio", {"type": "mlp", "input_size": 3, "hidden_sizes": sizes})
