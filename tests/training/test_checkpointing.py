"""Activation checkpointing under the trainer and through `balance()`: the same training, or a refusal by name."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import TINY_BERT, KeepOnly, tiny_dataset, tiny_model
from torch import nn
from transformers import BertConfig, BertModel

from hf_bml import (
    MultimodalBalancedTrainer,
    MultimodalConfig,
    MultimodalDataCollator,
    MultimodalForClassification,
    balance,
)

BERT = {**TINY_BERT, "num_hidden_layers": 3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
PATHS = {"text": "embed", "vision": "see"}


def with_layers(**options):
    """Two sequence encoders of two layers."""
    torch.manual_seed(0)
    encoder = {"type": "sequence", "hidden_size": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0}
    encoders = {"audio": {**encoder, "input_size": 5}, "visual": {**encoder, "input_size": 7}}
    return MultimodalForClassification(MultimodalConfig(modalities=encoders, num_labels=3, **options)).double()


class Joined(nn.Module):
    """A word embedding and a projection of vectors before a BERT, as in a model of vision and language."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = BertModel(BertConfig(**{k: v for k, v in BERT.items() if k != "model_type"}))
        self.embed, self.see, self.head = nn.Embedding(50, 16), nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, text, vision):
        tokens = torch.cat([self.see(vision).unsqueeze(1), self.embed(text)], dim=1)
        return {"logits": self.head(self.trunk(inputs_embeds=tokens).last_hidden_state.mean(1))}


def batch(size=4):
    torch.manual_seed(1)
    vectors = torch.randn(size, 5, dtype=torch.float64)
    return {"text": torch.randint(0, 50, (size, 6)), "vision": vectors, "labels": torch.arange(size) % 3}


class Fusing(KeepOnly):
    """Also lets the rest of the model predict from one modality, with the head's parameters as constants."""

    def __init__(self, keep_mask, detached):
        super().__init__(keep_mask)
        self.detached = detached

    def keep_modalities(self, view):
        self.view = view
        return self.keep_mask

    def forward_losses(self, features):
        alone = {"vision": self.view.features["vision"]}
        return {"vision": self.view.fuse(alone, None, self.detached).square().mean()}


@pytest.mark.parametrize("modulations", ["opm+ogm", "mmpareto", "dgl"])
def test_the_trainer_takes_the_same_steps(training_args, modulations):
    """Also where the gradients of single losses are taken."""
    weights = []
    for checkpointing in (False, True):
        trainer = MultimodalBalancedTrainer(
            with_layers(auxiliary_loss_weight=0 if modulations == "mmpareto" else None),
            training_args(
                modulations={name: {} for name in modulations.split("+")},
                activation_checkpointing=checkpointing,
                gradient_accumulation_steps=2,
                per_device_train_batch_size=4,
                max_steps=3,
            ),
            train_dataset=tiny_dataset(dtype=torch.float64),
            data_collator=MultimodalDataCollator(["audio", "visual"]),
        )
        trainer.train()
        assert trainer.model.is_activation_checkpointing == checkpointing
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("modulation", ["none", "kept", "fused", "detached"])
def test_the_gradients_of_a_wrapped_model(modulation):
    keep = torch.tensor([[True, False], [True, True], [False, True], [True, True]])
    gradients = []
    for checkpointing in (False, True):
        model = balance(Joined().double(), PATHS, num_labels=3)
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.model.trunk.is_activation_checkpointing
        stub = {"none": None, "kept": KeepOnly(keep)}.get(modulation, Fusing(keep, modulation == "detached"))
        sum(model.train()(**batch(), modulation=stub).losses.values()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        assert model.model.trunk.is_activation_checkpointing == checkpointing
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=0, msg=name)


def rows():
    return [{name: value[row] for name, value in batch(8).items()} for row in range(8)]


def test_the_trainer_with_a_wrapped_model(training_args):
    model = balance(Joined().double(), PATHS, num_labels=3)
    args = training_args(activation_checkpointing=True, modulations={"opm": {}, "ogm": {}}, max_steps=2)
    trainer = MultimodalBalancedTrainer(model, args, train_dataset=rows())
    trainer.train()
    assert model.model.trunk.is_activation_checkpointing


class Plain(nn.Module):
    """No transformers model."""

    def __init__(self):
        super().__init__()
        self.see, self.read, self.head = nn.Linear(5, 4), nn.Embedding(50, 4), nn.Linear(8, 3)

    def forward(self, text, vision):
        return {"logits": self.head(torch.cat([self.see(vision), self.read(text).mean(1)], dim=-1))}


class Own(Plain):
    """One's own face, without a method for it."""

    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({"text": self.read, "vision": self.see})


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (tiny_model, {}, "can be computed again, found {'audio': 'sequence', 'visual': 'sequence'}"),
        (lambda: balance(Plain(), {"text": "read", "vision": "see"}, num_labels=3), {}, "found none in Plain"),
        (
            lambda: balance(Joined(), {"text": "embed", "vision": "trunk.encoder.layer.0.attention"}, num_labels=3),
            {},
            "'vision', trunk.encoder.layer.0.attention, is in trunk.encoder.layer.0, a layer that",
        ),
        (Own, {}, "Own has no method activation_checkpointing_enable"),
        (with_layers, {"activation_checkpointing_kwargs": {"use_reentrant": True}}, "use_reentrant: true"),
    ],
    ids=["no layers", "no transformers model", "an encoder in a layer", "no method", "re-entrant"],
)
def test_what_cannot_work_is_refused_when_the_trainer_is_built(training_args, build, options, message):
    with pytest.raises(ValueError, match=message):
        MultimodalBalancedTrainer(build(), training_args(activation_checkpointing=True, **options))
    model = build()
    if "kwargs" not in str(options) and not isinstance(model, Own):
        with pytest.raises(ValueError, match=message):
            copy.deepcopy(model).gradient_checkpointing_enable()
