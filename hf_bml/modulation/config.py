"""Options of modulations: those that every method has, and those of methods that follow the discrepancy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from torch import Tensor

from ..ground.suggestion import check_options
from .discrepancy import MEASURES, TRANSFORMS, comparable_scores, score_totals, snapped
from .step import MicroBatch, Step


@dataclass
class ModulationConfig:
    """Options every modulation has.

    Args:
        preset: `"paper"` (default) or, where they differ, `"released"`, the defaults of the authors' code; some
            methods have further ones. Options given beside it win.
        start: first moment of the active window, included, in `unit`.
        end: end of the active window, excluded; None for the whole training.
        unit: `"epochs"` or `"steps"` (optimizer steps).
    """

    RELEASED: ClassVar[dict[str, Any]] = {}
    FURTHER_PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}  # by name

    preset: str = field(
        default="paper", metadata={"help": "Defaults to start from: paper, or released, the authors' code."}
    )
    start: float = field(default=0, metadata={"help": "First moment of the active window (included), in `unit`."})
    end: float | None = field(default=None, metadata={"help": "End of the active window (excluded); null: never."})
    unit: str = field(default="epochs", metadata={"help": "Unit of start and end: epochs or steps."})

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, tuple(self.presets()))
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
    def presets(cls) -> dict[str, dict[str, Any]]:
        """What each preset sets, by its name."""
        return {"paper": {}, **({"released": cls.RELEASED} if cls.RELEASED else {}), **cls.FURTHER_PRESETS}

    @classmethod
    def from_dict(cls, options: Mapping[str, Any], name: str = "") -> ModulationConfig:
        """Builds the config from YAML or command line options; an unknown key names the closest valid one.

        Raises:
            ValueError: unknown option or a value out of its range.
        """
        check_options(f"Modulation {name!r}", options, [f.name for f in fields(cls)])
        return cls(**{**cls.presets().get(str(options.get("preset")), {}), **options})


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
        """A discrepancy `(modalities,)` moved so that the threshold lies at 1; what differs from 1 by rounding only
        it is exactly 1. `scale` as in [`snapped`]: 1 for ratios, the largest score for differences."""
        return snapped(discrepancy + (1 - self.threshold), 1.0, scale)

    def measured(self, scores: Tensor, observed: Tensor | None) -> Tensor:
        """The dominance `(modalities,)` by the chosen measure; arguments as of the measures."""
        scale = 1.0 if self.measure == "ratio" else scores.amax()
        return self.dominance(MEASURES[self.measure](scores, observed), scale)

    def discrepancy(self, step: Step) -> Tensor:
        """What the modulation follows, `(modalities,)`, acting above 1; `step` must hold scores."""
        if self.measure == "ratio":
            return step.ratios if self.threshold == 1 else self.dominance(step.ratios)  # they are `snapped` already
        return self.measured(step.scores, step.observed)

    def current_discrepancy(
        self, batch: MicroBatch, sum_over_processes: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """The same of one micro-batch, of this process or of all."""
        totals = score_totals(batch.unimodal_logits, batch.labels, batch.modality_mask, batch.task)
        if sum_over_processes is not None:
            totals = sum_over_processes(totals)
        return self.measured(*comparable_scores(totals[0], totals[2]))


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
