"""What a method may know and ask for: at an optimizer step, in a micro-batch, at the start of a training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..ground.task import CLASSIFICATION, Task, both, masked_mean

UNIMODAL = "unimodal"  # the losses of all modalities together, for `Gradients.of`
JOINT = "joint"  # the name of the model's own loss
AUXILIARY = "auxiliary"  # that of its modalities' own classifiers


@dataclass(frozen=True)
class Needs:
    """What a method asks of model, task and launch; checked once when a training starts.

    Attributes:
        gradients: it edits `.grad` between backward and step.
        gradient_scale: it is useless with an optimizer that ignores a gradient's scale.
        separate_encoders: it is only defined where the modalities' encoders share no parameters.
        features_only: a modality's gradient must reach its encoder through the feature alone.
        whole_model: every process must hold all parameters in full.
        current_logits: it reads `MicroBatch.unimodal_logits`, so every batch must be scored in full.
        unimodal_graph: it takes `MicroBatch.unimodal_graph`.
        head_graph: it takes `MicroBatch.head_graph`.
        exact_split: it calls `MicroBatch.split`.
        own_heads: it trains classifiers of single modalities.
        fuse: it calls `MicroBatch.fuse`.
        separate_gradients: names of the losses that it asks `Gradients.of` for.
        head_gradients: it asks for the group `head`.
        rows: it reads `MicroBatch.rows`.
        inputs: it reads `MicroBatch.inputs`.
        classes: it takes logits for those of one class out of several (their softmax, their entropy).
        class_numbers: it takes labels for class numbers, one for each prediction: no probabilities, none missing.
        trained_alone: it takes `Run.trained_alone` of every modality.
        optimizer: it reads `Step.optimizer`.
        steps_per_batch: optimizer steps for each batch, at least 1.
        model_options: what the model's config must be set to.
    """

    gradients: bool = False
    gradient_scale: bool = False
    separate_encoders: bool = False
    features_only: bool = False
    whole_model: bool = False
    current_logits: bool = False
    unimodal_graph: bool = False
    head_graph: bool = False
    exact_split: bool = False
    own_heads: bool = False
    fuse: bool = False
    separate_gradients: tuple[str, ...] = ()
    head_gradients: bool = False
    rows: bool = False
    inputs: bool = False
    classes: bool = False
    class_numbers: bool = False
    trained_alone: bool = False
    optimizer: bool = False
    steps_per_batch: int = 1
    model_options: Mapping[str, Any] = field(default_factory=dict)

    def __or__(self, other: Needs) -> Needs:
        """What both need together."""

        def both(first: Any, second: Any) -> Any:
            if isinstance(first, Mapping):
                return {**first, **second}
            if isinstance(first, tuple):
                return tuple(dict.fromkeys([*first, *second]))
            return max(first, second)

        return Needs(**{name: both(mine, vars(other)[name]) for name, mine in vars(self).items()})


@dataclass
class Step:
    """An optimizer step.

    Attributes:
        modalities: names, in the model's order.
        step: optimizer steps already taken.
        max_steps: optimizer steps of the whole training.
        epoch: epochs already done, fractional.
        scores: `(modalities,)` of the last closed optimizer step that was scored; in `modulate_gradients`, of this one
            if it was. None before the first.
        ratios: `(modalities,)`, the same.
        observed: bool `(modalities,)`, whether any sample of that step had the modality; None for all.
        seed: the run's seed.
        rank: process index.
        turn: which of `steps_per_batch` this is, from 0.
        scored: whether the modalities are scored in this step; always, but in `balance(score_every=...)`.
        micro_batches: of this step on this process; fewer at an epoch's end.
        gradient_scale: 0-d, what fp16 multiplies losses and gradients by; None where it is 1.
        optimizer: the optimizer, for methods that ask for it.
        sum_over_processes: sums a tensor over the processes; None for a single process.
        processes: how many there are.
    """

    modalities: tuple[str, ...]
    step: int = 0
    max_steps: int = 0
    epoch: float = 0.0
    scores: Tensor | None = None
    ratios: Tensor | None = None
    observed: Tensor | None = None
    seed: int = 0
    rank: int = 0
    turn: int = 0
    scored: bool = True
    micro_batches: int = 1
    gradient_scale: Tensor | None = None
    optimizer: torch.optim.Optimizer | None = None
    sum_over_processes: Callable[[Tensor], Tensor] | None = None
    processes: int = 1
    _sums: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _totals: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _generators: dict[tuple[str, torch.device], torch.Generator] = field(default_factory=dict, repr=False)

    def add(self, name: str, value: Tensor) -> None:
        """Adds a tensor to the sum under this name over the step's micro-batches; names begin with the method's."""
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def total(self, name: str) -> Tensor:
        """The sum of a name over micro-batches and processes. Every process must ask, and add nothing afterwards.

        Raises:
            KeyError: nothing was added under this name.
        """
        if name not in self._totals:
            total = self._sums[name]
            self._totals[name] = total if self.sum_over_processes is None else self.sum_over_processes(total)
        return self._totals[name]

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        return value if self.sum_over_processes is None else self.sum_over_processes(value) / self.processes

    def generator(self, name: str, device: torch.device) -> torch.Generator:
        """A method's random generator for this step; it differs between processes and continues over micro-batches."""
        key = name, device
        if key not in self._generators:
            self._generators[key] = seeded_generator(name, device, self.seed, self.step, self.rank)
        return self._generators[key]


def seeded_generator(name: str, device: torch.device, *key: int) -> torch.Generator:
    """A random generator on `device` that depends on a method's name and `key` alone, so resuming needs no state."""
    entropy: Any = [*name.encode(), *key]
    if min(key, default=0) >= 0 and max(key, default=0) < 2**32:
        entropy = np.array(entropy, np.uint32)  # what NumPy makes of the list, in half the time
    seed = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed))


@dataclass
class MicroBatch:
    """A micro-batch in training.

    Attributes:
        unimodal_logits: per modality `(batch, num_labels)`, detached, float32, of the features as they came; `(batch,
            segments, num_labels)` of a model that labels segments. In `balance()` with `score_every` or
            `score_fraction` it may be empty, or be of some samples only: see `Needs.current_logits`.
        labels: `(batch,)`, or `(batch, segments)`; of other tasks, see [`Task`](../ground/task.py).
        modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality; None if none does.
        features: per modality `(batch, ..., dim)`, before any modulation, with a graph.
        inputs: per modality, as its encoder got them; for methods that ask for them.
        rows: `(batch,)`, int64, the samples' numbers in the training split; for methods that ask for them.
        task: the task's score and plain loss.
        loss_function: the loss that the trainer minimises, as a function of `(logits, present)`.
        weight: what a mean over this micro-batch, other than `loss`, is multiplied by to count as `loss` does.
        view: what the model's forward exposes while it runs.
        output: what the model has returned, from `modulate_losses` on: `logits`, `auxiliary_logits`.
        scratch: what one hook of a method hands to its next, by the method's name.
    """

    unimodal_logits: dict[str, Tensor]
    labels: Tensor
    modality_mask: Tensor | None = None
    features: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Any] | None = None
    rows: Tensor | None = None
    task: Task = CLASSIFICATION
    loss_function: Callable[[Tensor, Tensor | None], Tensor] | None = None
    weight: float = 1.0
    view: View | None = None
    output: Mapping[str, Any] | None = None
    scratch: dict[str, Any] = field(default_factory=dict)

    def present(self, modality: str) -> Tensor | None:
        """Which samples have a modality, bool `(batch,)`; None if all have."""
        if self.modality_mask is None:
            return None
        return self.modality_mask[:, list(self.features or self.unimodal_logits).index(modality)]

    def loss(self, logits: Tensor, present: Tensor | None = None) -> Tensor:
        """The loss that the training minimises, of other logits than the joint ones; 0-d, with a graph.

        Label smoothing, the user's own loss function and the model's config apply as they do for the
        joint prediction.

        Args:
            logits: `(batch, ...)`, as the model's.
            present: optional bool `(batch,)`; other samples do not count. 0 if there are none.
        """
        if self.loss_function is not None:
            return self.loss_function(logits, present)
        return self.task.loss(logits, self.labels, present)

    def mean(self, values: Tensor, present: Tensor | None = None) -> Tensor:
        """The mean of a penalty over the samples that have a label, 0-d, weighted so that it counts in the optimizer
        step as `loss` does.

        Args:
            values: as of `by_sample`, with a graph.
            present: optional bool `(batch,)`; other samples do not count. 0 if there are none.
        """
        return self.weight * masked_mean(self.by_sample(values), both(present, self.task.labelled(self.labels)))

    def by_sample(self, values: Tensor) -> Tensor:
        """The mean over each sample's segments that have a label, `(batch,)`; 0 if it has none.

        Args:
            values: `(batch, segments)`, one for each prediction; or `(batch,)`, which stay as they are.
        """
        if values.dim() == 1:
            return values
        counts = self.task.counts(self.labels)
        if counts is None:
            return values.flatten(1).mean(1)
        counts = counts.flatten(1)
        return torch.where(counts, values.flatten(1), 0.0).sum(1) / counts.sum(1).clamp_min(1)

    def score(self, logits: Tensor) -> Tensor:
        """The task's score of logits `(batch, ...)`, in [0, 1], detached, float32."""
        return self.task.score(logits, self.labels)

    @property
    def unimodal_graph(self) -> dict[str, Tensor]:
        """The unimodal logits with a graph, `(batch, ...)`: of the model's own classifiers of single modalities where
        it has such, else as `head_graph`."""
        return self._open_view().unimodal_graph()

    @property
    def head_graph(self) -> dict[str, Tensor]:
        """The unimodal logits of the joint head with a graph, `(batch, ...)`: its exact split where it has one, else
        with the other features set to zero; in both of the features before any modulation."""
        return self._open_view().head_graph()

    def split(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the joint head makes of each modality's feature, `(batch, num_labels)`; the joint logits are its sum,
        but for `head_dropout`.

        Args:
            features: per modality, such as `forward_losses` gets.
        """
        return self._open_view().split(features)

    def fuse(self, features: Mapping[str, Tensor], keep: Tensor | None = None, parameters: str = "live") -> Tensor:
        """What the head predicts from other features, `(batch, ...)` logits, in the model's own mode.

        Args:
            features: per modality, shaped as `MicroBatch.features`; one that is left out is absent.
            keep: optional bool `(batch, modalities)`; False is absent as well.
            parameters: `"live"`, or `"detached"`: the gradient reaches the features, but not the head.

        Raises:
            RuntimeError: called outside the model's forward.
            ValueError: the model's head is not a function of the features.
        """
        return self._open_view().fuse(features, keep, parameters == "detached")

    def _open_view(self) -> View:
        if self.view is None:
            raise RuntimeError(
                "unimodal_graph, head_graph, split and fuse are part of the model's forward: expected a call from "
                "keep_modalities, modulate_features or forward_losses. Compute the loss there and return it from "
                "forward_losses."
            )
        return self.view


class View(Protocol):
    """What a model's forward exposes to modulations; `models.forward_view.ForwardView` is one."""

    unimodal_logits: dict[str, Tensor]
    modality_mask: Tensor | None
    features: dict[str, Tensor]
    inputs: dict[str, Any]
    split: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None

    def unimodal_graph(self) -> dict[str, Tensor]:
        """See [`MicroBatch.unimodal_graph`]."""

    def head_graph(self) -> dict[str, Tensor]:
        """See [`MicroBatch.head_graph`]."""

    def fuse(self, features: Mapping[str, Tensor], keep: Tensor | None, detached: bool) -> Tensor:
        """See [`MicroBatch.fuse`]."""


class Gradients:
    """The gradients of an optimizer step, summed over its micro-batches and processes, not yet clipped.

    Args:
        parameters: the parameters by group: each modality's encoder, `shared` (what belongs to no modality), and
            `head` (its part that predicts) where a method asks for it. Under fp16, `.grad` is multiplied by
            `Step.gradient_scale`. Setting `.grad` to None freezes a parameter in this step, momentum and weight decay
            included.
        separate: the gradients of this process by loss and parameter.
        mean: the mean of a tensor over the processes.
    """

    def __init__(
        self,
        parameters: Mapping[str, Sequence[nn.Parameter]],
        separate: Mapping[str, Mapping[nn.Parameter, Tensor]] | None = None,
        mean: Callable[[Tensor], Tensor] = lambda value: value,
    ):
        self.parameters = parameters
        self._own = dict(separate or {})
        self._mean = mean
        self._reduced: dict[str, dict[nn.Parameter, Tensor]] = {}
        self._joint: dict[nn.Parameter, Tensor] = {}
        if self._own:
            self._joint = {p: p.grad.clone() for group in parameters.values() for p in group if p.grad is not None}

    def of(self, loss: str) -> dict[str, list[Tensor]]:
        """The gradient of one loss by group, in the order of `parameters`; zeros where the loss does not reach.

        Args:
            loss: a name that the method's `Needs.separate_gradients` has, or `"joint"`: what is left of `.grad`, as it
                was before any modulation, when those are taken off.
        """
        if loss == JOINT:
            others = [self._all(name) for name in self._own]
            return {
                group: [self._left(p, [other[p] for other in others if p in other]) for p in parameters]
                for group, parameters in self.parameters.items()
            }
        if loss not in self._own:
            raise ValueError(f"Gradients of {loss!r} were not asked for: add it to Needs.separate_gradients.")
        found = self._all(loss)
        return {
            group: [found[p] if p in found else torch.zeros_like(p) for p in parameters]
            for group, parameters in self.parameters.items()
        }

    def _left(self, parameter: nn.Parameter, others: Sequence[Tensor]) -> Tensor:
        left = self._joint.get(parameter)
        left = torch.zeros_like(parameter) if left is None else left.clone()
        for other in others:
            left -= other
        return left

    def _all(self, loss: str) -> dict[nn.Parameter, Tensor]:
        if loss not in self._reduced:
            own = self._own[loss]  # what a loss reaches may differ between processes, which must all reduce the same
            trained = [p for group in self.parameters.values() for p in group if p.requires_grad]
            self._reduced[loss] = {p: self._mean(own[p] if p in own else torch.zeros_like(p)) for p in trained}
        return self._reduced[loss]


@dataclass
class EpochPlan:
    """Which samples an epoch trains on, and with which modalities; one entry for each row of the training split.

    Where the window of the method that planned it ends inside the epoch, the rows stay to the epoch's end; `keep` does
    not.

    Attributes:
        rows: int64 `(entries,)`, numbers of samples; one may occur several times, or not at all.
        keep: bool `(entries, modalities)`, the modalities that the joint prediction of the entry sees; None for all.
        shuffled: whether the entries are read in the epoch's own order, instead of as they are listed.
    """

    rows: Tensor
    keep: Tensor | None = None
    shuffled: bool = True


@dataclass
class CopyLosses:
    """Mean losses of a copy of the model before and after it was trained for a while.

    Attributes:
        train_before, train_after: over the training split without its held-out part.
        held_out_before, held_out_after: over the held-out part.
    """

    train_before: float
    held_out_before: float
    train_after: float
    held_out_after: float


SampleLosses = Callable[[Mapping[str, Any], Tensor], tuple[Tensor, Tensor]]
"""From the model's output and the labels to losses `(batch,)` and bool `(batch,)`, the samples that count."""


class Face(Protocol):
    """What a method may ask of any model; `models.face.ModelFace` declares it, and more."""

    config: Any
    encoders: Mapping[str, nn.Module]
    auxiliary_heads: Mapping[str, nn.Module]
    num_labels: int
    other_loss: str | None
    wrapped_model: nn.Module | None


class Run(Protocol):
    """The training to which a method is attached.

    Attributes:
        model: the model, in no wrapper.
        face: what it declares, with defaults for what it does not.
        task: what its predictions are worth.
        seed: the run's seed.
        window: samples of an optimizer step, over its micro-batches and all processes.
    """

    model: nn.Module
    face: Face
    task: Task
    seed: int
    window: int

    def collect(
        self, split: str, fields: Sequence[str], fraction: float = 1.0, modalities: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """What the current model returns for every sample of a split, in eval mode.

        Args:
            split: `train`, `validation`, or `held_out`, the part that the method's `held_out_fraction` sets aside.
            fields: of the model's output; `labels`; or `rows`. A mapping by modality comes as `<field>_<modality>`.
            fraction: of the samples, drawn by the run's seed, in (0, 1].
            modalities: those that the model sees; None for all that a sample has.

        Returns:
            per field `(samples, ...)` on the CPU, in the order of the split, the same on every process.
        """

    def train_copies(
        self, losses: Sequence[Mapping[str, SampleLosses]], epochs: float | None = None
    ) -> dict[str, CopyLosses]:
        """Trains copies of the current model as the run would, on the training split without its held-out part.

        Args:
            losses: one mapping by name per copy, which is trained with the sum of the mapping's mean losses.
            epochs: how long, > 0, but not beyond the end of the run; None for as long as the run.

        Returns:
            every named loss before and after.
        """

    def trained_alone(self, modality: str) -> nn.Module:
        """The model of one modality that was trained alone, frozen and in eval mode (`args.trained_alone`).

        Raises:
            ValueError: the arguments name no such model.
        """
