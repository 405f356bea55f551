"""A batch of one sample that BatchNorm cannot be trained on is known before the first step."""

from __future__ import annotations

import datasets
import pytest
import torch
from tiny import tiny_dataset, tiny_model
from torch import nn
from torch.utils.data import Dataset

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer, MultimodalConfig, MultimodalForClassification
from hf_bml.training.last_batch import smallest_batch

ENCODERS = {
    "mlp": ({"type": "mlp", "input_size": 5, "hidden_sizes": [4]}, (5,)),
    "xvector": ({"type": "xvector", "num_bins": 6}, (1, 6, 40)),
    "resnet": ({"type": "timm", "architecture": "resnet18", "in_channels": 1}, (1, 32, 32)),
}


def model_and_rows(kind, samples=9, size=None):
    encoder, shape = ENCODERS[kind]
    modalities = {"audio": encoder, "visual": {"type": "sequence", "input_size": 3, "hidden_size": 4, "num_heads": 1}}
    torch.manual_seed(0)
    model = MultimodalForClassification(MultimodalConfig(modalities=modalities, num_labels=2))
    rows = {"audio": torch.randn(samples, *(size or shape)), "visual": torch.randn(samples, 3)}
    rows["labels"] = [row % 2 for row in range(samples)]
    return model, datasets.Dataset.from_dict({k: list(v) for k, v in rows.items()}).with_format("torch")


@pytest.mark.parametrize(
    ("samples", "batch", "options", "expected"),
    [
        (33, 8, {}, 1),
        (32, 8, {}, 8),
        (35, 8, {}, 3),
        (33, 8, {"drop_last": True}, 8),
        (33, 8, {"filled_up": True}, 8),
        (5, 1, {}, 1),
        (1, 8, {}, 1),
    ],
)
def test_smallest_batch(samples, batch, options, expected):
    assert smallest_batch(samples, batch, **options) == expected


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_a_last_batch_of_one(training_args, kind):
    """The message's two ways out both train."""
    model, rows = model_and_rows(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 4}
    advice = r"BatchNorm \(encoders.audio.*\) cannot .* dataloader_drop_last: true, or per_device_train_batch_size: 5"
    with pytest.raises(ValueError, match="The 9 training samples in batches of 4 leave a batch of one.*" + advice):
        MultimodalBalancedTrainer(model, training_args(**options), train_dataset=rows)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for way in ({"dataloader_drop_last": True}, {"per_device_train_batch_size": 5}):
        MultimodalBalancedTrainer(model, training_args(**{**options, **way}), train_dataset=rows).train()


def test_what_the_check_leaves_untouched(training_args):
    """Modes and random numbers; it passes where BatchNorm sees several positions of the one sample."""
    model, rows = model_and_rows("resnet", size=(1, 96, 96))
    model.encoders["visual"].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    args = training_args(max_steps=-1, num_train_epochs=1, per_device_train_batch_size=4)
    draws = []
    for dataset in (rows, rows.select(range(8))):  # with a batch of one, and without
        MultimodalBalancedTrainer(model, args, train_dataset=dataset)
        draws.append(torch.rand(3))
        assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(*draws)


class Frozen(MultimodalForClassification):
    """Keeps an encoder's statistics."""

    def train(self, mode=True):
        super().train(mode)
        self.encoders["audio"].eval()
        return self


def test_statistics_that_are_frozen(training_args):
    model, rows = model_and_rows("mlp")
    model.__class__ = Frozen
    args = training_args(max_steps=-1, num_train_epochs=1, per_device_train_batch_size=4)
    MultimodalBalancedTrainer(model, args, train_dataset=rows).train()


def test_batches_of_one(training_args):
    model, rows = model_and_rows("mlp", samples=5)
    args = training_args(per_device_train_batch_size=1, gradient_accumulation_steps=4, dataloader_drop_last=True)
    with pytest.raises(ValueError, match=r"in batches of 1 .*value a channel. Set per_device_train_batch_size: 3\."):
        MultimodalBalancedTrainer(model, args, train_dataset=rows)
    one = rows.select([0])
    with pytest.raises(ValueError, match="Train on more samples"):
        MultimodalBalancedTrainer(model, training_args(), train_dataset=one)
    MultimodalBalancedTrainer(
        tiny_model(), training_args(per_device_train_batch_size=1), train_dataset=tiny_dataset()
    )  # without BatchNorm


def test_a_training_that_ends_before_the_last_batch(training_args):
    model, rows = model_and_rows("mlp")
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    MultimodalBalancedTrainer(model, training_args(max_steps=1, **options), train_dataset=rows).train()
    with pytest.raises(ValueError, match="a batch of one sample"):
        MultimodalBalancedTrainer(model, training_args(max_steps=2, **options), train_dataset=rows)


def test_several_processes_fill_the_last_batch_up(training_args, monkeypatch):
    model, rows = model_and_rows("mlp")
    monkeypatch.setattr(BalancedTrainingArguments, "world_size", property(lambda self: 2))
    MultimodalBalancedTrainer(model, training_args(per_device_train_batch_size=4), train_dataset=rows)
    args = training_args(per_device_train_batch_size=4, accelerator_config={"even_batches": False})
    with pytest.raises(ValueError, match="a batch of one sample"):
        MultimodalBalancedTrainer(model, args, train_dataset=rows)


def test_a_held_out_part_counts(training_args):
    """12 samples without a quarter of them are 9."""
    model, rows = model_and_rows("mlp", samples=12)
    model.auxiliary_heads = nn.ModuleDict({"audio": nn.Linear(4, 2), "visual": nn.Linear(4, 2)})
    model.config.auxiliary_loss_weight = 0.0
    options = {"modulations": {"gradient_blending": {"held_out": 0.25}}, "per_device_train_batch_size": 4}
    with pytest.raises(ValueError, match="The 9 training samples in batches of 4"):
        MultimodalBalancedTrainer(model, training_args(**options), train_dataset=rows)


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = list(rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def test_a_dataset_class_and_another_batch_size_later(training_args):
    model, rows = model_and_rows("mlp", samples=8)
    trainer = MultimodalBalancedTrainer(model, training_args(per_device_train_batch_size=4), train_dataset=Rows(rows))
    trainer.train()
    trainer.args.per_device_train_batch_size = 7
    with pytest.raises(ValueError, match="in batches of 7 leave a batch of one"):
        trainer.train()
