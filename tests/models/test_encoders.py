import math

import pytest
import torch
from torch import nn
from transformers import AutoModel, BertConfig, ResNetConfig, ViTConfig, Wav2Vec2Config

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.configuration_multimodal import build_encoder_config
from hf_bml.models.encoders import build_encoder, masked_mean, sinusoidal_positions

TINY_BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
}


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


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"type": "timm", "architecture": "resnet18", "in_channels": 1}, (2, 3, 32, 32)),
        ({"type": "conv", "in_channels": 3}, (2, 1, 8, 8)),
        ({"type": "conv", "in_channels": 3}, (2, 3)),
        ({"type": "sequence", "input_size": 4, "hidden_size": 8}, (2, 6, 5)),
    ],
)
def test_wrong_input_shape_names_expected_and_found(options, shape):
    model = MultimodalForClassification(MultimodalConfig(modalities={"visual": options}, num_labels=2))
    with pytest.raises(ValueError, match=r"Modality 'visual': expected .* found \(2, ") as error:
        model(visual=torch.zeros(shape))
    assert str(shape) in str(error.value)


def test_conv_encoder_takes_tiny_images():
    encoder = build_encoder("v", {"type": "conv", "in_channels": 1, "channels": [4, 8, 16, 32]})
    assert encoder(torch.randn(2, 1, 8, 8)).shape == (2, 32)
    assert encoder(torch.randn(2, 1, 3, 1)).shape == (2, 32)


def test_sequence_encoder_ignores_padding():
    torch.manual_seed(0)
    encoder = build_encoder("t", {"type": "sequence", "input_size": 4, "hidden_size": 8, "num_heads": 2}).eval()
    short = torch.randn(1, 3, 4)
    padded = torch.cat([short, torch.full((1, 2, 4), 100.0)], dim=1)
    mask = torch.tensor([[True] * 3 + [False] * 2])
    torch.testing.assert_close(encoder(padded, mask=mask), encoder(short), atol=1e-6, rtol=1e-5)


def test_sequence_encoder_sees_order_but_a_vector_has_none():
    torch.manual_seed(0)
    encoder = build_encoder("t", {"type": "sequence", "input_size": 4, "hidden_size": 8, "num_heads": 2}).eval()
    sequence = torch.randn(1, 5, 4)
    assert not torch.allclose(encoder(sequence), encoder(sequence.flip(1)), atol=1e-4)
    assert encoder(torch.randn(3, 4)).shape == (3, 8)


def test_sinusoidal_positions_of_any_width():
    positions = sinusoidal_positions(4, 5, torch.zeros(1))
    assert positions.shape == (4, 5)
    torch.testing.assert_close(positions[2, :2], torch.tensor([math.sin(2), math.cos(2)]))
    torch.testing.assert_close(positions[0], torch.tensor([0.0, 1, 0, 1, 0]))


def test_masked_mean():
    values = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert masked_mean(values, torch.tensor([[1, 1, 0]])).item() == 2
    assert masked_mean(values[:, :2], None).item() == 2


def test_text_encoder_masked_mean_and_cls():
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 0, 0]])}
    encoder = build_encoder("text", {"type": "transformers", "config": TINY_BERT}).eval()
    hidden = encoder.model(**inputs).last_hidden_state
    torch.testing.assert_close(encoder(**inputs), hidden[:, :3].mean(1))
    encoder.pooling = "cls"
    torch.testing.assert_close(encoder(**inputs), hidden[:, 0])


@pytest.mark.parametrize(
    ("config", "inputs"),
    [
        (
            ViTConfig(
                hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32,
                patch_size=16,
            ),
            {"values": torch.randn(2, 3, 32, 32)},
        ),
        (
            ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
            {"values": torch.randn(2, 3, 32, 32)},
        ),
        (
            Wav2Vec2Config(
                hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[8, 8],
                conv_kernel=[10, 3], conv_stride=[5, 2], num_conv_pos_embeddings=8,
                num_conv_pos_embedding_groups=2, mask_time_prob=0.0,
            ),
            {"values": torch.randn(2, 400), "attention_mask": torch.ones(2, 400, dtype=torch.long)},
        ),
    ],
    ids=["vit", "resnet", "wav2vec2"],
)  # fmt: skip
def test_transformers_vision_and_audio_models(config, inputs):
    encoder = build_encoder("m", {"type": "transformers", "config": config.to_dict()}).eval()
    assert encoder(**inputs).shape == (2, 16)


def test_pretrained_transformers_weights_survive_and_the_checkpoint_is_self_contained(tmp_path):
    torch.manual_seed(0)
    source = AutoModel.from_config(BertConfig(**{k: v for k, v in TINY_BERT.items() if k != "model_type"}))
    source.save_pretrained(tmp_path / "bert")
    config = MultimodalConfig(
        modalities={"text": {"type": "transformers", "model": str(tmp_path / "bert"), "pretrained": True}},
        num_labels=2,
    )
    model = MultimodalForClassification(config)
    for name, parameter in source.named_parameters():
        assert torch.equal(parameter, model.encoders["text"].model.get_parameter(name)), name
    model.save_pretrained(tmp_path / "multimodal")
    (tmp_path / "bert").rename(tmp_path / "gone")
    again = MultimodalForClassification.from_pretrained(tmp_path / "multimodal")
    inputs = {"input_ids": torch.tensor([[5, 6]])}
    assert torch.equal(model.eval()(text=inputs).logits, again.eval()(text=inputs).logits)


def test_pretrained_timm_weights_are_loaded_once_and_not_reinitialised(tmp_path, monkeypatch):
    import timm

    calls = []
    create = timm.create_model

    def fake_create(architecture, pretrained=False, **options):
        model = create(architecture, pretrained=False, **options)
        calls.append(pretrained)
        if pretrained:
            nn.init.constant_(model.conv1.weight, 0.25)
        return model

    monkeypatch.setattr("hf_bml.models.encoders.timm.create_model", fake_create)
    options = {"type": "timm", "architecture": "resnet18", "in_channels": 1, "pretrained": True}
    model = MultimodalForClassification(MultimodalConfig(modalities={"audio": options}, num_labels=2))
    assert (model.encoders["audio"].model.conv1.weight == 0.25).all()
    model.save_pretrained(tmp_path)
    MultimodalForClassification.from_pretrained(tmp_path)
    assert calls == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "tim", "architecture": "resnet18"}, "Did you mean 'timm'"),
        ({"type": "timm"}, "needs the option 'architecture'"),
        ({"type": "timm", "architecture": "resnet18", "channels": 1}, "Did you mean 'in_channels'"),
        ({"type": "transformers"}, "needs `model`"),
        ({"type": "transformers", "config": TINY_BERT, "pretrained": True}, "pretrained: true needs `model`"),
        ({"type": "transformers", "config": TINY_BERT, "pooling": "max"}, "pooling must be"),
        ({"type": "sequence", "input_size": 4, "hidden_size": 10, "num_heads": 4}, "multiple of num_heads"),
        ({"type": "conv", "channels": []}, "channels must be"),
    ],
)
def test_bad_encoder_options(options, message):
    with pytest.raises(ValueError, match=message) as error:
        build_encoder_config("audio", options)
    assert "'audio'" in str(error.value)
