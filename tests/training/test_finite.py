"""Batches that are not finite: what the log shows, where the training ends, and that no checkpoint holds NaN."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from tiny import tiny_dataset, tiny_model
from torch import nn
from transformers import TrainerCallback

from hf_bml import MultimodalBalancedTrainer
from hf_bml.training.checkpoint import newest_complete_checkpoint
from hf_bml.training.finite import not_finite, where_it_began


class Spoiled(torch.utils.data.Dataset):
    """The tiny dataset with a value in one row that is not finite; preflight does not look into such a dataset."""

    def __init__(self, row=None, column="audio", value=math.inf):
        self.rows = tiny_dataset(samples=64)
        self.row, self.column, self.value = row, column, value

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = dict(self.rows[index])
        if index == self.row:
            row[self.column] = torch.full_like(row[self.column], self.value)
        return row


@pytest.fixture
def make(training_args):
    """A trainer whose step N sees rows 8(N - 1) to 8N - 1."""

    def make(dataset, model=None, trainer_class=MultimodalBalancedTrainer, **options):
        args = training_args(**{"train_sampling_strategy": "sequential", "logging_steps": 4, **options})
        return trainer_class(tiny_model() if model is None else model, args, train_dataset=dataset)

    return make


def logged(trainer, key="loss"):
    return {entry["step"]: entry[key] for entry in trainer.state.log_history if key in entry}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("column", ["audio", "visual"])
@pytest.mark.parametrize("filtered", [True, False])
def test_the_log_event_after_it_ends_the_training(make, column, value, filtered):
    trainer = make(Spoiled(40, column, value), logging_nan_inf_filter=filtered)
    expected = rf"^The loss of step 6 is not finite, nor are the predictions of {column}: .* After step 8 the weights"
    with pytest.raises(ValueError, match=expected):
        trainer.train()
    assert list(logged(trainer)) == [4] and math.isfinite(logged(trainer)[4])


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}])
def test_no_checkpoint_holds_such_weights(make, tmp_path, options):
    """Logs come too late, and without any the end of the training notices."""
    trainer = make(Spoiled(40), logging_steps=100, save_strategy="steps", save_steps=4, **options)
    with pytest.raises(ValueError, match=r"loss of step 6 .* audio: .* After step 8 .* checkpoints are kept"):
        trainer.train()
    assert newest_complete_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "checkpoint-4")
    assert [folder.name for folder in (tmp_path / "run").iterdir()] == ["checkpoint-4"]
    with pytest.raises(ValueError, match=r"loss of step 6 .* After step 8 the weights are not finite"):
        make(Spoiled(40), logging_strategy="no", output_dir=str(tmp_path / "unsaved"), **options).train()


@pytest.mark.parametrize("together", [1, 2, 3, 4])
@pytest.mark.parametrize(("row", "step"), [(0, 1), (20, 3), (40, 6)])
def test_however_many_losses_are_summed_up_at_once(make, monkeypatch, together, row, step):
    """Whether the one at fault is the first, the last or in the middle of those, or left over at the end."""
    monkeypatch.setattr("hf_bml.training.finite.TOGETHER", together)
    options = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "logging_strategy": "no"}
    with pytest.raises(ValueError, match=f"^The loss of step {step} is not finite, .* predictions of visual: "):
        make(Spoiled(row, "visual"), **options).train()


def test_a_gradient_that_is_not_finite_after_the_last_log(make):
    class Spoiling(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            if state.global_step == 7:
                next(model.parameters()).grad.fill_(math.nan)

    trainer = make(Spoiled())
    trainer.add_callback(Spoiling())
    with pytest.raises(ValueError, match=r"^After step 8 the weights are not finite \(encoders\.audio.*weight\): the"):
        trainer.train()


class Clearing(TrainerCallback):
    """Skips steps whose gradient is not finite, as the gradient scaler of fp16 does."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        for parameter in model.parameters():
            parameter.grad.nan_to_num_(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("steps", "filtered", "expected"),
    [(1, True, math.nan), (1, False, math.nan), (4, False, math.nan), (4, True, None)],
)
def test_a_step_that_leaves_the_weights_finite_is_a_warning(make, steps, filtered, expected):
    """A loss that is not finite is never logged as 0.0, and the losses after it are the right ones."""
    whole, trainer = (make(Spoiled(row), logging_steps=steps, logging_nan_inf_filter=filtered) for row in (None, 0))
    for each in (whole, trainer):
        each.add_callback(Clearing())
    whole.train()
    with pytest.warns(UserWarning, match="loss of step 1 .* audio: .* weights are still finite, so the training cont"):
        trainer.train()
    losses = logged(trainer)
    assert list(losses) == list(logged(whole))
    assert losses[steps] > 0 if filtered and steps > 1 else math.isnan(losses[steps])
    assert all(math.isfinite(loss) for step, loss in losses.items() if step > steps)
    assert not_finite(trainer.model) == []


def test_nothing_is_said_of_finite_trainings(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(Spoiled(), save_strategy="steps", save_steps=4).train()


def test_where_it_began():
    assert "though every modality's predictions are" in where_it_began(3, {"audio": 4, "visual": 4})
    assert "of any modality: lower the learning rate" in where_it_began(3, {"audio": 3, "visual": 3})
    assert "predictions of audio, visual:" in where_it_began(3, {"audio": 3, "visual": 2, "text": 9})


def test_what_counts_as_weights():
    """Not what is frozen, and no buffers but running statistics: a mask may hold what it likes."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.register_buffer("mask", torch.full((2,), -math.inf))
    assert not_finite(model) == []
    model[1].running_var[0] = math.inf
    model[0].weight.data[0] = math.nan
    assert not_finite(model) == ["0.weight", "1.running_var"]
    model[0].weight.requires_grad = False
    assert not_finite(model) == ["1.running_var"]
