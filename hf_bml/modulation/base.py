"""The interface of a modulation: its options, when it acts, and where the trainer calls it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from .config import ModulationConfig, is_inside_window
from .running_mean import RunningMean
from .step import EpochPlan, Gradients, MicroBatch, Needs, Run, Step

PHASES = (  # the order in which methods act, regardless of the order in which they are given
    "data",  # which samples an epoch trains on
    "drop",  # which modalities a sample's joint prediction sees
    "features",
    "replace_losses",
    "add_losses",
    "weigh_losses",
    "combine_gradients",
    "scale_gradients",
    "penalise_gradients",  # or add noise
    "freeze",
)
EXCLUSIVE = ("data", "replace_losses", "combine_gradients")  # of which a training can have one method


class Title(NamedTuple):
    """What figures, cards and reports call a quantity that a method logs.

    Attributes:
        axis: of its curve, such as "drop probability".
        low: lower end of the axis; None to fit the values.
        high: upper end.
    """

    axis: str
    low: float | None = 0.0
    high: float | None = None


def copied(value: Any) -> Any:
    """A state's lists and dicts anew, around the same tensors and numbers."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    return [copied(each) for each in value] if isinstance(value, list) else value


class Modulation:
    """Base class: a modulation that does nothing. Subclasses override the hooks they need.

    When a training starts: `needs`, which is checked, then `attach`. At the start of an epoch:
    `plan_epoch`. For every optimizer step: `begin_step`; for each micro-batch, inside the model's forward,
    `keep_modalities`, `modulate_features` and `forward_losses`, and outside of it `modulate_losses`; then `end_step`,
    and `modulate_gradients`, when the gradients of all micro-batches and processes are summed and not yet clipped.
    Outside the active window only `needs` and `attach` are called.

    Attributes:
        name: in the registry, in YAML and in front of what it logs.
        config_class: its options.
        phase: where it acts among other methods, one of `PHASES`.
        excludes: phases whose methods it cannot be used with, each with the reason, a sentence.
        titles: what figures, cards and reports call what it logs, by the part of the key after `<name>/` and before
            `_<modality>`.
        compares_modalities: whether it does nothing with a single modality, which is as discriminative as itself; it
            may depend on the options.
        kept: what it remembers that a checkpoint keeps: attributes that `forget` sets, without their underscore.
        accumulation: `"exact"`, or `"per_micro_batch"`: the micro-batches of a step do not make up the big batch.
            It may depend on the options.
        example_options: options with which a short training runs through every branch of the method.

    Args:
        config: the modulation's config object.
        options: or its fields as keywords.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[ModulationConfig]] = ModulationConfig
    phase: ClassVar[str]
    excludes: ClassVar[Mapping[str, str]] = {}
    titles: ClassVar[Mapping[str, Title]] = {}
    compares_modalities: bool = False
    kept: ClassVar[Sequence[str]] = ()
    accumulation: str = "exact"
    example_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: ModulationConfig | None = None, **options: Any):
        if config is not None and options:
            raise ValueError(f"{type(self).__name__} takes a config object or keywords, not both; found {options}.")
        self.config = config if config is not None else self.config_class.from_dict(options, self.name)
        self.means = RunningMean(())
        self._run: Run | None = None
        self.forget()

    def forget(self) -> None:
        """Sets what the method remembers of a training to what it is before the first step."""

    def needs(self, modalities: Sequence[str]) -> Needs:
        """What the method needs with its options and these modalities."""
        edits = type(self).modulate_gradients is not Modulation.modulate_gradients
        return Needs(gradients=edits, separate_encoders=edits)

    @property
    def held_out_fraction(self) -> float:
        """The share of the training split that the method keeps for itself, in [0, 1)."""
        return 0.0

    @property
    def plans_epochs(self) -> bool:
        """Whether `plan_epoch` is asked; a training can have one method that plans, and its rows need an index."""
        return type(self).plan_epoch is not Modulation.plan_epoch

    @property
    def first_epoch(self) -> float:
        """Epochs of the training before the method does what it is for, whatever its window."""
        return 0.0

    @property
    def options_in_epochs(self) -> list[str]:
        """Options that give a moment of the training in epochs, other than its beginning: `["end=30"]`."""
        if self.config.unit != "epochs":
            return []
        return [f"{name}={value:g}" for name in ("start", "end") if (value := vars(self.config)[name])]

    def bind(self, modalities: Sequence[str]) -> None:
        """Tells the modulation which modalities the model has, before training."""
        self.means = RunningMean(modalities)

    def attach(self, run: Run) -> None:
        """Called when a training starts. A method that acts inside the model finds its modules here.

        Args:
            run: the model and what a method may ask for beside the training.

        Raises:
            ValueError: the method cannot work with this model.
        """
        self._run = run

    def detach(self) -> None:
        """Undoes what `attach` changed in the model."""

    def reset(self) -> None:
        """Clears the state of an earlier training."""
        self.means = RunningMean(self.means.modalities)
        self.forget()

    def warn_if_idle(self, encoders: Mapping[str, nn.Module], epochs: float, steps: int) -> None:
        """Warns before training if the modulation can never act.

        Args:
            encoders: per modality.
            epochs: of the training.
            steps: optimizer steps of the training.
        """
        if len(encoders) == 1 and self.compares_modalities:
            warnings.warn(
                f"{self.name} balances several modalities, but the model has only {list(encoders)}: it does nothing. "
                "Leave it out.",
                stacklevel=2,
            )
        length = epochs if self.config.unit == "epochs" else steps
        if self.config.start >= length:
            warnings.warn(
                f"{self.name} starts at {self.config.start} {self.config.unit}, but the training ends at {length}: it "
                "will never act. Train longer, or set start (preset 'released' starts after six epochs).",
                stacklevel=2,
            )

        if 0 < epochs <= self.first_epoch:
            warnings.warn(
                f"{self.name} waits for {self.first_epoch:g} epochs, but the training ends at {epochs:g}: it will "
                "never do what it is for. Train longer, or lower its options.",
                stacklevel=2,
            )

    def warn_if_few_held_out(self, rows: int) -> None:
        """Warns before training if what the method keeps for itself (`held_out_fraction`) is too little.

        Args:
            rows: of the held-out part of the training split.
        """

    def is_active(self, step: Step) -> bool:
        """Whether a step lies in the active window."""
        now = step.epoch if self.config.unit == "epochs" else step.step
        return is_inside_window(now, self.config.start, self.config.end)

    def plan_epoch(self, epoch: int) -> EpochPlan | None:
        """Which samples the epoch trains on; None leaves it as it is. The plan is part of a checkpoint, so that
        nothing is collected again inside an epoch."""
        return None

    def begin_step(self, step: Step) -> None:
        """Called before the first micro-batch of an optimizer step."""

    def keep_modalities(self, batch: MicroBatch, keep_mask: Tensor | None, step: Step) -> Tensor | None:
        """Decides which modalities the joint prediction of each sample sees; the model leaves the others out.

        Args:
            batch: the micro-batch.
            keep_mask: bool `(batch, modalities)`, what the samples have and earlier modulations kept; None for all.
            step: the optimizer step.

        Returns:
            bool `(batch, modalities)`, a subset of `keep_mask`; or `keep_mask` itself for "no change".
        """
        return keep_mask

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        """Changes the features that the fusion head sees.

        Args:
            features: per modality `(batch, ..., dim)`, zero where `keep_mask` is False.
            batch: the micro-batch.
            keep_mask: bool `(batch, modalities)`, what `keep_modalities` decided; None for all.
            step: the optimizer step.
        """
        return features

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        """Losses that need the head or an encoder, made inside the model's forward; they are added to the model's own.

        Args:
            features: per modality `(batch, ..., dim)`, as the fusion head has seen them.
            batch: the micro-batch; its `features` are those before any modulation.
            step: the optimizer step.

        Returns:
            0-d tensors with a graph, by name: a modality's name for the loss of its own prediction; not `joint`,
            `auxiliary` or `unimodal`.
        """
        return {}

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        """Weighs or replaces the losses of a micro-batch, whose sum is minimised.

        Args:
            losses: 0-d with a graph: `joint`; `auxiliary`, if the model trains classifiers of single modalities; and
                what the methods returned from `forward_losses`.
            batch: the micro-batch, with the model's `output`.
            step: the optimizer step.
        """
        return losses

    def end_step(self, step: Step) -> None:
        """Called after the last micro-batch of an optimizer step; `step` holds this step's scores, and its totals may
        be asked for."""

    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        """Changes `.grad` in place, once per optimizer step; `step` holds this step's scores and ratios."""

    def logs(self) -> dict[str, Tensor]:
        """Scalars (0-d tensors) since the last call, keyed `<modulation>/<quantity>_<modality>`."""
        return self.means.pop()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: tensors, numbers, and lists and dicts of them."""
        return {"means": self.means.state_dict(), **{name: copied(vars(self)[f"_{name}"]) for name in self.kept}}

    def snapshots(self) -> list[Tensor]:
        """Large tensors of `state_dict()` that are never changed in place: a step that fp16 may skip copies none."""
        return []

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict()`."""
        self.means.load_state_dict(state["means"])
        vars(self).update({f"_{name}": copied(state[name]) for name in self.kept})

    def summary(self) -> dict[str, Any]:
        """What the run's record should hold at its end; JSON-serialisable."""
        return {}
