"""The stepped schedule is torch's, in a run and in the copies that a run trains."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_dataset, tiny_model

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer


def arguments(folder, **options):
    stepped = {"lr_scheduler_type": "constant", "lr_drop_at": [0.5, 0.8], "lr_drop_factor": 0.1}
    return BalancedTrainingArguments(str(folder), use_cpu=True, report_to="none", **{**stepped, **options})


def test_the_rate_falls_as_multi_step_lr(tmp_path):
    trainer = MultimodalBalancedTrainer(
        tiny_model(), arguments(tmp_path, optim="sgd", learning_rate=1.0, max_steps=10)
    )
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 8], 0.1)
    rates, expected = [], []
    for _ in range(10):
        rates.append(trainer.lr_scheduler.get_last_lr()[0])
        expected.append(reference.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        optimizer.step()
        reference.step()
    assert rates == pytest.approx(expected)
    assert rates[4:9] == pytest.approx([1.0, 0.1, 0.1, 0.1, 0.01])


def test_a_run_logs_the_fallen_rate(tmp_path):
    args = arguments(tmp_path, max_steps=4, logging_steps=1, per_device_train_batch_size=2, learning_rate=0.1)
    trainer = MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset())
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_drop_at": [70]}, r"each in \(0, 1\), found \[70\]"),
        ({"lr_drop_factor": 0.0}, "lr_drop_factor must be > 0, found 0.0"),
        ({"lr_scheduler_type": "cosine"}, "needs lr_scheduler_type: constant, found 'cosine'"),
    ],
)
def test_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **options)


def test_factors_move_parameters_into_groups_and_fall_with_the_schedule(tmp_path):
    factors = {"encoders.audio": 5, "encoders.audio.projection.bias": 0.5}
    args = arguments(tmp_path, optim="sgd", learning_rate=1.0, max_steps=10, weight_decay=0.1, lr_multipliers=factors)
    trainer = MultimodalBalancedTrainer(tiny_model(), args)
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}

    def rates():
        groups = trainer.optimizer.param_groups
        return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}

    start = rates()
    assert len(start) == len(names)
    assert start["encoders.audio.projection.weight"] == (5.0, 0.1)
    assert start["encoders.audio.projection.bias"] == (0.5, 0.0)
    assert start["encoders.visual.projection.weight"] == (1.0, 0.1)
    for _ in range(5):
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert {name: rate for name, (rate, _) in rates().items()} == pytest.approx(
        {name: 0.1 * rate for name, (rate, _) in start.items()}
    )


def test_a_side_training_has_the_same_factors(tmp_path):
    """Gradient blending estimates with copies of the model, whose optimizer has the run's groups."""
    options = {"max_steps": 4, "per_device_train_batch_size": 4, "optim": "sgd", "learning_rate": 0.01}
    args = arguments(
        tmp_path,
        lr_multipliers={"encoders.audio": 5},
        modulations={"gradient_blending": {"super_epoch": 1}},
        **options,
    )
    model = tiny_model(auxiliary_loss_weight=0.0)
    trainer = MultimodalBalancedTrainer(model, args, train_dataset=tiny_dataset())
    trainer.train()
    assert trainer.state.global_step == 4
    assert trainer.modulation.summary()["gradient_blending"]["estimates"]


@pytest.mark.parametrize("factors", [{"encoders.audio": -1}, {"encoders.audio": True}, [5], {"encoders.audio": "5"}])
def test_what_is_no_factor(tmp_path, factors):
    with pytest.raises(ValueError, match="lr_multipliers must map names"):
        arguments(tmp_path, lr_multipliers=factors)


def test_a_part_that_the_model_lacks(tmp_path):
    args = arguments(tmp_path, lr_multipliers={"encoders.adio.projection": 5})
    with pytest.raises(ValueError, match=r"no parameter in 'encoders.adio.projection'.*'encoders.audio.projection'"):
        MultimodalBalancedTrainer(tiny_model(), args)
