from __future__ import annotations

import copy
import warnings

import pytest
import timm
import torch
from safetensors.torch import save_file

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.encoders.build import build_encoder
from hf_bml.models.encoders.tsn_tsm import temporal_shift
from hf_bml.processing import VideoFrames

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
        ({"average_stem": "yes"}, "average_stem must be true or false"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        build_encoder("v", {"type": "timm", "architecture": "resnet18", **options})


def test_no_dropout_in_stages():
    with pytest.raises(ValueError, match="runs stage by stage"):
        build_encoder("v", {**THIN, "dropout": 0.5}, staged=True)


def test_freezing_layers_of_zeros_is_warned_of():
    with pytest.warns(UserWarning, match="their blocks never contribute.*zero_init_last: false"):
        build_encoder("v", {**THIN, "partial_batch_norm": True})
    options = {**THIN, "model_args": {**THIN["model_args"], "zero_init_last": False}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_encoder("v", {**options, "partial_batch_norm": True})


@pytest.mark.parametrize("staged", [False, True])
def test_the_averaged_stem_takes_the_mean_over_rgb(tmp_path, staged):
    source = timm.create_model("resnet18", channels=[8, 8, 8, 8])
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    weights = {"pretrained_cfg_overlay": {"file": str(tmp_path / "weights.safetensors"), "num_classes": 1000}}
    options = {**THIN, "in_channels": 4, "pretrained": True, "average_stem": True}
    options["model_args"] = {**THIN["model_args"], **weights}
    encoder = build_encoder("flow", options, staged=staged)
    torch.testing.assert_close(
        encoder.model.conv1.weight, source.conv1.weight.mean(1, keepdim=True).expand(-1, 4, -1, -1)
    )
    torch.testing.assert_close(encoder.model.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    own = build_encoder("flow", {**options, "average_stem": False}, staged=staged)
    assert not torch.allclose(own.model.conv1.weight, encoder.model.conv1.weight)


def test_the_shift_sees_the_order_of_a_real_clip(require_data_file):
    """A clip of a person speaking: playing it backwards changes the feature, but only with the shift."""
    clip = require_data_file("clips/grid_s1_bbaf2n.mpg")
    frames = VideoFrames(num_frames=3, sampling="segment", size=64)([clip])[0]
    for shift in (True, False):
        torch.manual_seed(0)
        options = {**THIN, "model_args": {**THIN["model_args"], "zero_init_last": False}, "temporal_shift": shift}
        encoder = build_encoder("v", options).eval()
        forward, backward = encoder(frames[None]), encoder(frames.flip(0)[None])
        assert torch.allclose(forward, backward, atol=1e-5) != shift


def test_consensus_is_the_mean_of_the_segments_scores():
    """TSN: with a linear classifier the mean feature's logits are the mean of each frame's logits."""
    torch.manual_seed(0)
    model = MultimodalForClassification(MultimodalConfig(modalities={"visual": THIN}, num_labels=3)).eval()
    clip = torch.randn(2, 4, 3, 32, 32)
    frames = torch.stack([model(visual=clip[:, frame]).logits for frame in range(4)])
    torch.testing.assert_close(model(visual=clip).logits, frames.mean(0))


def test_the_heads_initial_deviation():
    torch.manual_seed(0)
    stds = []
    for std in (None, 0.001):
        config = MultimodalConfig(modalities={"visual": {**THIN}}, num_labels=400, head_init_std=std)
        classifier = MultimodalForClassification(config).head.classifier[-1]
        assert not classifier.bias.any()
        stds.append(classifier.weight.std().item())
    assert stds == pytest.approx([(2 / 408) ** 0.5, 0.001], rel=0.05)
    with pytest.raises(ValueError, match="head_init_std must be a number above 0, found -1"):
        MultimodalConfig(modalities={"visual": THIN}, num_labels=2, head_init_std=-1)
