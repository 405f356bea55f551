import copy

import pytest
import torch

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.encoders import build_encoder
from hf_bml.models.segment_networks import temporal_shift

THIN = {"type": "timm", "architecture": "resnet18", "model_args": {"channels": [8, 8, 8, 8]}}
CLIP = torch.arange(1.0, 4).view(3, 1, 1, 1).expand(3, 8, 1, 1)  # frame t holds t in every channel


def test_shift_of_one_channel_each_way():
    shifted = temporal_shift(CLIP, 3).flatten(1).T.tolist()
    assert shifted == [[2, 3, 0], [0, 1, 2], *[[1, 2, 3]] * 6]


def test_padding_frames_count_as_zeros_and_clips_do_not_mix():
    mask = torch.tensor([[True, True, False], [True, True, True]])
    shifted = temporal_shift(torch.cat([CLIP, CLIP]), 3, mask=mask).flatten(1).T.tolist()
    assert shifted[:3] == [[2, 0, 0, 2, 3, 0], [0, 1, 2, 0, 1, 2], [1, 2, 3, 1, 2, 3]]


@pytest.mark.parametrize("staged", [False, True])
def test_shifting_encoder_sees_order_and_ignores_padding(staged):
    torch.manual_seed(0)
    encoder = build_encoder("v", {**THIN, "temporal_shift": True}, staged=staged).eval()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # timm's residual branches start at zero
    clip = torch.randn(2, 3, 3, 32, 32)
    assert not torch.allclose(encoder(clip), encoder(clip.flip(1)), atol=1e-4)
    padded = torch.cat([clip, torch.full_like(clip[:, :1], 50.0)], dim=1)
    mask = torch.tensor([[True, True, True, False]] * 2)
    torch.testing.assert_close(encoder(padded, mask), encoder(clip), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(copy.deepcopy(encoder)(clip), encoder(clip))
    assert sum("conv1.0" in name for name, _ in encoder.named_modules()) == 8


def test_partial_batch_norm_survives_training_mode_and_checkpoints(tmp_path):
    options = {**THIN, "partial_batch_norm": True, "temporal_shift": True, "dropout": 0.5}
    config = MultimodalConfig(modalities={"visual": options}, num_labels=2)
    model = MultimodalForClassification(config)
    model.save_pretrained(tmp_path)
    loaded = MultimodalForClassification.from_pretrained(tmp_path)
    clip = torch.randn(1, 3, 3, 32, 32)
    torch.testing.assert_close(loaded.eval()(visual=clip).logits, model.eval()(visual=clip).logits)
    for candidate in (model, loaded):
        candidate.eval().train()
        norms = [m for m in candidate.encoders["visual"].modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert [norm.training for norm in norms] == [True] + [False] * (len(norms) - 1)
        assert [norm.weight.requires_grad for norm in norms] == [True] + [False] * (len(norms) - 1)
        candidate(visual=torch.randn(2, 3, 3, 32, 32), labels=torch.tensor([0, 1])).loss.backward()
        for name, parameter in candidate.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "mobilenetv3_small_050", "temporal_shift": True}, "residual blocks of a timm ResNet"),
        ({"architecture": "vit_tiny_patch16_224", "partial_batch_norm": True}, "needs batch normalisation"),
        ({"shift_fraction": 0.6}, r"shift_fraction must be in \(0, 0.5\]"),
        ({"temporal_shift": 1}, "temporal_shift must be true or false"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        build_encoder("v", {"type": "timm", "architecture": "resnet18", **options})


def test_no_dropout_in_stages():
    with pytest.raises(ValueError, match="runs stage by stage"):
        build_encoder("v", {**THIN, "dropout": 0.5}, staged=True)
