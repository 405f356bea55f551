"""Checkpoints with random weights as they lie on the Hub: what a pretrained encoder is made of, but tiny."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from transformers import BertConfig, BertModel, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from hf_bml.processing.transforms.text import word_tokenizer

LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]  # nobody's default


def tiny_bert(folder: Path, words: list[str], dtype: torch.dtype = torch.float32) -> str:
    """A BERT of two layers and a tokenizer of whole words."""
    tokenizer = word_tokenizer(words)
    torch.manual_seed(0)
    BertModel(BertConfig(**LAYERS, vocab_size=len(tokenizer))).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def tiny_wav2vec2(folder: Path, return_attention_mask: bool = False, **options) -> str:
    """A wav2vec2 with the strides of the real ones, and its feature extractor at 16 kHz."""
    torch.manual_seed(0)
    norm = "layer" if return_attention_mask else "group"
    config = Wav2Vec2Config(
        **LAYERS, conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm, **options,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=return_attention_mask).save_pretrained(folder)
    return str(folder)


def tiny_timm(folder: Path, size: int = 32) -> str:
    """A ViT of two blocks that was trained on images of another mean and standard deviation than ImageNet's."""
    torch.manual_seed(0)
    options = {"img_size": size, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}
    overlay = {"input_size": (3, size, size), "mean": MEAN, "std": STD}
    model = timm.create_model("vit_tiny_patch16_224", pretrained_cfg_overlay=overlay, **options)
    timm.models.save_for_hf(model, str(folder), model_args=options, safe_serialization=True)
    return f"local-dir:{folder}"
