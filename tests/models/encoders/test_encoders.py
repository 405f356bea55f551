from __future__ import annotations

import pytest
import torch
from tiny import TINY_BERT
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    MobileNetV2Config,
    ResNetConfig,
    T5Config,
    TimesformerConfig,
    VideoMAEConfig,
    ViTConfig,
    Wav2Vec2Config,
    WhisperConfig,
)

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.configuration_multimodal import build_encoder_config
from hf_bml.models.encoders.build import build_encoder

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TINY_VIT = ViTConfig(**TINY, image_size=32, patch_size=16).to_dict()
TINY_T5 = T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=50).to_dict()
TINY_WHISPER = WhisperConfig(
    d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=10, vocab_size=50, pad_token_id=0,
    bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
).to_dict()  # fmt: skip
TINY_MOBILENET = MobileNetV2Config(depth_multiplier=0.25, image_size=32).to_dict()


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


@pytest.mark.parametrize(
    ("config", "inputs"),
    [
        (TINY_T5, {"input_ids": torch.tensor([[5, 6, 7, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 0, 0]])}),
        (TINY_WHISPER, {"input_features": torch.randn(1, 8, 20)}),
    ],
    ids=["t5", "whisper"],
)
def test_only_the_encoder_of_an_encoder_decoder_model_is_kept(config, inputs, tmp_path):
    """Its features, its pretrained weights, and its checkpoint."""
    source = AutoModel.from_config(AutoConfig.for_model(**config)).eval()
    source.save_pretrained(tmp_path / "source")
    options = {"type": "transformers", "model": str(tmp_path / "source"), "pretrained": True}
    model = MultimodalForClassification(MultimodalConfig(modalities={"m": options}, num_labels=2)).eval()
    hidden = source.get_encoder()(**inputs).last_hidden_state
    expected = hidden[:, : inputs["attention_mask"].sum()] if "attention_mask" in inputs else hidden
    output = model(m=inputs)
    torch.testing.assert_close(output.features["m"], expected.mean(1))
    assert not any("decoder" in name for name, _ in model.named_parameters())
    output.logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.save_pretrained(tmp_path / "multimodal")
    (tmp_path / "source").rename(tmp_path / "gone")
    again = MultimodalForClassification.from_pretrained(tmp_path / "multimodal").eval()
    assert torch.equal(again(m=inputs).logits, output.logits)


def test_whisper_averages_the_positions_of_the_attention_mask():
    encoder = build_encoder("audio", {"type": "transformers", "config": TINY_WHISPER}).eval()
    values, mask = torch.randn(1, 8, 20), torch.tensor([[1] * 12 + [0] * 8])
    hidden = encoder.model(values).last_hidden_state
    torch.testing.assert_close(encoder(values, attention_mask=mask), hidden[:, :6].mean(1))


def test_output_size_is_the_way_out_where_the_config_has_none():
    options = {"type": "transformers", "config": TINY_MOBILENET}
    with pytest.raises(ValueError, match=r"modality 'm'.*'mobilenet_v2' model has no hidden_sizes.* output_size"):
        build_encoder("m", dict(options))
    with pytest.raises(ValueError, match=r"size 7 from a 'mobilenet_v2' model, found 1280: .*output_size to 1280"):
        build_encoder("m", {**options, "output_size": 7}).eval()(torch.randn(1, 3, 32, 32))
    encoder = build_encoder("m", {**options, "output_size": 1280}).eval()
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, 1280)


def test_an_image_model_averages_a_clip_over_frames():
    encoder = build_encoder("visual", {"type": "transformers", "config": TINY_VIT}).eval()
    clip = torch.randn(2, 3, 3, 32, 32)
    expected = torch.stack([encoder(clip[:, frame]) for frame in range(3)], 1)
    torch.testing.assert_close(encoder(clip), expected.mean(1))
    torch.testing.assert_close(encoder(pixel_values=clip), expected.mean(1))
    mask = torch.tensor([[True, True, False]] * 2)
    torch.testing.assert_close(encoder(clip, mask=mask), expected[:, :2].mean(1))
    with pytest.raises(ValueError, match="frames of a clip"):
        encoder(clip[:, 0], mask=mask)


@pytest.mark.parametrize(
    "config",
    [
        VideoMAEConfig(**TINY, image_size=32, patch_size=16, num_frames=4),
        TimesformerConfig(**TINY, image_size=32, patch_size=16, num_frames=4),
    ],
    ids=["videomae", "timesformer"],
)
def test_a_video_model_sees_the_clip(config):
    encoder = build_encoder("visual", {"type": "transformers", "config": config.to_dict()}).eval()
    clip = torch.randn(2, 4, 3, 32, 32)
    hidden = encoder.model(pixel_values=clip).last_hidden_state
    torch.testing.assert_close(encoder(clip), hidden.mean(1))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"type": "transformers", "model": "no/such/repo"}, "'no/such/repo'.* Hub"),
        ({"type": "transformers", "model": "no/such/repo", "pretrained": True}, "'no/such/repo'.* Hub"),
        ({"type": "transformers", "config": {**TINY_BERT, "hidden_size": "a"}}, "hidden_size"),
        ({"type": "timm", "architecture": "resnet18.none_such"}, "'resnet18.none_such'.*Invalid pretrained tag"),
        ({"type": "timm", "architecture": "hf-hub:no/such"}, "'hf-hub:no/such'.* Hub"),
        ({"type": "timm", "architecture": "resnet18", "model_args": {"chanels": 1}}, "'resnet18'.*chanels"),
    ],
)
def test_models_that_cannot_be_loaded_name_modality_and_id(options, found):
    config = MultimodalConfig(modalities={"audio": options}, num_labels=2)
    with pytest.raises(ValueError, match=f"(?s)modality 'audio': the .*{found}"):
        MultimodalForClassification(config)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k"])
def test_timm_names_that_are_valid(architecture):
    config = build_encoder_config("visual", {"type": "timm", "architecture": architecture})
    assert config.architecture == architecture


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "timm", "architecture": "resnet81"}, "architecture must be .* found 'resnet81'. Did you mean 'resn"),
        (
            {"type": "timm", "architecture": "resnt18.a1_in1k"},
            "architecture must be .* 'resnt18.a1_in1k'. Did you mean 'resnet18'",
        ),
        ({"type": "timm", "architecture": 18}, "architecture must be .* found 18"),
        ({"type": "timm", "architecture": "resnet18", "in_channels": 0}, "in_channels must be .* at least 1, found 0"),
        ({"type": "conv", "in_channels": 0}, "in_channels must be .* at least 1, found 0"),
        ({"type": "conv", "channels": 8}, "channels must be a list of positive integers, .* found 8"),
        ({"type": "conv", "channels": ["a"]}, r"channels must be a list of positive integers, .* found \['a'\]"),
        ({"type": "conv", "channels": "8"}, "channels must be a list of positive integers, .* found '8'"),
        ({"type": "sequence", "input_size": 0}, "input_size must be .* at least 1, found 0"),
        ({"type": "sequence", "input_size": "4"}, "input_size must be .* found '4'"),
        ({"type": "sequence", "input_size": 4, "num_heads": 0}, "num_heads must be .* found 0"),
        ({"type": "sequence", "input_size": 4, "num_heads": "2"}, "num_heads must be .* found '2'"),
        ({"type": "sequence", "input_size": 4, "hidden_size": 0}, "hidden_size must be .* found 0"),
        ({"type": "sequence", "input_size": 4, "num_layers": -1}, "num_layers must be .* at least 0, found -1"),
        ({"type": "sequence", "input_size": 4, "feedforward_size": 0}, "feedforward_size must be .* found 0"),
        ({"type": "sequence", "input_size": 4, "dropout": "a"}, r"dropout must be in \[0, 1\), found 'a'"),
        ({"type": "transformers", "config": {"model_type": "brt"}}, "model_type must be .* found 'brt'. Did you mean"),
        ({"type": "transformers", "config": {"model_type": ["bert"]}}, "model_type must be"),
        ({"type": "transformers", "config": "bert"}, ".* `config` a dict .* found .*'bert'"),
        ({"type": "transformers", "model": 3}, "`model` must be .* found model=3"),
        ({"type": "transformers", "config": TINY_BERT, "output_size": 0}, "output_size must be .* found 0"),
    ],
)
def test_bad_encoder_values_are_found_by_the_model_config(options, message):
    with pytest.raises(ValueError, match=f"modality 'audio': {message}"):
        MultimodalConfig(modalities={"audio": options})


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


def test_tokens_are_what_the_feature_averages():
    torch.manual_seed(0)
    sequence = build_encoder("t", {"type": "sequence", "input_size": 4, "hidden_size": 8, "num_heads": 2}).eval()
    values, mask = torch.randn(2, 5, 4), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    tokens = sequence.tokens(values, mask)
    assert tokens.values.shape == (2, 5, 8) and torch.equal(tokens.mask, mask.bool())
    torch.testing.assert_close(tokens.mean(), sequence(values, mask))
    assert sequence.tokens(values[:, 0]).values.shape == (2, 1, 8)

    text = build_encoder("text", {"type": "transformers", "config": TINY_BERT}).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 0, 0]])}
    tokens = text.tokens(**inputs)
    assert tokens.values.shape == (1, 5, 16) and tokens.mask.tolist() == [[True, True, True, False, False]]
    torch.testing.assert_close(tokens.mean(), text(**inputs))
    assert text.tokens(inputs["input_ids"]).mask is None

    whisper = build_encoder("audio", {"type": "transformers", "config": TINY_WHISPER}).eval()
    tokens = whisper.tokens(torch.randn(1, 8, 20), attention_mask=torch.tensor([[1] * 12 + [0] * 8]))
    assert tokens.mask.tolist() == [[True] * 6 + [False] * 4]  # as long as the hidden states


def test_tokens_of_a_clip_that_an_image_model_sees():
    encoder = build_encoder("visual", {"type": "transformers", "config": TINY_VIT}).eval()
    clip, mask = torch.randn(2, 3, 3, 32, 32), torch.tensor([[True, True, False]] * 2)
    tokens = encoder.tokens(clip, mask=mask)
    assert tokens.values.shape == (2, 3 * 5, 16) and tokens.mask[0].tolist() == [True] * 10 + [False] * 5
    torch.testing.assert_close(tokens.values[:, 5:10], encoder.tokens(clip[:, 1]).values)
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic").to_dict()
    maps = build_encoder("visual", {"type": "transformers", "config": resnet}).eval().tokens(clip[:, 0])
    assert maps.values.shape == (2, 16, 16)  # 4 x 4 positions


def text_model(folder, dtype=torch.float32, **options):
    """A BERT that is saved in `folder` in a dtype, and a model that starts from it."""
    torch.manual_seed(0)
    bert = BertConfig(**{key: value for key, value in TINY_BERT.items() if key != "model_type"})
    AutoModel.from_config(bert).to(dtype).save_pretrained(folder / "bert")
    options = {"type": "transformers", "model": str(folder / "bert"), "pretrained": True, **options}
    return MultimodalForClassification(MultimodalConfig(modalities={"text": options}, num_labels=2))


def test_one_dtype_for_the_whole_model_whatever_was_stored(tmp_path):
    model = text_model(tmp_path, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    model.config.modalities["text"]["config"]["dtype"] = "float32"  # as configs were stored once
    model.save_pretrained(tmp_path / "model")
    again = MultimodalForClassification.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    assert again(text=torch.tensor([[5, 6]])).logits.dtype == torch.bfloat16
    assert "dtype" not in again.config.modalities["text"]["config"]


def test_what_transformers_keeps_in_float32_stays_so(tmp_path):
    """T5's output layers overflow in float16."""
    config = MultimodalConfig(modalities={"text": {"type": "transformers", "config": TINY_T5}}, num_labels=2)
    MultimodalForClassification(config).save_pretrained(tmp_path)
    model = MultimodalForClassification.from_pretrained(tmp_path, dtype=torch.float16)
    kept = [name for name, p in model.named_parameters() if p.dtype == torch.float32]
    assert kept and all(name.endswith("wo.weight") for name in kept)


def test_the_attention_implementation_reaches_the_encoders(tmp_path):
    def used(model):
        return model.encoders["text"].model.config._attn_implementation

    model = text_model(tmp_path)
    model.save_pretrained(tmp_path / "model")
    load = MultimodalForClassification.from_pretrained
    assert used(model) == used(load(tmp_path / "model")) == "sdpa"
    assert used(load(tmp_path / "model", attn_implementation="eager")) == "eager"
    assert used(MultimodalForClassification(model.config)) == "sdpa"  # a config keeps no default as a request
    model.set_attn_implementation("eager")
    assert used(model) == "eager"
    own = text_model(tmp_path, attn_implementation="eager")
    own.save_pretrained(tmp_path / "own")
    assert used(own) == used(load(tmp_path / "own", attn_implementation="sdpa")) == "eager"
    with pytest.raises(ValueError, match=r"attn_implementation must be a name .* found 3"):
        MultimodalConfig(modalities={"text": {"type": "transformers", "config": TINY_BERT, "attn_implementation": 3}})


def test_an_encoder_without_the_attention_that_was_asked_for(tmp_path):
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic").to_dict()
    config = MultimodalConfig(modalities={"visual": {"type": "transformers", "config": resnet}}, num_labels=2)
    MultimodalForClassification(config).save_pretrained(tmp_path)
    load = MultimodalForClassification.from_pretrained
    with pytest.raises(ValueError, match="'sdpa' does not work for the encoder of modality 'visual'"):
        load(tmp_path, attn_implementation="sdpa")
    config.modalities["visual"]["attn_implementation"] = "eager"
    load(tmp_path, config=config, attn_implementation="sdpa")
