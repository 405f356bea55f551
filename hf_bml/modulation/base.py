"""The face of a modulation: what it is configured with, when it acts, and where the trainer calls it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..ground.suggestion import check_options
from .discrepancy import MEASURES, TRANSFORMS, comparable_scores, score_totals, snapped
from .running_mean import RunningMean


@dataclass
class BalanceState:
    """What a modulation may know about the run at an optimizer step.

    Attributes:
        modalities: names, in the model's order.
        step: optimizer steps already taken.
        max_steps: optimizer steps of the whole training.
        epoch: epochs already done, fractional.
        scores: `(modalities,)` of the last closed optimizer step, None before the first.
        ratios: `(modalities,)`, the same.
        observed: bool `(modalities,)`, whether any sample of that step had the modality; None for all.
        seed: the run's seed.
        rank: process index.
        sum_over_processes: adds a tensor up over the processes; None for a single process.
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
    sum_over_processes: Callable[[Tensor], Tensor] | None = None


@dataclass
class MicroBatch:
    """What a modulation may know about a micro-batch.

    Attributes:
        unimodal_logits: per modality `(batch, num_labels)`, detached, of the features as they came; `(batch, segments,
            num_labels)` of a model that labels segments.
        labels: `(batch,)`, or `(batch, segments)`.
        modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality; None if none does.
    """

    unimodal_logits: dict[str, Tensor]
    labels: Tensor
    modality_mask: Tensor | None = None


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


def counted_mean(losses: Tensor, counts: Tensor) -> Tensor:
    """The mean of `losses (batch,)` where `counts (batch,)` is true, 0-d; 0 if it nowhere is."""
    return torch.where(counts, losses, 0.0).sum() / counts.sum().clamp_min(1)


class TrainCopies(Protocol):
    """Trains copies of the model as it is now, on the training split without its held-out part, as the run would."""

    def __call__(
        self, losses: Sequence[Mapping[str, SampleLosses]], epochs: float | None = None
    ) -> dict[str, CopyLosses]:
        """
        Args:
            losses: one mapping by name per copy, which is trained with the sum of the mapping's mean losses.
            epochs: how long, > 0, but not beyond the end of the run; None for as long as the run.

        Returns:
            what every named loss was before and after.
        """


@dataclass
class ModulationConfig:
    """Options every modulation has.

    Args:
        preset: `"paper"` (default) or, for the paper's own methods, `"released"`, the defaults of the authors' code;
            options given beside it win.
        start: first moment of the active window, included, in `unit`.
        end: end of the active window, excluded; None for the whole training.
        unit: `"epochs"` or `"steps"` (optimizer steps).
    """

    RELEASED: ClassVar[dict[str, Any]] = {}

    preset: str = field(
        default="paper", metadata={"help": "Defaults to start from: paper, or released, the authors' code."}
    )
    start: float = field(default=0, metadata={"help": "First moment of the active window (included), in `unit`."})
    end: float | None = field(default=None, metadata={"help": "End of the active window (excluded); null: never."})
    unit: str = field(default="epochs", metadata={"help": "Unit of start and end: epochs or steps."})

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, ("paper", "released") if self.RELEASED else ("paper",))
        check_choice("unit", self.unit, ("epochs", "steps"))
        check_range("start", self.start, low=0)
        if self.end is not None:
            check_range("end", self.end, low=0)
            if self.end <= self.start:
                raise ValueError(
                    f"end must lie after start, found start={self.start} and end={self.end} (preset {self.preset!r}). "
                    "Set both, or end: null for no end."
                )

    @classmethod
    def from_dict(cls, options: Mapping[str, Any], name: str = "") -> ModulationConfig:
        """Builds the config from YAML or command line options; an unknown key names the closest valid one.

        Raises:
            ValueError: unknown option or a value out of its range.
        """
        check_options(f"Modulation {name!r}", options, [f.name for f in fields(cls)])
        base = cls.RELEASED if options.get("preset") == "released" else {}
        return cls(**{**base, **options})


@dataclass
class DiscrepancyConfig(ModulationConfig):
    """Options of modulations that follow the discrepancy.

    Args:
        measure: `"ratio"` (paper Eq. 7) or `"difference"` of the batch scores (Table 15).
        transform: z, `"tanh"` for `tanh(x - 1)` or `"sigmoid"` (Table 15).
        threshold: discrepancy above which a modality is dominant, at least 1 for a ratio and 0 for a difference, so
            that the weakest modality never is. The paper's is 1 for both; any other is moved to 1 by a shift.
    """

    measure: str = field(default="ratio", metadata={"help": "Discrepancy of the scores: ratio or difference."})
    transform: str = field(default="tanh", metadata={"help": "Map z into (0, 1): tanh, of x - 1, or sigmoid."})
    threshold: float = field(default=1.0, metadata={"help": "Discrepancy above which a modality is dominant."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("measure", self.measure, tuple(MEASURES))
        check_choice("transform", self.transform, tuple(TRANSFORMS))
        check_range("threshold", self.threshold, low=1 if self.measure == "ratio" else 0)

    def dominance(self, discrepancy: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """A discrepancy `(modalities,)` moved so that the threshold comes to lie at 1; what only rounding tells from
        it is exactly 1. `scale` as in [`snapped`]: 1 for ratios, the largest score for differences."""
        return snapped(discrepancy + (1 - self.threshold), 1.0, scale)

    def measured(self, scores: Tensor, observed: Tensor | None) -> Tensor:
        """The dominance `(modalities,)` by the chosen measure; arguments as of the measures."""
        scale = 1.0 if self.measure == "ratio" else scores.amax()
        return self.dominance(MEASURES[self.measure](scores, observed), scale)

    def discrepancy(self, state: BalanceState) -> Tensor:
        """What the modulation follows, `(modalities,)`, acting above 1; `state` must hold scores."""
        if self.measure == "ratio":
            return self.dominance(state.ratios)
        return self.measured(state.scores, state.observed)

    def current_discrepancy(
        self, batch: MicroBatch, sum_over_processes: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """The same of one micro-batch, of this process or of all."""
        totals = score_totals(batch.unimodal_logits, batch.labels, batch.modality_mask)
        if sum_over_processes is not None:
            totals = sum_over_processes(totals)
        return self.measured(*comparable_scores(totals[0], totals[2]))


class Modulation:
    """Base class: a modulation that does nothing. Subclasses override the hooks they need.

    The trainer calls `attach` before training and, for every optimizer step: `begin_step` once; for each micro-batch
    `keep_modalities` and `modulate_features` (inside the model's forward) and `modulate_loss`; `modulate_gradients`
    once, when the gradients of all micro-batches and ranks are summed and not yet clipped. Outside the active window
    only `attach` is called.

    Args:
        config: the modulation's config object.
        options: or its fields as keywords.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[ModulationConfig]] = ModulationConfig
    needs_gradient_scale: ClassVar[bool] = False  # True: useless with an optimizer that ignores a gradient's scale
    needs_whole_model: ClassVar[bool] = False  # True: cannot work where processes hold shards of the parameters
    model_options: ClassVar[Mapping[str, Any]] = {}  # what the model's config must be set to for this method

    def __init__(self, config: ModulationConfig | None = None, **options: Any):
        if config is not None and options:
            raise ValueError(f"{type(self).__name__} takes a config object or keywords, not both; found {options}.")
        self.config = config if config is not None else self.config_class.from_dict(options, self.name)
        self.means = RunningMean(())
        self._state: BalanceState | None = None
        self._step_generator: torch.Generator | None = None
        self._generators: dict[torch.device, torch.Generator] = {}

    @property
    def changes_gradients(self) -> bool:
        """Whether this modulation edits `.grad` between backward and the optimizer step."""
        return type(self).modulate_gradients is not Modulation.modulate_gradients

    @property
    def needs_separate_encoders(self) -> bool:
        """Whether the method is only defined where the modalities' encoders share no parameters."""
        return self.changes_gradients or self.needs_gradient_scale

    @property
    def compares_modalities(self) -> bool:
        """Whether the method does nothing with a single modality, which is as discriminative as itself."""
        return False

    @property
    def held_out_fraction(self) -> float:
        """The share of the training split that the method keeps for itself, in [0, 1)."""
        return 0.0

    @property
    def options_in_epochs(self) -> list[str]:
        """Options that say a moment of the training in epochs, but for its beginning: `["end=30"]`."""
        if self.config.unit != "epochs":
            return []
        return [f"{name}={value:g}" for name in ("start", "end") if (value := getattr(self.config, name))]

    def bind(self, modalities: Sequence[str]) -> None:
        """Tells the modulation which modalities the model has, before training."""
        self.means = RunningMean(modalities)

    def attach(self, model: nn.Module, train_copies: TrainCopies | None = None) -> None:
        """Called when the trainer is built and, with the model of that moment, when a training starts. A method that
        acts inside the model finds its modules here.

        Args:
            model: the unwrapped model.
            train_copies: trains copies of the model for a while, see [`TrainCopies`].

        Raises:
            ValueError: the method cannot work with this model.
        """

    def detach(self) -> None:
        """Takes back what `attach` has changed in the model."""

    def reset(self) -> None:
        """Forgets what an earlier training left behind."""
        self.means = RunningMean(self.means.modalities)

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

    def warn_if_few_held_out(self, rows: int) -> None:
        """Warns when the trainer is built if what the method keeps for itself (`held_out_fraction`) is too little.

        Args:
            rows: of the held-out part of the training split.
        """

    def is_active(self, state: BalanceState) -> bool:
        """Whether a step lies in the active window."""
        now = state.epoch if self.config.unit == "epochs" else state.step
        return is_inside_window(now, self.config.start, self.config.end)

    def begin_step(self, state: BalanceState) -> None:
        """Called before the first micro-batch of an optimizer step."""
        self._state, self._step_generator = state, None

    def keep_modalities(self, batch: MicroBatch, keep_mask: Tensor | None) -> Tensor | None:
        """Decides which modalities the joint prediction of each sample sees; the model leaves the others out.

        Args:
            batch: the micro-batch.
            keep_mask: bool `(batch, modalities)`, what the samples have and earlier modulations kept; None for all.

        Returns:
            bool `(batch, modalities)`, a subset of `keep_mask`; or `keep_mask` itself for "no change".
        """
        return keep_mask

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Changes the features that the fusion head sees.

        Args:
            features: per modality `(batch, ..., dim)`, zero where `keep_mask` is False.
            batch: the micro-batch.
            keep_mask: bool `(batch, modalities)`, what was decided by `keep_modalities`; None for all.
        """
        return features

    def modulate_loss(self, loss: Tensor, output: Mapping[str, Any], labels: Tensor | None) -> Tensor:
        """Changes the loss of a micro-batch; `loss` and the result are scalars with a graph."""
        return loss

    def modulate_gradients(self, parameters: Mapping[str, Sequence[nn.Parameter]], state: BalanceState) -> None:
        """Changes `.grad` in place, once per optimizer step; `state` holds this step's scores and ratios.

        Args:
            parameters: the encoder parameters of each modality, `theta^m`.
        """

    def logs(self) -> dict[str, Tensor]:
        """Scalars (0-d tensors) since the last call, keyed `<modulation>/<quantity>_<modality>`."""
        return self.means.pop()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: tensors, numbers, and lists and dicts of them."""
        return {"means": self.means.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.means.load_state_dict(state["means"])

    def summary(self) -> dict[str, Any]:
        """What the run's record should hold at its end, JSON-able."""
        return {}

    def step_generator(self, device: torch.device) -> torch.Generator:
        """A random generator for this optimizer step: it differs between processes, and goes on over micro-batches."""
        if self._step_generator is None:
            self._step_generator = self.seeded_generator(device, self._state.seed, self._state.step, self._state.rank)
        return self._step_generator

    def seeded_generator(self, device: torch.device, *key: int) -> torch.Generator:
        """A random generator on `device` that depends on `key` (and the method) alone, so resuming needs no state."""
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        entropy = np.random.SeedSequence([*self.name.encode(), *key])
        return self._generators[device].manual_seed(int(entropy.generate_state(1, np.uint64)[0]))


def is_inside_window(now: float, start: float, end: float | None) -> bool:
    """Whether `now` lies in the half-open window [start, end); `end=None` means no end."""
    return now >= start and (end is None or now < end)


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, found {value!r}.")


def check_range(
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    high_open: bool = False,
) -> None:
    """Raises ValueError unless `value` is a number inside the interval; NaN is always outside."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    above = is_number and (low is None or (value > low if low_open else value >= low))
    below = is_number and (high is None or (value < high if high_open else value <= high))
    if not (above and below) or value != value:
        left = "(-inf" if low is None else f"{'(' if low_open else '['}{low}"
        right = "inf)" if high is None else f"{high}{')' if high_open else ']'}"
        raise ValueError(f"{name} must be a number in {left}, {right}, found {value!r}.")


def check_count(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, found {value!r}.")
