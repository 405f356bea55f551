"""bf16 and fp16: scores in float32, gradient scaling that leaves no trace, steps that fp16 skips."""

from __future__ import annotations

import math

import pytest
import torch
from exactness import BATCH, MODALITIES, Run, build_trainer, train
from torch import nn

from hf_bml.testing.training import use_gradient_scaler

MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}
BAD = slice(BATCH, 2 * BATCH)  # the samples of the second step


def fp16_trainer(run, folder, scale=2.0**10, autocast=True):
    run.arguments["fp16"] = True
    return use_gradient_scaler(build_trainer(run, str(folder)), scale, autocast)


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def balance_logs(trainer):
    return {key: value for key, value in trainer.state.log_history[0].items() if "/" in key}


def record_skips(trainer):
    """Step numbers at which the optimizer did not step, filled while training."""
    skipped, after_step = [], trainer._maybe_log_save_evaluate

    def record(*args, **kwargs):
        if trainer.accelerator.optimizer_step_was_skipped and trainer.state.global_step not in skipped:
            skipped.append(trainer.state.global_step)
        after_step(*args, **kwargs)

    trainer._maybe_log_save_evaluate = record
    return skipped


@pytest.mark.parametrize("head", ["linear", "deep", "film"])
@pytest.mark.parametrize("precision", MIXED)
def test_scores_are_computed_in_float32(tmp_path, precision, head):
    """From the features as autocast left them, by the head's float32 weights."""
    run = Run("opm+ogm_ge", head, dtype=torch.float32)
    if precision == "fp16":
        trainer = fp16_trainer(run, tmp_path)
    else:
        run.arguments["bf16"] = True
        trainer = build_trainer(run, str(tmp_path))
    joint, alone = set(), set()
    head_module, scored = trainer.model.head, trainer.model.head.unimodal_logits

    def unimodal_logits(features):
        logits = scored(features)
        assert all(feature.dtype == torch.float32 for feature in features.values())
        alone.update(value.dtype for value in logits.values())
        return logits

    head_module.unimodal_logits = unimodal_logits
    hooked = head_module.classifier[-1].register_forward_hook(lambda *arguments: joint.add(arguments[-1].dtype))
    trainer.train()
    hooked.remove()
    assert MIXED[precision] in joint
    assert alone == {torch.float32}
    assert trainer.monitor.scores.dtype == trainer.monitor.ratios.dtype == torch.float32
    assert all(math.isfinite(value) for value in balance_logs(trainer).values())
    exact = train(Run("opm+ogm_ge", head, dtype=torch.float32))["logs"]
    assert balance_logs(trainer) == pytest.approx({k: exact[k] for k in balance_logs(trainer)}, abs=0.05)


@pytest.mark.parametrize("modulations", ["none", "opm+ogm_ge", "opm+graph"])
@pytest.mark.parametrize("clip", [0, 0.5])
def test_scaling_the_loss_by_a_power_of_two_changes_nothing(tmp_path, modulations, clip):
    """The gradients are modulated while they are scaled; noise of their spread is scaled with them."""
    run = Run(modulations, micro_batches=2, arguments={"max_grad_norm": clip})
    plain = train(run)
    scaled = fp16_trainer(run, tmp_path, scale=2.0**16, autocast=False)
    scaled.train()
    for name, value in weights(scaled).items():
        assert torch.equal(value, plain["weights"][name]), name
    assert scaled.state.log_history[0]["grad_norm"] == plain["logs"]["grad_norm"]


@pytest.mark.parametrize("autocast", [True, False], ids=["overflow in the forward pass", "in a gradient"])
@pytest.mark.parametrize("modulations", ["opm+ogm", "opm+graph"])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_an_overflow_skips_the_step_and_nothing_else(tmp_path, modulations, micro_batches, autocast):
    """Training goes on as if the batch had never been: weights, momentum, ratios, log, OPM's next probabilities."""

    def trained(with_bad_batch):
        run = Run(
            modulations,
            micro_batches=micro_batches,
            dtype=torch.float32,
            arguments={"max_steps": 5 + with_bad_batch, "logging_steps": 5 + with_bad_batch},
        )
        trainer = fp16_trainer(run, tmp_path, autocast=autocast)
        trainer.draws = trainer.draws[:1].expand(6, -1, -1)  # by sample alone
        dataset = trainer.train_dataset
        if not with_bad_batch:
            trainer.train_dataset = dataset.select([i for i in range(len(dataset)) if not BAD.start <= i < BAD.stop])
        elif autocast:
            rows = dataset["audio"][:].clone()
            rows[BAD] *= 1e6  # beyond the largest fp16 number, 65504
            trainer.train_dataset = dataset.remove_columns("audio").add_column("audio", list(rows.numpy()))
        else:
            weight = trainer.model.encoders["audio"].projection.weight
            weight.register_hook(lambda gradient: gradient * (math.inf if trainer.state.global_step == 1 else 1))
        skipped = record_skips(trainer)
        trainer.train()
        return trainer, skipped

    (overflowed, skipped), (clean, none) = trained(True), trained(False)
    assert (skipped, none) == ([2], [])
    assert overflowed.accelerator.scaler.get_scale() == clean.accelerator.scaler.get_scale() / 2
    for name, value in weights(overflowed).items():
        torch.testing.assert_close(value, clean.model.get_parameter(name).detach(), atol=0, rtol=0)
    for attribute in ("scores", "ratios", "observed"):
        assert torch.equal(getattr(overflowed.monitor, attribute), getattr(clean.monitor, attribute))
    assert balance_logs(overflowed) == balance_logs(clean)
    kept = {key.split()[1]: mask for key, mask in clean.masks.items()}
    later = {key.split()[1]: mask for key, mask in overflowed.masks.items() if not key.startswith("1 ")}
    assert later == kept


def test_early_overflows_with_noise(tmp_path):
    """The usual start of fp16: the scale is too large. A spread of inf or NaN must neither crash nor be applied."""
    trainer = fp16_trainer(Run("opm+ogm_ge", dtype=torch.float32), tmp_path, scale=2.0**20)
    skipped, before = record_skips(trainer), weights(trainer)
    trainer.train()
    assert skipped and skipped == list(range(1, len(skipped) + 1)) and len(skipped) < 6
    for name, value in weights(trainer).items():
        assert torch.isfinite(value).all() and not torch.equal(value, before[name])
    assert trainer.accelerator.scaler.get_scale() == 2.0 ** (20 - len(skipped))


def test_a_run_of_nothing_but_overflows_logs_no_balance(tmp_path):
    trainer = fp16_trainer(Run("opm+ogm_ge", dtype=torch.float32), tmp_path, scale=2.0**60)
    before = weights(trainer)
    trainer.train()
    assert balance_logs(trainer) == {} and trainer.monitor.ratios is None
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())


@pytest.mark.parametrize("placement", ["ogm", "graph"])
def test_clipping_and_the_logged_norm_see_modulated_gradients(placement):
    """After one plain SGD step at rate 1 the weights have moved by the clipped gradient."""
    once = {"max_steps": 1, "logging_steps": 1, "optim_args": None, "learning_rate": 1.0}

    def step(modulations, clip):
        outcome = train(Run(modulations, arguments={**once, "max_grad_norm": clip}))
        return {name: start[name] - value for name, value in outcome["weights"].items()}, outcome["logs"]

    start = train(Run(arguments={**once, "learning_rate": 0.0}))["weights"]
    gradient, _ = step("none", 0)
    for clip in (0, 0.1):
        moved, logs = step(placement, clip)
        expected = {
            name: value * (logs[f"ogm/coefficient_{name.split('.')[1]}"] if name.startswith("encoders") else 1)
            for name, value in gradient.items()
        }
        norm = nn.utils.get_total_norm(expected.values())
        assert logs["grad_norm"] == pytest.approx(norm.item(), rel=1e-6)
        assert norm < 0.999 * nn.utils.get_total_norm(gradient.values())
        for name, value in expected.items():
            torch.testing.assert_close(moved[name], value * (clip / norm if clip else 1), atol=1e-7, rtol=1e-5)
    assert any(logs[f"ogm/coefficient_{m}"] < 0.99 for m in MODALITIES)
