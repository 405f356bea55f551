"""`transformers.Trainer` that ends when its weights are no longer finite, and reports where that began."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import Trainer

NEVER = torch.iinfo(torch.int64).max
TOGETHER = 64  # micro-batches that are summed up at once: kernels are saved, and few tensors kept
STATISTICS = ("running_mean", "running_var")  # of normalisation; other buffers may hold what they like


class FiniteTrainer(Trainer):
    """Ends a training whose weights have become NaN or infinite with one error, before they are saved.

    The loss and each modality's predictions are watched on the device and read when the loss is logged. If a loss was
    not finite, and the weights no longer are, the training ends there; if they still are, as after a step that fp16
    skipped, there is a warning. A checkpoint with such weights is never written.

    `logging_nan_inf_filter` says how such a loss is logged: as the Trainer replaces it (True, the default), but as NaN
    if no loss since the last log was finite; or as it is (False).

    Attributes:
        modalities: names, in the model's order.
    """

    modalities: tuple[str, ...]
    _losses = 0  # watched since the last log
    _all_scored = True  # of them
    _unfiltered = _none_finite = False  # of the losses that are about to be logged

    def watch(self, loss: Tensor, unimodal_logits: Mapping[str, Tensor]) -> None:
        """Notes, without a host sync, whether a micro-batch's loss and predictions are finite.

        Args:
            loss: 0-d, or of one entry.
            unimodal_logits: by modality, of one shape; empty where nothing was scored.
        """
        if not self._losses:
            self._first_steps, self._all_scored = None, True
            self._sums, self._watched_losses, self._steps = [], [], []  # of micro-batches that are not summed up yet
        self._all_scored &= bool(unimodal_logits)
        with torch.no_grad():
            logits = torch.stack(tuple(unimodal_logits.values()) or [loss.new_zeros(1)] * len(self.modalities))
            wide = torch.promote_types(logits.dtype, torch.float32)  # in which no sum of finite logits overflows
            self._sums.append(logits.sum(tuple(range(1, logits.dim())), dtype=wide))  # not finite if any entry is not
        self._watched_losses.append(loss.detach())
        self._steps.append(self.state.global_step + 1)
        self._losses += 1
        if len(self._steps) == TOGETHER:
            self._sum_up()

    def _sum_up(self) -> None:
        """Sums up the micro-batches since the last call: a few kernels for all of them, and no host sync."""
        finite_loss = torch.stack(self._watched_losses).isfinite().view(-1, 1)
        finite = torch.cat([torch.stack(self._sums).isfinite(), finite_loss], 1)
        steps = torch.tensor(self._steps).to(finite.device, non_blocking=True)
        first_steps = torch.where(finite, NEVER, steps[:, None]).amin(0)
        finite_losses = finite_loss.sum(0)
        if self._first_steps is not None:
            first_steps = torch.minimum(first_steps, self._first_steps)
            finite_losses = finite_losses + self._finite_losses
        self._first_steps, self._finite_losses = first_steps, finite_losses
        self._sums, self._watched_losses, self._steps = [], [], []

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._unfiltered:
            self._tr_loss.zero_()  # the Trainer subtracts it from itself, which leaves NaN
            if self._none_finite:
                logs, self._total_loss_scalar = {**logs, "loss": math.nan}, math.nan
            self._unfiltered = False
        super().log(logs, start_time)

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        self._losses, self._unfiltered = 0, False
        return super()._inner_training_loop(*args, **kwargs)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        if self.control.should_log and self.state.global_step > self._globalstep_last_logged:
            self._check_losses()
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._check_weights()
        super()._save_checkpoint(model, trial)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        self._check_losses()
        self._check_weights()
        return super()._finalize_training(*args, **kwargs)

    def _check_losses(self) -> None:
        """Reads what was watched, on every process, and clears it.

        Raises:
            ValueError: a loss was not finite, and the weights are not.
        """
        if not self._losses:
            return
        if self._steps:
            self._sum_up()
        watched = self.accelerator.gather(torch.cat([self._first_steps, self._finite_losses])[None]).tolist()
        self._losses = 0
        *first_steps, loss_step, _ = map(min, zip(*watched, strict=True))
        if loss_step == NEVER:
            return
        self._unfiltered, self._none_finite = True, not all(finite for *_, finite in watched)
        by_modality = dict(zip(self.modalities, first_steps, strict=True)) if self._all_scored else {}
        text = where_it_began(loss_step, by_modality)
        self._check_weights(text)
        warnings.warn(f"{text} The weights are still finite, so the training continues.", stacklevel=2)

    def _check_weights(self, reason: str = "") -> None:
        """Raises ValueError, on all processes, if weights of any process are not finite."""
        names = not_finite(self.model)
        found = self.accelerator.gather(torch.tensor([len(names)], device=self.args.device))
        if not any(found.tolist()):
            return
        if not reason:
            self._check_losses()  # which knows more
        shown = f" ({names[0]}{f' and {len(names) - 1} more' if names[1:] else ''})" if names else ""
        raise ValueError(
            f"{reason} After step {self.state.global_step} the weights are not finite{shown}: the training ends here, "
            "without saving them. Earlier checkpoints are kept.".strip()
        )


def where_it_began(loss_step: int, first_steps: Mapping[str, int]) -> str:
    """Which loss was the first that was not finite, and from which modalities it came.

    Args:
        loss_step: the optimizer step of that loss, from 1 on.
        first_steps: by modality the first step whose predictions were not finite; empty if they are not known.

    Example:
        >>> where_it_began(12, {"audio": 12, "visual": 13})
        'The loss of step 12 is not finite, nor are the predictions of audio: look for inf or NaN in its inputs.'
    """
    names: Sequence[str] = [name for name, step in first_steps.items() if step <= loss_step]
    start = f"The loss of step {loss_step} is not finite"
    if not first_steps:
        return f"{start}: lower the learning rate, or look for inf or NaN in the inputs."
    if not names:
        return f"{start}, though every modality's predictions are: look at the labels and at the loss itself."
    if len(names) == len(first_steps) > 1:
        return f"{start}, nor are the predictions of any modality: lower the learning rate, or look at all inputs."
    return f"{start}, nor are the predictions of {', '.join(names)}: look for inf or NaN in its inputs."


def not_finite(model: nn.Module) -> list[str]:
    """Names of trainable parameters, and running statistics, with NaN or infinite values; of a shard, those here."""
    tensors = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    tensors |= {name: buffer for name, buffer in model.named_buffers() if name.endswith(STATISTICS)}
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors.values()]
    if not local:
        return []
    finite = torch.stack([tensor.detach().isfinite().all() for tensor in local]).tolist()
    return [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]
