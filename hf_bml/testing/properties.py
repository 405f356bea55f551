"""What every modulation must do, each property a function of a subject; see `check`."""

from __future__ import annotations

import copy
import json
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .processes import two_processes
from .samples import KINDS, MODALITIES
from .training import (
    NEVER,
    DataOf,
    Outcome,
    PropertyTrainer,
    Setting,
    Subject,
    build_trainer,
    flat,
    full_weights,
    train,
    use_gradient_scaler,
)

TOLERANCE = 1e-10
HALF_PRECISION = 0.1  # 25 times what bf16 rounds off a number; a wrong mask, weight or sum shows
OVERFLOWS = (2, 7)  # steps taken before one that overflows; none of them begins an epoch


def claim(holds: bool, message: str) -> None:
    """Raises AssertionError unless it holds."""
    if not holds:
        raise AssertionError(message)


@lru_cache(maxsize=64)
def trained(subject: Subject, setting: Setting) -> Outcome:
    """As `train`, once for each pair."""
    return train(subject, setting)


def claim_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor], tolerance: float, what: str) -> None:
    """Raises AssertionError if weights differ by more than `tolerance`, and says which do most."""
    apart = {name: (value - second[name]).abs().max().item() for name, value in first.items()}
    name = max(apart, key=lambda each: math.inf if math.isnan(apart[each]) else apart[each])
    claim(apart[name] <= tolerance, f"{what}: {name} differs by {apart[name]:.3g}.")


def claim_finite(outcome: Outcome) -> None:
    """Raises AssertionError for a weight or a logged value that is not finite."""
    bad = [name for name, value in outcome.weights.items() if not value.isfinite().all()]
    bad += [key for key, value in outcome.logs.items() if not math.isfinite(value)]
    claim(not bad, f"{bad} are not finite.")


def claim_moved(outcome: Outcome) -> None:
    """Raises AssertionError for parameters that a training left as they were, and for what is not finite."""
    claim_finite(outcome)
    still = [name for name, value in outcome.weights.items() if torch.equal(value, outcome.start[name])]
    claim(not still, f"the training left {still} as they were.")


def refusal(subject: Subject, error: str) -> str:
    """The message of a refusal.

    Raises:
        AssertionError: it names neither the method nor the option of the model that the method needs.
    """
    names = [subject.method.name, *subject.build().needs(MODALITIES[:2]).model_options]  # or a model it cannot have
    claim(any(name in error for name in names), f"expected a refusal that names {subject.method.name}, found: {error}")
    return error


def unless_refused(subject: Subject, make: Callable[[], Outcome]) -> Outcome | str:
    """What `make` returns, or the message of the ValueError that it raises."""
    try:
        return make()
    except ValueError as error:
        return refusal(subject, str(error))


def accumulation(subject: Subject) -> None:
    """A batch of 8, 8 micro-batches of 1 and 4 of 2 give the same steps (to 1e-10, in float64)."""
    whole = trained(subject, Setting())
    claim_finite(whole)
    cuts = {f"{count} x {8 // count}": trained(subject, Setting(micro_batches=count)) for count in (8, 4)}
    if subject.build().accumulation == "per_micro_batch":
        differs = any(not torch.equal(whole.weights[n], v) for n, v in cuts["8 x 1"].weights.items())
        claim(differs, "micro-batches make no difference: declare accumulation = 'exact'.")
        return
    for cut, outcome in cuts.items():
        claim_same(whole.weights, outcome.weights, TOLERANCE, f"cut into {cut}")
        claim_logs(whole.logs, outcome.logs, f"cut into {cut}")


def claim_logs(first: Mapping[str, float], second: Mapping[str, float], what: str) -> None:
    """Raises AssertionError if the logged scores and ratios differ by more than 1e-6."""
    for key, value in first.items():
        if key.startswith("balance/"):
            claim(abs(value - second[key]) <= 1e-6, f"{what}: {key} is {second[key]}, expected {value}.")


def two_process_steps(subject: Subject) -> None:
    """Two processes of 4, and of 2 x 2, take the steps of one (or of one with the same micro-batches)."""
    per_micro_batch = subject.build().accumulation == "per_micro_batch"
    for cut, count in (("2 x 4", 2), ("2 x (2 x 2)", 4)):
        expected = trained(subject, Setting(micro_batches=count if per_micro_batch else 1))
        first, second = (found[cut] for found in two_processes(subject))
        claim("weights" in first, f"{cut}: {first.get('refused')}")
        claim_same(first["weights"], second["weights"], 0, f"two processes of {cut}")
        claim_same(expected.weights, first["weights"], TOLERANCE, f"{cut} against one process")
        claim_logs(expected.logs, first["logs"], cut)


def own_losses(subject: Subject) -> str | None:
    """What the trainer minimises counts for a method's losses, too: a `compute_loss_func` that divides by the number
    of items in the whole batch, cut and on two processes; and label smoothing (in float32, so to 1e-5)."""
    whole = unless_refused(subject, lambda: trained(subject, Setting(own_loss=True, steps=3)))
    if isinstance(whole, str):
        return whole
    first = two_processes(subject)[0]["own loss"]
    if subject.build().accumulation == "exact":
        cut = trained(subject, Setting(own_loss=True, steps=3, micro_batches=4))
        claim_same(whole.weights, cut.weights, TOLERANCE, "compute_loss_func, cut into 4 x 2")
        claim_same(whole.weights, first["weights"], TOLERANCE, "compute_loss_func, on two processes")
        claim_same(trained(subject, Setting(steps=3)).weights, whole.weights, TOLERANCE, "compute_loss_func")
    smoothing = (("label_smoothing_factor", 0.2),)
    smoothed, cut = (trained(subject, Setting(steps=3, micro_batches=count, arguments=smoothing)) for count in (1, 4))
    claim_finite(cut)
    if subject.build().accumulation == "exact":
        claim_same(smoothed.weights, cut.weights, 1e-5, "label smoothing, cut into 4 x 2")
    return None


def fsdp2(subject: Subject) -> str | None:
    """Two processes that shard the model with FSDP2 take the steps of one, or are refused."""
    first, second = (found["fsdp2"] for found in two_processes(subject))
    if "refused" in first:
        return refusal(subject, first["refused"])
    claim(first["kind"].startswith("FSDP"), f"the model was not sharded, but is a {first['kind']}.")
    count = 2 if subject.build().accumulation == "per_micro_batch" else 1
    claim_same(first["weights"], second["weights"], 0, "two processes with FSDP2")
    expected = trained(subject, Setting(micro_batches=count))
    claim_same(expected.weights, first["weights"], TOLERANCE, "FSDP2 against one process")
    return None


def bf16(subject: Subject) -> None:
    """In bf16 the first step's loss and scores are those of full precision, but for what bf16 rounds off; they, and
    what the method keeps, are in float32; weights and logs are finite, and two processes end alike, bit for bit.

    Of a method that decides by predictions (epochs' plans, copies, this batch's logits), whose decisions may differ,
    loss and scores may, too.
    """
    first, second = (found["bf16"] for found in two_processes(subject))
    claim("weights" in first, str(first.get("refused")))
    claim_finite(Outcome(first["weights"], {}, first["logs"], first["kind"]))
    claim_same(first["weights"], second["weights"], 0, "two processes in bf16")
    claim(not first["half"], f"the method keeps {first['half']} in half precision.")
    wrong = [name for name, value in first["first"].items() if value.dtype != torch.float32]
    claim(not wrong, f"{wrong} of a step are not in float32.")
    method = subject.build()
    if method.plans_epochs or method.held_out_fraction or method.needs(MODALITIES[:2]).current_logits:
        return
    expected = trained(subject, Setting(micro_batches=2 if method.accumulation == "per_micro_batch" else 1)).first
    loss = (first["first"]["loss"] + second["first"]["loss"]) / 2
    for name, found in (("loss", loss), ("scores", first["first"]["scores"])):
        apart = ((found - expected[name]).abs() / expected[name].abs()).max().item()
        claim(apart <= HALF_PRECISION, f"{name} of the first step: {apart:.1%} between bf16 and full precision.")


def skipped_step(subject: Subject) -> None:
    """A step that fp16 skips, because a gradient overflowed, leaves no trace in weights, momentum and modulation."""
    steps = max(OVERFLOWS) + 2
    setting = Setting(dtype=torch.float32, fixed_draws=False, steps=steps, arguments=(("fp16", True),))
    states: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = use_gradient_scaler(build_trainer(subject, setting, folder), 2.0**10, autocast=False)
        weight = trainer.face.head_parameters()[0]
        weight.register_hook(lambda gradient: gradient * (math.inf if trainer.state.global_step in OVERFLOWS else 1.0))
        after_step = trainer._maybe_log_save_evaluate

        def record(*args: Any, **kwargs: Any) -> None:
            after_step(*args, **kwargs)
            optimizer = trainer.optimizer.state_dict()["state"]
            state = {"modulation": trainer._modulation_state(), "optimizer": optimizer}
            states[trainer.state.global_step] = flat(
                copy.deepcopy({**state, "weights": dict(trainer.model.state_dict())})
            )

        trainer._maybe_log_save_evaluate = record
        trainer.train()
    for step in OVERFLOWS:
        changed = different(states[step], states[step + 1])
        claim(not changed, f"a skipped step has changed {changed}.")
        claim(bool(different(states[step + 1], states[step + 2])), "the step after a skipped one has changed nothing.")


def different(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Paths whose leaves are not bitwise the same, NaN being NaN; but for seconds."""
    paths = [path for path in {**first, **second} if not path.endswith("seconds")]
    return [path for path in paths if not same(first.get(path), second.get(path))]


def same(first: Any, second: Any) -> bool:
    """Whether two leaves of a state are the same, bit for bit."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and torch.equal(first.nan_to_num(), second.nan_to_num())
    return type(first) is type(second) and first == second


def resuming(subject: Subject) -> None:
    """A training resumed inside an epoch, and between the steps of one batch, ends bitwise as if it had not stopped.

    Methods that order the rows load them in a worker.
    """
    method = subject.build()
    orders = method.needs(MODALITIES[:2]).steps_per_batch > 1 or method.plans_epochs
    cut = 7  # in the second epoch of 4 steps; of repeated batches in the first, between two steps
    options = {
        "lr_scheduler_type": "cosine",
        "save_strategy": "steps",
        "save_steps": cut,
        "logging_steps": 5,
        "dataloader_num_workers": int(orders),
    }
    setting = Setting(
        micro_batches=2, steps=10, dtype=torch.float32, fixed_draws=False, arguments=tuple(options.items())
    )

    def state(trainer: PropertyTrainer) -> dict[str, Any]:
        logs = [{k: v for k, v in entry.items() if "/" in k or k == "loss"} for entry in trainer.state.log_history]
        return flat({"weights": full_weights(trainer.model), "modulation": trainer._modulation_state(), "logs": logs})

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = build_trainer(subject, setting, f"{folder}/whole")
        whole.train()
        checkpoint = Path(folder, "whole", f"checkpoint-{cut}")
        resumed = build_trainer(subject, setting, f"{folder}/resumed")
        with torch.no_grad():
            for parameter in resumed.model.parameters():
                parameter.zero_()
        resumed.train(resume_from_checkpoint=str(checkpoint))
        json.dumps(resumed.modulation.summary())
    changed = different(state(whole), state(resumed))
    claim(not changed, f"the resumed training differs in {changed}.")


def no_host_sync(subject: Subject) -> None:
    """A step waits for no value from the device: no `.item()`, `float()`, `bool()` of a tensor between two logs."""
    setting = Setting(micro_batches=2, steps=6, dtype=torch.float32, fixed_draws=False)  # the last begins no epoch
    syncs: list[str] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = build_trainer(subject, setting, folder)
        step = trainer.training_step

        def watched(*args: Any, **kwargs: Any) -> Tensor:
            if trainer.state.global_step < setting.steps - 1:  # the first steps may prepare something
                return step(*args, **kwargs)
            with profile(activities=[ProfilerActivity.CPU]) as record:
                result = step(*args, **kwargs)
            syncs.extend(event.key for event in record.key_averages() if "_local_scalar_dense" in event.key)
            return result

        trainer.training_step = watched
        trainer.train()
    claim(not syncs, f"a step reads {len(syncs)} kinds of values from the device; keep them as tensors.")


def numbers_of_modalities(subject: Subject) -> str | None:
    """With 1, 2, 3 and 4 modalities every parameter moves, or the number is refused; two always work."""
    refused = []
    for count in (1, 2, 3, 4):
        setting = Setting(modalities=MODALITIES[:count], steps=4, dtype=torch.float32, fixed_draws=False)
        found = unless_refused(subject, lambda setting=setting: train(subject, setting))
        if isinstance(found, str):
            claim(count != 2, f"two modalities are refused: {found}")
            refused.append(found)
        else:
            claim_moved(found)
    return "\n".join(refused) or None


def missing_modalities(subject: Subject) -> None:
    """Samples, and whole batches, may lack a modality; what the absent inputs hold makes no difference; in bf16."""
    arguments = (("bf16", True), ("train_sampling_strategy", "sequential"))
    settings = [Setting(missing=value, steps=3, dtype=torch.float32, arguments=arguments) for value in (0.0, 3.0)]
    first, second = (train(subject, setting) for setting in settings)
    claim_finite(first)
    claim_same(first.weights, second.weights, 0, "with other values in absent inputs")


def inactive_window(subject: Subject) -> None:
    """Outside its window the method changes nothing: the training is bitwise the plain one."""
    plain_training(Subject(subject.method, {**subject.options, **NEVER}))


def plain_training(subject: Subject) -> None:
    """With these options the method changes nothing (such as a weight of 0): bitwise plain training.

    Methods that set a part of the data aside, or repeat batches, are compared with a training that does the same.
    """
    setting = Setting(dtype=torch.float32, fixed_draws=False)
    own = train(subject, setting)
    method = subject.build()
    needs = method.needs(KINDS[setting.kind].modalities)
    asked = {
        "model_options": dict(needs.model_options),
        "held_out": method.held_out_fraction,
        "steps_per_batch": needs.steps_per_batch,
    }
    plain = trained(Subject(DataOf, asked), setting)
    claim_same(own.weights, plain.weights, 0, "against plain training")


def _kind(name: str) -> Callable[[Subject], str | None]:
    def works_or_is_refused(subject: Subject) -> str | None:
        found = unless_refused(subject, lambda: train(subject, Setting(kind=name, steps=3)))
        if isinstance(found, str):
            return found
        claim_moved(found)
        return None

    return works_or_is_refused


PROPERTIES: dict[str, Callable[[Subject], str | None]] = {
    "accumulation": accumulation,
    "two processes": two_process_steps,
    "fsdp2": fsdp2,
    "own losses": own_losses,
    "bf16": bf16,
    "skipped fp16 step": skipped_step,
    "resuming": resuming,
    "no host sync": no_host_sync,
    "1 to 4 modalities": numbers_of_modalities,
    "missing modalities": missing_modalities,
    "inactive window": inactive_window,
    "segments": _kind("segments"),
    "questions": _kind("questions"),
    "several labels": _kind("several labels"),
    "regression": _kind("regression"),
    "balance": _kind("balance"),
    "language model": _kind("language model"),
}
