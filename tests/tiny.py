"""Tiny models, data and the hand-computed case that many tests share."""

from __future__ import annotations

import math
from functools import lru_cache

import datasets
import pytest
import torch
from packaging.version import Version
from torch.utils._pytree import tree_map
from transformers import BertConfig, BertModel

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.forward_view import ForwardView, call_detached
from hf_bml.models.fusion import FUSIONS, drop_features
from hf_bml.modulation import MicroBatch

SIZES = {"audio": 5, "visual": 7, "text": 3}
IMAGE_CHANNELS = {"audio": 1, "visual": 3, "flow": 2}
TINY_BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
}


def tiny_config(modalities=("audio", "visual"), num_labels=3, **options) -> MultimodalConfig:
    """Linear projections of vectors: no dropout, no BatchNorm, so batches of any size give equal updates."""
    return MultimodalConfig(
        modalities={
            name: {"type": "sequence", "input_size": SIZES[name], "hidden_size": 4, "num_heads": 1, "num_layers": 0}
            for name in modalities
        },
        num_labels=num_labels,
        **options,
    )


def tiny_model(modalities=("audio", "visual"), seed=0, dtype=torch.float32, **options) -> MultimodalForClassification:
    torch.manual_seed(seed)
    return MultimodalForClassification(tiny_config(modalities, **options)).to(dtype)


@lru_cache  # to make one, and its fingerprint, takes as long as a few steps of a tiny training
def tiny_dataset(modalities=("audio", "visual"), samples=32, num_labels=3, seed=0, dtype=torch.float32):
    """Class-dependent vectors, the first modality far more discriminative than the others."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_labels, (samples,), generator=generator)
    columns = {}
    for index, name in enumerate(modalities):
        strength = 3.0 if index == 0 else 0.5
        onehot = torch.nn.functional.one_hot(labels, SIZES[name]) * strength
        columns[name] = (torch.randn(samples, SIZES[name], generator=generator) + onehot).to(dtype).numpy()
    dataset = datasets.Dataset.from_dict({**columns, "labels": labels.numpy()})
    return dataset.with_format("torch", dtype=None)


def hand_computed_case():
    """T-A1: two modalities, W^1 = diag(ln 9, ln 4), W^2 = diag(ln 1.5, 0), identity features, labels (0, 1)."""
    logits = {
        "audio": torch.diag(torch.tensor([math.log(9), math.log(4)])),
        "visual": torch.diag(torch.tensor([math.log(1.5), 0.0])),
    }
    return logits, torch.tensor([0, 1])


def hand_computed_batch(modality_mask=None):
    """T0: the head, features and labels of `hand_computed_case`, as a micro-batch inside the forward."""
    logits, labels = hand_computed_case()
    head = FUSIONS["concat"](dict.fromkeys(logits, 2), tiny_config(tuple(logits), num_labels=2))
    with torch.no_grad():
        head.classifier[-1].weight.copy_(torch.cat([value.T for value in logits.values()], dim=1))
        head.classifier[-1].bias.zero_()
    features = {name: torch.eye(2).requires_grad_() for name in logits}

    def predict(features, keep, detached):
        seen = features if keep is None else drop_features(features, keep)
        return call_detached(head, seen) if detached else head(seen)

    view = ForwardView(logits, modality_mask, features, {}, predict, split=head.unimodal_logits)
    batch = MicroBatch(logits, labels, modality_mask, features, view=view)
    return head, features, batch


def tiny_image_config(modalities=("audio", "visual"), num_labels=3, **options) -> MultimodalConfig:
    """Small CNNs of different width and depth."""
    channels = {"audio": [4, 6, 8], "visual": [3, 4, 6, 5], "flow": [2, 6, 4]}
    return MultimodalConfig(
        modalities={
            name: {"type": "conv", "in_channels": IMAGE_CHANNELS[name], "channels": channels[name]}
            for name in modalities
        },
        num_labels=num_labels,
        **options,
    )


def tiny_images(modalities=("audio", "visual"), batch=4, seed=0):
    """Images, and clips of three frames for the visual modality."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"audio": (1, 16, 12), "visual": (3, 3, 16, 16), "flow": (2, 12, 16)}
    return {name: torch.randn(batch, *shapes[name], generator=generator) for name in modalities}


def scrambled(model, seed=0):
    """The model with random values in place of every zero, one and mean of its initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=generator))
    return model


def unreached(model) -> list[str]:
    """Parameters whose gradient is zero, but for what rounding may leave of it: a millionth of the largest one."""
    sizes = {name: 0.0 if p.grad is None else p.grad.abs().max().item() for name, p in model.named_parameters()}
    return [name for name, size in sizes.items() if size < 1e-6 * max(sizes.values())]


class KeepOnly:
    """Stands in for the trainer's modulations: keeps what `keep_mask` marks."""

    def __init__(self, keep_mask):
        self.keep_mask = keep_mask

    def keep_modalities(self, view):
        return self.keep_mask if view.modality_mask is None else self.keep_mask & view.modality_mask

    def modulate_features(self, features, keep_mask):
        return features

    def forward_losses(self, features):
        return {}


def tiny_text_model(folder) -> MultimodalForClassification:
    """A pretrained BERT, which is saved in `folder`, and a sequence of vectors, joined by FiLM; in eval mode."""
    torch.manual_seed(0)
    bert = BertConfig(**{key: value for key, value in TINY_BERT.items() if key != "model_type"})
    BertModel(bert).save_pretrained(folder)
    encoders = {
        "text": {"type": "transformers", "model": str(folder), "pretrained": True},
        "sensor": {"type": "sequence", "input_size": 5, "hidden_size": 8, "num_heads": 2},
    }
    return MultimodalForClassification(MultimodalConfig(modalities=encoders, fusion="film", num_labels=4)).eval()


def check_reload(model, batch, folder):
    """What is loaded again has the same weights, bit for bit, and predicts the same, of each modality alone, too."""
    model.eval().save_pretrained(folder)
    again = type(model).from_pretrained(folder).eval()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    expected, loaded = model(**batch), again(**batch)
    torch.testing.assert_close(loaded.logits, expected.logits)
    torch.testing.assert_close(loaded.unimodal_logits, expected.unimodal_logits)


def export_arguments(model, batch):
    """How a model is exported for any number of samples: the keywords of `torch.export.export`, and a larger batch."""
    if Version(torch.__version__) < Version("2.14"):
        pytest.skip(f"exporting a forward with **modalities needs torch 2.14, found {torch.__version__}")

    def any_number(values):
        return tree_map(lambda value: {0: torch.export.Dim.DYNAMIC}, values)

    modalities = {name: value for name, value in batch.items() if name in model.encoders}
    others = {name: value for name, value in batch.items() if name not in modalities}
    shapes = {"modalities": any_number(modalities), **any_number(others)}
    larger = tree_map(lambda value: torch.cat([value, value[:3]]), batch)
    return {"kwargs": batch, "dynamic_shapes": shapes}, larger


def check_export(model, batch):
    """The exported program takes another number of samples, and predicts the same, of each modality alone, too."""
    arguments, larger = export_arguments(model.eval(), batch)
    program = torch.export.export(model, (), **arguments)
    found, expected = program.module(check_guards=False)(**larger), model(**larger)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.unimodal_logits, expected.unimodal_logits)
