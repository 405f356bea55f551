"""`transformers.Trainer` that watches how discriminative each modality is, and lets modulations act on it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..ground.seams import check_seams
from ..ground.task import SAMPLE_WEIGHT
from ..models.encoders.build import token_limits
from ..models.face import face_of
from ..models.wrappers import without_adapter
from ..modulation import (
    DiscrepancyMonitor,
    Gradients,
    MicroBatch,
    Modulation,
    ModulationStack,
    Step,
    build_modulations,
)
from ..modulation.step import AUXILIARY, JOINT
from .checking import CheckingTrainer, name_labels, standardise_labels
from .data_checks import (
    NO_CLASS_NUMBERS,
    check_collatable,
    check_collator,
    check_dataset,
    check_tokens,
    prime_collator,
)
from .epochs import KEEP, ROW
from .finite import FiniteTrainer
from .held_out import HoldingOutTrainer
from .idle import IdleModulationWarning, warn_of_ignored_scale
from .keeping_state import StateKeepingTrainer
from .last_batch import check_last_batch
from .learning_rate import parameter_multipliers
from .losses import add_gradients, minimised_loss, named_losses, separate_gradients, several_backwards, total
from .needs import check_needs, check_teachers, warn_of_model_options
from .preflight import (
    check_given_optimizer,
    check_model,
    check_output,
    check_own_loss,
    synchronise_batch_norm,
    warn_if_not_compiled,
)
from .pushing import PushingTrainer
from .refused_options import check_options
from .resumable import ResumableTrainer
from .run import TrainerRun
from .searching import SearchingTrainer
from .streaming import StreamingTrainer
from .training_args import BalancedTrainingArguments, LogShortTrainings, own_arguments
from .unwrapping import UnwrappingTrainer

check_seams("training")


class MultimodalBalancedTrainer(
    SearchingTrainer,
    FiniteTrainer,
    ResumableTrainer,
    PushingTrainer,
    StreamingTrainer,
    UnwrappingTrainer,
    CheckingTrainer,
    StateKeepingTrainer,
    HoldingOutTrainer,
):
    """Trains a multimodal model with modulations; without any it is a plain Trainer that logs the discrepancy.

    Scores are summed over all micro-batches and processes of an optimizer step; ratios and coefficients are formed
    once per optimizer step, so gradient accumulation, DDP and FSDP2 give the update of the big batch. As in any
    Trainer, micro-batches of unequal size, at the end of an epoch, weigh equally in the gradient; in the scores
    samples do, and in both with a `compute_loss_func` that divides a sum by `num_items_in_batch`. DDP fills an
    incomplete last batch up with repeated samples, which count in the scores too. `dataloader_drop_last` avoids both.
    BatchNorm takes its statistics from a process's micro-batch (`sync_batch_norm`: from those of all processes). A
    step that fp16 skips because a gradient overflowed leaves no trace in the modulations. Weights that are not finite
    end the training (see [`FiniteTrainer`](finite.py)). The trainer only says when; what is done is the
    modulations' business.

    Args:
        model: a model with `encoders`, a `nn.ModuleDict` by modality, such as [`MultimodalForClassification`].
        args: [`BalancedTrainingArguments`].
        modulations: modulation objects; default: those described in `args.modulations`.
        kwargs: as for `transformers.Trainer`.

    Raises:
        TypeError, ValueError: the model, a dataset or the way of launching does not fit (see `preflight`).

    A subclass may override `compute_loss` as transformers' documentation says: the modulations see the labels, and
    change the loss that it returns. Modulations are built, and hooks set, each time a training starts, from the model
    and the arguments of that moment.

    With `push_to_hub` in the arguments it pushes as [`PushingTrainer`](pushing.py) says.

    Logged with the loss, as means since the last log: `balance/score_<m>`, `balance/ratio_<m>`,
    `unimodal/accuracy_<m>` and what the modulations log.
    """

    loss_is_scaled_for_ga = False  # the model's loss is a mean over the micro-batch

    def __init__(
        self,
        model: nn.Module | None = None,
        args: BalancedTrainingArguments | None = None,
        modulations: Iterable[Modulation] | None = None,
        **kwargs: Any,
    ):
        args = args if args is not None else BalancedTrainingArguments()
        super().__init__(model=model, args=args, **kwargs)
        self.given_modulations = None if modulations is None else list(modulations)
        self.modulation = ModulationStack((), ())
        self._prepare_balancing()
        check_given_optimizer(self, self.modulation)
        warn_if_not_compiled(self)
        readers = {"train_dataset": self.modulation.who("class_numbers"), "eval_dataset": []}
        for split, dataset in (("train_dataset", self.train_dataset), ("eval_dataset", self.eval_dataset)):
            check_dataset(dataset, split, self.face.required_columns, self.num_labels, self.face.task, readers[split])
            check_tokens(dataset, split, token_limits(self.face.encoders))
        check_collatable(self.train_dataset, "train_dataset", self.face.required_columns, self.data_collator)
        check_collatable(self.eval_dataset, "eval_dataset", self.face.required_columns, self.data_collator)
        prime_collator(self.data_collator, self.train_dataset, self.eval_dataset)
        self._prepare_data()
        self.add_callback(IdleModulationWarning(self))
        self.add_callback(LogShortTrainings())

    def _prepare_balancing(self) -> None:
        """Builds what depends on the model and the arguments, which may differ at the next training."""
        args = own_arguments(self.args)
        if isinstance(args, BalancedTrainingArguments):
            args.check()
        self.face = check_model(self.model)
        # As in Trainer: such a function, and the loss of a language model, is divided by num_items_in_batch.
        self.loss_is_scaled_for_ga = self.compute_loss_func is not None or self.face.task.counts_tokens
        parameter_multipliers(self.model, args.lr_multipliers or {})
        self.modalities = tuple(self.face.encoders)
        check_collator(self.data_collator, self.modalities)
        for modulation in self.modulation:
            modulation.detach()
        modulations = self.given_modulations
        if modulations is None:
            modulations = build_modulations(args.modulations)
        self.modulation = ModulationStack(modulations, self.modalities)
        self.modulation.reset()
        self.face.task.forget()
        self.monitor = DiscrepancyMonitor(self.modalities, self.face.task)
        self._step: Step | None = None  # while it is open
        self._separate: dict[str, dict[nn.Parameter, Tensor]] = {}
        self._state_before_step: dict[str, Any] | None = None
        self._parameters: dict[str, list[nn.Parameter]] = {}
        synchronise_batch_norm(self.model, self.args)
        check_needs(self, self.face, self.modulation)
        check_own_loss(self)
        check_options(self)
        name_labels(self.face.config, self.train_dataset)
        standardise_labels(self.face, self.train_dataset)
        self.plan_for(self.modulation)
        for modulation in self.modulation:
            modulation.attach(TrainerRun(self))

    def _prepare_data(self) -> None:
        """Sets the part of the training split aside that modulations ask for, and looks at the batches of the rest."""
        self.set_aside(max((modulation.held_out_fraction for modulation in self.modulation), default=0.0))
        if self.held_out_dataset is not None:
            for modulation in self.modulation:
                modulation.warn_if_few_held_out(len(self.held_out_dataset))
        check_last_batch(self)

    def _inner_training_loop(self, *args: Any, **kwargs: Any):
        self._prepare_balancing()
        check_teachers(self, self.modulation)
        bundled = own_arguments(self.args).bundled_model_options if self.given_modulations is None else {}
        warn_of_model_options(self.face.config, self.modulation, bundled)
        self._prepare_data()
        return super()._inner_training_loop(*args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        warn_of_ignored_scale(optimizer, self.modulation.who("gradient_scale"))
        return optimizer

    def _balanced_loss(
        self, compute_loss: Callable[..., Any], model: nn.Module, inputs: Any, **options: Any
    ) -> Tensor:
        """What `compute_loss`, which a subclass may override, gives for a training batch, as the modulations make it.

        Raises:
            ValueError: the batch has no labels, or `compute_loss` does not return what it should.
        """
        if "labels" not in inputs:
            raise ValueError(f"A training batch needs `labels`, found {sorted(inputs)}.")
        labels, keep = inputs["labels"], inputs.pop(KEEP, None)
        if not any(planner in self.modulation.active for planner in self.modulation.planners):
            keep = None  # the window of the method that planned the epoch has ended inside it
        weights, names = inputs.get(SAMPLE_WEIGHT), self.modulation.who("class_numbers")
        if names and labels.is_floating_point():
            raise ValueError(NO_CLASS_NUMBERS.format(names=names, found="probabilities of the classes"))
        loss_function = minimised_loss(self, self.face.task, labels, options.get("num_items_in_batch"), weights)
        batch = MicroBatch({}, labels, rows=inputs.pop(ROW, None), task=self.face.task, loss_function=loss_function)
        if self.loss_is_scaled_for_ga:
            batch.weight = 1 / self.current_gradient_accumulation_steps
        self.modulation.begin_micro_batch(batch, keep)
        extra = {"modulation": self.modulation} if self.modulation.active or keep is not None else {}
        if not self._step.scored:
            extra["score_modalities"] = False
        loss, outputs = compute_loss(model, {**inputs, **extra}, return_outputs=True, **options)
        check_output(outputs, loss, training=True)  # a subclass may have returned something else
        unimodal_logits = outputs["unimodal_logits"]
        if self._step.turn == 0 and self._step.scored:
            mask, rows = outputs.get("modality_mask"), outputs.get("scored_rows")
            self.monitor.update(unimodal_logits, labels, mask, rows=rows)
        losses = named_losses(loss, outputs)
        changed = self.modulation.modulate_losses(losses, outputs)
        if separate := self.modulation.needs.separate_gradients:
            divisor = 1 if self.loss_is_scaled_for_ga else self.current_gradient_accumulation_steps
            scale = 1 / divisor if self._step.gradient_scale is None else self._step.gradient_scale / divisor
            trained = [p for group in self._parameter_groups(model).values() for p in group if p.requires_grad]
            scaled = {name: each * scale for name, each in changed.items()}
            add_gradients(self._separate, separate_gradients(scaled, separate, self.modalities, trained))
        loss = loss if changed is losses and set(losses) <= {JOINT, AUXILIARY} else total(changed)
        self.watch(loss, unimodal_logits)
        return loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        if self._step is None:
            self._step = self._new_step()
            self._separate = {name: {} for name in self.modulation.needs.separate_gradients}
            self.modulation.begin_step(self._step)
            if self.accelerator.mixed_precision == "fp16":  # what begin_step computed holds if the step is skipped
                kept = {id(tensor): tensor for tensor in self.modulation.snapshots()}
                self._state_before_step = copy.deepcopy(self._modulation_state(), kept)
        compute_loss = self.compute_loss
        self.compute_loss = partial(self._balanced_loss, compute_loss)
        try:
            with several_backwards(self.modulation.needs.separate_gradients):
                loss = super().training_step(model, inputs, num_items_in_batch)
        finally:
            self.compute_loss = compute_loss
        if self.accelerator.sync_gradients:
            self._close_step(model)
        return loss

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        if self._state_before_step is not None and self.accelerator.optimizer_step_was_skipped:
            self._load_modulation_state(self._state_before_step)
        self._state_before_step = None
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            balance = {**self.monitor.logs(), **self.modulation.logs()}
            if balance:
                tensors = [value.to(self.args.device, torch.float32) for value in balance.values()]
                values = torch.stack(tensors).tolist()  # the only host sync
                logs = {**logs, **dict(zip(balance, values, strict=True))}
        super().log(logs, start_time)

    def _new_step(self) -> Step:
        scaler = self.accelerator.scaler
        batches = self.state.global_step // self.steps_per_batch
        return Step(
            modalities=self.modalities,
            step=self.state.global_step,
            max_steps=self.state.max_steps,
            epoch=self.state.epoch or 0.0,
            scores=self.monitor.scores,
            ratios=self.monitor.ratios,
            observed=self.monitor.observed,
            seed=self.args.seed,
            rank=self.args.process_index,
            turn=self.state.global_step % self.steps_per_batch,
            scored=self.monitor.scores is None or batches % self.face.score_every == 0,
            micro_batches=self.current_gradient_accumulation_steps,
            gradient_scale=None if scaler is None else scaler.scale(torch.ones((), device=self.args.device)),
            optimizer=self.optimizer,
            sum_over_processes=self._sum_over_processes,
            processes=self.accelerator.num_processes,
        )

    def _close_step(self, model: nn.Module) -> None:
        """Takes the step's scores, if it has any, and lets the modulations change its gradients."""
        step, self._step = self._step, None
        if step.turn == 0 and step.scored:
            self.monitor.step(self._sum_over_processes)
        step.scores, step.ratios, step.observed = self.monitor.scores, self.monitor.ratios, self.monitor.observed
        self.modulation.end_step(step)
        if self.modulation.active and self.modulation.needs.gradients:
            groups = self._parameter_groups(model)
            self.modulation.modulate_gradients(Gradients(groups, self._separate, step.mean_over_processes))
        self._separate = {}

    @property
    def _sum_over_processes(self) -> Callable[[Tensor], Tensor] | None:
        return partial(self.accelerator.reduce, reduction="sum") if self.accelerator.num_processes > 1 else None

    def _parameter_groups(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        """See [`ModelFace.parameter_groups`](../models/face.py); they are looked up once in a training."""
        if not self._parameters:
            face = face_of(without_adapter(self.accelerator.unwrap_model(model)))
            self._parameters = face.parameter_groups(self.modulation.needs.head_gradients)
        return self._parameters
