"""What pretrained encoders decide of their modality's processor."""

from __future__ import annotations

import pytest
from tiny_checkpoints import MEAN, STD, tiny_bert, tiny_timm, tiny_wav2vec2
from transformers import ViTConfig

from hf_bml.study.run_data import processor_configs, with_what_it_learned

IMAGES = {"size": [32, 32], "mean": MEAN, "std": STD}


def test_pretrained_encoders_complete_the_processors(parse, tmp_path):
    image, speech = tiny_timm(tmp_path / "image"), tiny_wav2vec2(tmp_path / "speech")
    options = {
        "modalities.visual": f"{{type: timm, architecture: '{image}', pretrained: true}}",
        "processors.visual": "{type: frames, augment: crop_flip, std: [1, 1, 1]}",
        "modalities.audio": f"{{type: transformers, model: {speech}, pretrained: true}}",
        "processors.audio": "{type: waveform, duration: 2.0}",
    }
    found = processor_configs(parse(*[part for name, value in options.items() for part in (f"--{name}", value)]))
    assert found["visual"] == {"type": "frames", "augment": "crop_flip", **IMAGES, "std": [1, 1, 1]}
    assert found["audio"] == {"type": "waveform", "duration": 2.0, "feature_extractor": speech}


def test_random_weights_leave_the_processors_as_they_are(parse):
    recipe = parse()
    assert processor_configs(recipe) == recipe.data.processors


def test_a_modality_that_is_not_there_needs_no_tokenizer(parse, tmp_path):
    text = ["--processors.text", "{type: tokens}"]
    assert "text" not in processor_configs(parse(*text))
    bert = tiny_bert(tmp_path / "bert", ["a"])
    encoder = f"{{type: transformers, model: {bert}, pretrained: true}}"
    assert processor_configs(parse(*text, "--modalities.text", encoder))["text"]["tokenizer"] == bert


def test_weights_without_their_processing_are_refused(parse, tmp_path):
    ViTConfig().save_pretrained(tmp_path / "vit")
    encoder = f"{{type: transformers, model: {tmp_path / 'vit'}, pretrained: true}}"
    frames = ["--modalities.visual", encoder, "--processors.visual"]
    with pytest.raises(ValueError, match=r"modality 'visual': expected \['size', 'mean', 'std'\] .* Give them"):
        processor_configs(parse(*frames, "{type: frames}"))
    given = "{type: frames, size: 8, mean: [0, 0, 0], std: [1, 1, 1]}"
    assert processor_configs(parse(*frames, given))["visual"]["size"] == 8


def test_a_checkpoint_keeps_what_its_encoder_was_given():
    saved = {"type": "frames", "flip": 0.0, **IMAGES}
    assert with_what_it_learned({"type": "frames", "size": 64}, saved) == {"type": "frames", **IMAGES, "size": 64}
    tokens = {"type": "tokens", "files": {"tokenizer.json": "0"}}  # of a folder that is not there any more
    assert with_what_it_learned({"type": "tokens", "max_length": 8}, tokens) == {**tokens, "max_length": 8}
    named = {"type": "tokens", "tokenizer": "user/other"}
    assert with_what_it_learned(named, tokens) == named
