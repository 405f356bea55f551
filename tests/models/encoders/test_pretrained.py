"""What a pretrained encoder expects, and which of its parts are trained."""

from __future__ import annotations

import pytest
import timm
import torch
from tiny_checkpoints import LAYERS, MEAN, STD, tiny_bert, tiny_timm, tiny_wav2vec2
from transformers import (
    CLIPImageProcessor,
    ConvNextImageProcessor,
    ViTConfig,
    ViTImageProcessor,
    VivitImageProcessor,
)

from hf_bml import MultimodalConfig, MultimodalForClassification, models
from hf_bml.models.encoders.build import build_encoder, build_encoder_config

IMAGES = ("size", "mean", "std")


def expected_input(wanted, **options):
    return models.expected_input("m", {"pretrained": True, **options}, wanted)


def test_of_timm_models(tmp_path):
    vit = {"type": "timm", "architecture": "vit_small_patch16_384.augreg_in21k_ft_in1k"}
    half = [0.5, 0.5, 0.5]
    assert expected_input(IMAGES, **vit) == {"size": [384, 384], "mean": half, "std": half}
    assert expected_input(IMAGES, **vit, model_args={"img_size": [96, 64]})["size"] == [96, 64]
    assert expected_input(["std"], type="timm", architecture=tiny_timm(tmp_path / "vit")) == {"std": STD}
    assert expected_input(IMAGES, **vit, in_channels=1) == {}, "mean and std are those of colour"
    assert expected_input(IMAGES, **{**vit, "pretrained": False}) == {}


@pytest.mark.parametrize(
    ("images", "size"),
    [
        (ViTImageProcessor(size={"height": 96, "width": 64}, image_mean=MEAN, image_std=STD), [96, 64]),
        (CLIPImageProcessor(image_mean=MEAN, image_std=STD, crop_size=48), [48, 48]),
        (ConvNextImageProcessor(size={"shortest_edge": 64}, image_mean=MEAN, image_std=STD), [64, 64]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_transformers_image_models(images, size, tmp_path):
    images.save_pretrained(tmp_path)
    expected = {"size": size, "mean": MEAN, "std": STD}
    assert expected_input(IMAGES, type="transformers", model=str(tmp_path)) == expected
    config = ViTConfig(**LAYERS, image_size=32).to_dict()
    assert expected_input(IMAGES, type="transformers", config=config, pretrained=False) == {}


def test_another_scale_is_refused(tmp_path):
    VivitImageProcessor().save_pretrained(tmp_path)  # 1 / 127.5
    with pytest.raises(ValueError, match="scales by 1/255"):
        expected_input(IMAGES, type="transformers", model=str(tmp_path))


def test_a_half_precision_checkpoint_is_trained_in_the_models_own(tmp_path):
    options = {
        "type": "transformers",
        "model": tiny_bert(tmp_path / "bert", ["a"], torch.bfloat16),
        "pretrained": True,
    }
    encoder = build_encoder("text", options)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert "dtype" not in options["config"]


def frozen_of(encoder):
    return {name for name, parameter in encoder.model.named_parameters() if not parameter.requires_grad}


def test_frozen_parts_of_bert(tmp_path):
    text = {"type": "transformers", "model": tiny_bert(tmp_path / "bert", ["a"]), "pretrained": True}
    text["freeze"] = ["embeddings", "encoder.layer.[0-0]"]
    sensor = {"type": "sequence", "input_size": 2, "hidden_size": 4, "num_heads": 1, "num_layers": 0}
    model = MultimodalForClassification(MultimodalConfig(modalities={"text": text, "sensor": sensor}, num_labels=2))
    model.save_pretrained(tmp_path / "saved")
    for each in (model, MultimodalForClassification.from_pretrained(tmp_path / "saved")):
        bert = each.encoders["text"].model
        names = {name for name, _ in bert.named_parameters()}
        frozen = {name for name in names if name.startswith(("embeddings.", "encoder.layer.0."))}
        assert frozen and frozen_of(each.encoders["text"]) == frozen
        each.train()
        parts = (bert.embeddings, bert.encoder.layer[0].attention, bert.encoder.layer[1])
        assert [part.training for part in parts] == [False, False, True]
        inputs = {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.ones(1, 2, dtype=torch.long)}
        each(text=inputs, sensor=torch.ones(1, 3, 2), labels=torch.tensor([0])).loss.backward()
        given = {name for name, parameter in bert.named_parameters() if parameter.grad is not None}
        assert given and not given & frozen


def test_frozen_parts_of_timm_models():
    vit = {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2}
    options = {"type": "timm", "architecture": "vit_tiny_patch16_224", "model_args": vit}
    encoder = build_encoder("image", {**options, "freeze": ["pos_embed", "blocks.0"]})
    frozen = frozen_of(encoder)
    assert "pos_embed" in frozen and {name.partition("blocks.")[2][:1] for name in frozen} == {"", "0"}
    with pytest.raises(ValueError, match=r"freeze: the model has no part 'block\.0'\. Did you mean 'blocks\.0'"):
        build_encoder("image", {**options, "freeze": ["block.0"]})
    with pytest.raises(ValueError, match="freeze must be a list"):
        build_encoder_config("image", {**options, "freeze": "blocks"})
    assert timm.is_model(options["architecture"])


def test_a_frozen_feature_encoder_keeps_no_graph(tmp_path):
    options = {"type": "transformers", "model": tiny_wav2vec2(tmp_path / "w"), "pretrained": True}
    encoder = build_encoder("speech", {**options, "freeze": ["feature_extractor"]}).train()
    waveform = torch.randn(2, 6000)
    assert not encoder.model.feature_extractor(waveform).requires_grad
    assert encoder(waveform).requires_grad


def test_padding_of_a_clip_changes_nothing_where_a_mask_says_so(tmp_path):
    model = tiny_wav2vec2(tmp_path / "w", return_attention_mask=True)
    encoder = build_encoder("speech", {"type": "transformers", "model": model, "pretrained": True}).eval()
    clip = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 4000, dtype=torch.long)
    padding = (0, 3000)
    padded = torch.nn.functional.pad(clip, padding), torch.nn.functional.pad(mask, padding)
    alone = encoder(input_values=clip, attention_mask=mask)
    torch.testing.assert_close(encoder(input_values=padded[0], attention_mask=padded[1]), alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(encoder(input_values=padded[0]), alone, rtol=1e-2, atol=1e-2)


def test_spec_augment_of_short_clips(tmp_path):
    options = {"type": "transformers", "model": tiny_wav2vec2(tmp_path / "w"), "pretrained": True}
    clips = torch.randn(2, 2000)  # 6 frames
    with pytest.raises(ValueError, match=r"SpecAugment masks at once: set .* \{mask_time_prob: 0\}"):
        build_encoder("speech", dict(options)).train()(clips)
    encoder = build_encoder("speech", {**options, "config": {"mask_time_prob": 0.0}}).train()
    assert encoder(clips).isfinite().all()
