"""What the trainer writes of a model in `balance()` loads without it, and a training goes on from it bitwise."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, load_model
from torch import nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
)

from hf_bml import MultimodalBalancedTrainer, balance
from hf_bml.training.unwrapping import load_weights

PATHS = {"image": "see", "text": "read"}


class Parts(nn.Module):
    """Its last layer is tied to the embedding of words."""

    def build(self):
        self.see, self.read = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), nn.Embedding(3, 8)
        self.norm, self.dropout, self.head = nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3, bias=False)
        self.head.weight = self.read.weight

    def predict(self, image, text):
        return {"logits": self.head(self.dropout(self.norm(self.see(image) + self.read(text))))}


class PlainModel(Parts):
    def __init__(self):
        super().__init__()
        self.build()

    def forward(self, image, text):
        return self.predict(image, text)


class PublishedConfig(PreTrainedConfig):
    model_type = "tied-parts"
    tie_word_embeddings: bool = True


class PublishedModel(PreTrainedModel, Parts):
    config_class = PublishedConfig
    _tied_weights_keys = {"head.weight": "read.weight"}  # noqa: RUF012

    def __init__(self, config):
        super().__init__(config)
        self.build()
        self.post_init()

    def forward(self, image, text):
        return self.predict(image, text)


KINDS = ["plain", "published", "adapted"]
WEIGHTS = {"adapted": "adapter_model.safetensors"}


def base(kind):
    torch.manual_seed(0)
    return PublishedModel(PublishedConfig(num_labels=3)) if kind == "published" else PlainModel()


def build(kind):
    model = base(kind)
    if kind == "adapted":  # below the adapter a BatchNorm is frozen, beside it one is trained in full
        model = get_peft_model(model, LoraConfig(target_modules=["see.0"], modules_to_save=["norm"]))
    return balance(model, PATHS, num_labels=3)


def load(kind, folder):
    if kind == "published":
        return PublishedModel.from_pretrained(folder)
    model = base(kind)
    if kind == "adapted":
        return PeftModel.from_pretrained(model, folder)
    load_model(model, Path(folder, "model.safetensors"))
    return model


def dataset():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(32, 4, generator=generator).numpy()
    text = torch.randint(0, 3, (32,), generator=generator)
    return Dataset.from_dict({"image": image, "text": text, "labels": (text + 1) % 3}).with_format("torch")


@pytest.fixture
def make(training_args):
    def make(kind, **options):
        args = training_args(**{"modulations": {"opm": {}, "ogm": {}}, "save_strategy": "steps", **options})
        return MultimodalBalancedTrainer(build(kind), args, train_dataset=dataset(), eval_dataset=dataset())

    return make


def assert_equal(first, second):
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_loads_without_the_wrapper(make, tmp_path, kind):
    trainer = make(kind, max_steps=3, save_steps=2)
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    loaded = load(kind, tmp_path / "saved")
    assert_equal(loaded, trainer.model.model)
    assert loaded.head.weight is loaded.read.weight
    weights = WEIGHTS.get(kind, "model.safetensors")
    names = load_file(tmp_path / "saved" / weights)
    assert names and not any(name.startswith("model.") for name in names)
    rows = {name: dataset()[name][:] for name in PATHS}
    logits = [model.eval()(**rows)["logits"] for model in (loaded, trainer.model.model)]
    assert torch.equal(*logits) and not torch.equal(logits[0], base(kind).eval()(**rows)["logits"])
    manifest = json.loads((tmp_path / "run" / "checkpoint-2" / "checkpoint_manifest.json").read_text())
    assert {weights, "optimizer.pt", *(["config.json"] if kind == "published" else [])} <= manifest.keys()
    assert trainer.model.wrapped_model is trainer.model.model  # it is the wrapper again


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_goes_on_bitwise(make, tmp_path, kind):
    straight = make(kind, max_steps=6, save_steps=2)
    straight.train()
    resumed = make(kind, max_steps=6, save_steps=2)
    with torch.no_grad():
        for parameter in resumed.model.parameters():
            if parameter.requires_grad:  # the base of an adapter is not in the checkpoint
                parameter.add_(1.0)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert_equal(straight.model, resumed.model)
    assert resumed.model.model.head.weight is resumed.model.model.read.weight


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_model_is_loaded(make, tmp_path, kind):
    options = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "max_steps": 6}
    trainer = make(kind, **options, metric_for_best_model="eval_first", load_best_model_at_end=True)
    evaluations = itertools.count()
    trainer.compute_metrics = lambda _: {"first": -float(next(evaluations))}
    trainer.train()
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-2"
    assert_equal(load(kind, trainer.state.best_model_checkpoint), trainer.model.model)
    [loss] = [log["eval_loss"] for log in trainer.state.log_history if log["step"] == 2 and "eval_loss" in log]
    assert trainer.evaluate()["eval_loss"] == loss


def test_names_in_the_file_that_are_not_those_of_the_class(tmp_path):
    """LLaVA is saved under the names of its published weights, which its own state dict does not have."""
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**small, image_size=16, patch_size=8)
    config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**small, vocab_size=50))
    model = LlavaForConditionalGeneration(config).to(torch.bfloat16)
    model.lm_head.float()
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() != model.state_dict().keys()
    saved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_weights(model, tmp_path)
    assert_equal(model, saved)


def test_a_checkpoint_of_another_model(make, tmp_path):
    make("plain", max_steps=2, save_steps=2).train()
    trainer = MultimodalBalancedTrainer(
        balance(nn.ModuleDict({"see": nn.Linear(4, 8), "read": nn.Linear(3, 8)}), PATHS, num_labels=3),
        make("plain").args,
        train_dataset=dataset().rename_columns({"image": "input"}),
    )
    with pytest.raises(RuntimeError, match=r"size mismatch|Missing key"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
