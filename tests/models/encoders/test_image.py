from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.encoders.build import build_encoder
from hf_bml.models.encoders.image import StageMaps


@pytest.mark.parametrize(("channels", "parameters"), [(1, 11_170_240), (3, 11_176_512), (2, 11_173_376)])
def test_resnet18_has_the_papers_parameter_count(channels, parameters):
    encoder = build_encoder("visual", {"type": "timm", "architecture": "resnet18", "in_channels": channels})
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    assert encoder.output_size == 512


def test_timm_clip_is_the_mean_over_frames():
    encoder = build_encoder("visual", {"type": "timm", "architecture": "resnet18", "in_channels": 3}).eval()
    clip = torch.randn(2, 3, 3, 32, 32)
    expected = torch.stack([encoder(clip[:, frame]) for frame in range(3)]).mean(0)
    torch.testing.assert_close(encoder(clip), expected, atol=1e-5, rtol=1e-4)


def test_frame_mask_excludes_padding_frames():
    encoder = build_encoder("visual", {"type": "conv", "in_channels": 1, "channels": [4]}).eval()
    clip = torch.randn(1, 3, 1, 8, 8)
    mask = torch.tensor([[True, True, False]])
    torch.testing.assert_close(encoder(clip, mask=mask), encoder(clip[:, :2]))


@pytest.mark.parametrize("architecture", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_timm_output_size_is_what_comes_out(architecture):
    encoder = build_encoder("v", {"type": "timm", "architecture": architecture, "in_channels": 3}).eval()
    assert encoder(torch.randn(1, 3, 224, 224)).shape == (1, encoder.output_size)


def test_conv_encoder_takes_tiny_images():
    encoder = build_encoder("v", {"type": "conv", "in_channels": 1, "channels": [4, 8, 16, 32]})
    assert encoder(torch.randn(2, 1, 8, 8)).shape == (2, 32)
    assert encoder(torch.randn(2, 1, 3, 1)).shape == (2, 32)


def test_a_strided_conv_encoder_by_hand():
    """Nine ones around each position of an image of ones, of which the border has fewer; every second one remains."""
    encoder = build_encoder("v", {"type": "conv", "channels": [1], "stride": 2, "pool": False}).eval()
    convolution, norm = encoder.layers[0][0], encoder.layers[0][1]
    nn.init.ones_(convolution.weight)
    norm.eps = 0.0
    maps = encoder.layers(torch.ones(1, 1, 5, 5))
    assert torch.equal(maps[0, 0], torch.tensor([[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]))
    assert torch.equal(encoder.stage(0, torch.ones(1, 1, 5, 5)), maps)
    torch.testing.assert_close(encoder(torch.ones(1, 1, 5, 5)), maps.mean((-2, -1)))


def test_conv_encoder_without_options_is_what_it_was():
    """Convolutions of stride 1, each pooled: the weights and the maps of an encoder written out here."""
    torch.manual_seed(0)
    encoder = build_encoder("v", {"type": "conv", "in_channels": 2, "channels": [3, 4]}).eval()
    torch.manual_seed(0)
    plain = nn.Sequential()
    for before, after in ((2, 3), (3, 4)):
        layer = [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        plain.append(nn.Sequential(*layer)).append(nn.MaxPool2d(2, ceil_mode=True))
    plain.load_state_dict(encoder.layers.state_dict())
    images = torch.randn(2, 2, 7, 9)
    torch.testing.assert_close(encoder(images), plain.eval()(images).mean((-2, -1)))
    assert list(encoder.layers.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize(
    ("option", "message"),
    [({"stride": 0}, "stride must be an integer of at least 1, found 0"), ({"pool": 1}, "pool must be true or false")],
)
def test_bad_options_of_a_conv_encoder(option, message):
    with pytest.raises(ValueError, match=message):
        build_encoder("v", {"type": "conv", **option})


def test_pretrained_timm_weights_are_loaded_once_and_not_reinitialised(tmp_path, monkeypatch):
    calls = []
    create = timm.create_model

    def fake_create(architecture, pretrained=False, **options):
        model = create(architecture, pretrained=False, **options)
        calls.append(pretrained)
        if pretrained:
            nn.init.constant_(model.conv1.weight, 0.25)
        return model

    monkeypatch.setattr("timm.create_model", fake_create)
    options = {"type": "timm", "architecture": "resnet18", "in_channels": 1, "pretrained": True}
    model = MultimodalForClassification(MultimodalConfig(modalities={"audio": options}, num_labels=2))
    assert (model.encoders["audio"].model.conv1.weight == 0.25).all()
    model.save_pretrained(tmp_path)
    MultimodalForClassification.from_pretrained(tmp_path)
    assert calls == [True, False]


def test_stage_maps_average_positions_and_valid_frames_and_scale_all_frames_alike():
    maps = torch.arange(8.0).view(4, 2, 1, 1).expand(4, 2, 2, 3)  # two clips of two frames, two channels
    state = StageMaps(maps, frames=2, mask=torch.tensor([[True, True], [True, False]]))
    assert state.pooled().tolist() == [[1, 2], [4, 5]]
    assert StageMaps(maps).pooled().tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    scaled = state.scaled(torch.tensor([[1.0, 10.0], [100.0, 1000.0]]))
    assert scaled.maps[:, :, 0, 0].tolist() == [[0, 10], [2, 30], [400, 5000], [600, 7000]]
    assert scaled.frames == 2 and scaled.mask is state.mask


def timm_options(architecture):
    return {"type": "timm", "architecture": architecture, "in_channels": 3}


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("resnet18", [64, 64, 128, 256, 512]),
        ("efficientnet_b0", [16, 24, 40, 112, 320]),
        ("mobilenetv3_small_050", [16, 8, 16, 24, 288]),
        ("convnext_atto", [40, 80, 160, 320]),
    ],
)
def test_stages_are_those_of_the_timm_model(architecture, sizes):
    torch.manual_seed(0)
    encoder = build_encoder("v", timm_options(architecture), staged=True).eval()
    assert encoder.stage_sizes == sizes and encoder.output_size == encoder.token_size == sizes[-1]
    whole = timm.create_model(architecture).eval()
    weights = {
        name.removeprefix("model.").replace("blocks_", "blocks.").replace("stages_", "stages."): value
        for name, value in encoder.state_dict().items()
    }
    weights = {name.replace("stem_", "stem."): value for name, value in weights.items()}
    assert not whole.load_state_dict(weights, strict=False).unexpected_keys
    images = torch.randn(2, 3, 64, 64)
    expected = whole.forward_intermediates(images, intermediates_only=True)
    state = encoder.images(images)
    for index, size in enumerate(sizes):
        state = encoder.run_stages([index], state)
        assert state.maps.shape[1] == size
    torch.testing.assert_close(state.maps, expected[-1])
    torch.testing.assert_close(encoder(images), expected[-1].mean((-2, -1)))


@pytest.mark.parametrize("options", [timm_options("resnet18"), {"type": "conv", "in_channels": 3}])
def test_the_stages_make_the_encoder(options):
    torch.manual_seed(0)
    encoder = build_encoder("v", options, staged=True).eval()
    whole = build_encoder("v", options).eval()
    whole.load_state_dict(encoder.state_dict())  # the same names
    clip, mask = torch.randn(2, 3, 3, 32, 32), torch.tensor([[True, True, False], [True, False, False]])
    state = encoder.run_stages(range(len(encoder.stage_sizes)), encoder.images(clip, mask))
    torch.testing.assert_close(state.pooled(), whole(clip, mask))
    torch.testing.assert_close(encoder(clip, mask), whole(clip, mask))


def test_tokens_have_the_dropout_of_features():
    torch.manual_seed(0)
    encoder = build_encoder("v", {**timm_options("resnet18"), "dropout": 0.5})
    images = torch.randn(4, 3, 64, 64)
    plain = encoder.eval().tokens(images).values
    with torch.no_grad():
        encoder.dropout.train()
        dropped = encoder.tokens(images).values
    assert (dropped == 0).float().mean() - (plain == 0).float().mean() > 0.1
    torch.testing.assert_close(dropped[dropped != 0], 2 * plain[dropped != 0])


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mixer_s16_224"])
def test_models_that_do_not_run_in_stages(architecture):
    with pytest.raises(ValueError, match=f"modality 'v'.*'{architecture}' does not run stage by stage.*Use resnet18"):
        build_encoder("v", timm_options(architecture), staged=True)


@pytest.mark.parametrize(
    "options",
    [{"type": "sequence", "input_size": 4}, {"type": "transformers", "config": {"model_type": "bert"}}],
    ids=lambda options: options["type"],
)
def test_types_that_do_not_run_in_stages(options):
    with pytest.raises(ValueError, match=r"modality 'v': type .* does not run stage by stage.*\['timm', 'conv'\]"):
        build_encoder("v", options, staged=True)


@pytest.mark.parametrize(
    ("options", "size", "length"),
    [
        ({"type": "conv", "in_channels": 3, "channels": [4, 8]}, 16, 16),
        (timm_options("resnet18"), 64, 4),
        (timm_options("swin_tiny_patch4_window7_224"), 224, 49),  # channels last
    ],
    ids=["conv", "resnet18", "swin"],
)
def test_tokens_are_the_positions_of_the_last_maps(options, size, length):
    torch.manual_seed(0)
    encoder = build_encoder("v", options).eval()
    images = torch.randn(2, 3, size, size)
    tokens = encoder.tokens(images)
    assert tokens.values.shape == (2, length, encoder.token_size) and tokens.mask is None
    torch.testing.assert_close(tokens.values.mean(1), encoder(images), atol=1e-5, rtol=1e-4)


def test_tokens_of_a_clip_are_those_of_its_frames():
    encoder = build_encoder("v", {"type": "conv", "in_channels": 1, "channels": [4]}).eval()
    clip, mask = torch.randn(2, 3, 1, 4, 6), torch.tensor([[1, 1, 1], [1, 0, 0]])
    tokens = encoder.tokens(clip, mask)
    assert tokens.values.shape == (2, 18, 4)
    torch.testing.assert_close(tokens.values[:, 6:12], encoder.tokens(clip[:, 1]).values)
    assert tokens.mask.tolist() == [[True] * 18, [True] * 6 + [False] * 12]


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto"])
def test_tokens_of_other_timm_models(architecture):
    encoder = build_encoder("v", timm_options(architecture)).eval()
    values = encoder.tokens(torch.randn(1, 3, 224, 224)).values
    length = 14 * 14 + 1 if architecture.startswith("vit") else 7 * 7
    assert values.shape == (1, length, encoder.token_size)
