from __future__ import annotations

import pytest
import torch
from tiny import unreached
from torch import nn

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.encoders.build import build_encoder
from hf_bml.models.encoders.tsn_tsm import TimeAxisShift

SMALL = {"type": "multi_window", "num_windows": 2, "model_args": {"channels": [8, 8, 8, 16], "zero_init_last": False}}


def test_channels_move_along_the_last_axis():
    maps = torch.tensor([1.0, 2.0, 3.0]).expand(1, 8, 5, 3)  # the same in all channels and frequencies
    shifted = TimeAxisShift(1 / 8)(maps)
    assert shifted[0, :, 4].tolist() == [[2, 3, 0], [0, 1, 2], *[[1, 2, 3]] * 6]


def test_size_and_number_of_shifts_of_the_default():
    encoder = build_encoder("audio", {"type": "multi_window"}).eval()
    assert encoder(torch.randn(1, 3, 65, 60)).shape == (1, 512) and encoder.output_size == 512
    assert sum(isinstance(module, TimeAxisShift) for module in encoder.modules()) == 8
    assert encoder.model.conv1.in_channels == 1


def test_the_feature_is_a_weighted_mean_over_windows():
    torch.manual_seed(0)
    encoder = build_encoder("audio", SMALL).eval()
    values = torch.randn(3, 2, 32, 32)
    parts = [encoder.model(values[:, [window]]) for window in (0, 1)]
    torch.testing.assert_close(encoder(values), (parts[0] + parts[1]) / 2)
    with torch.no_grad():
        encoder.window_scores.copy_(torch.tensor([3.0, 1.0]).log())
    torch.testing.assert_close(encoder(values), 0.75 * parts[0] + 0.25 * parts[1])
    torch.testing.assert_close(encoder.tokens(values).values.mean(1), encoder(values))


def test_gradient_reaches_every_parameter_and_a_checkpoint_predicts_the_same(tmp_path):
    config = MultimodalConfig(modalities={"audio": SMALL}, num_labels=2)
    model = MultimodalForClassification(config)
    nn.init.normal_(model.encoders["audio"].window_scores)
    audio = torch.randn(4, 2, 32, 32)
    model.train()(audio=audio, labels=torch.tensor([0, 1] * 2)).loss.backward()
    assert unreached(model) == []
    model.save_pretrained(tmp_path)
    loaded = MultimodalForClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.eval()(audio=audio).logits, model.eval()(audio=audio).logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_windows": 0}, "num_windows must be an integer of at least 1"),
        ({"architecture": "resnet1888"}, "Did you mean 'resnet1"),
        ({"architecture": "vit_tiny_patch16_224"}, "residual blocks of a timm ResNet"),
        ({"shift_fraction": 0}, r"shift_fraction must be in \(0, 0.5\]"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        build_encoder("audio", {"type": "multi_window", **options})


def test_wrong_number_of_windows():
    with pytest.raises(ValueError, match=r"expected \(batch, 2, frequencies, frames\), found \(1, 3, 32, 32\)"):
        build_encoder("audio", SMALL)(torch.zeros(1, 3, 32, 32))
