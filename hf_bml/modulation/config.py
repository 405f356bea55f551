"""Options of modulations: those that every method has, and those of methods that follow the discrepancy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from ..ground.suggestion import check_name, check_options
from .discrepancy import MEASURES, TRANSFORMS, comparable_scores, score_totals, snapped
from .step import MicroBatch, Step


def check_range(name: str, value: Any, interval: str) -> None:
    """Raises ValueError unless `value` is a number inside an interval, such as `"[0, 1)"`; NaN is outside."""
    low, high = map(float, interval[1:-1].split(","))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    inside = is_number and low <= value <= high
    if not inside or (value == low and interval[0] == "(") or (value == high and interval[-1] == ")"):
        raise ValueError(f"{name} must be a number in {interval}, found {value!r}.")


def check_count(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, found {value!r}.")


def check_flag(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is True or False."""
    if value not in (True, False):
        raise ValueError(f"{name} must be one of [True, False], found {value!r}.")


def option(default: Any, help: str, accepts: str | Collection[str] | Callable[[str, Any], None] | None = None) -> Any:
    """A field of a `ModulationConfig`, which checks it when it is built; None is accepted where it is the default.

    Args:
        default: of the option; where it is True or False, these are what is accepted.
        help: shown on the command line.
        accepts: an interval of numbers, such as `"[0, 1)"`; names; or a function that raises ValueError.
    """
    if isinstance(accepts, str):
        check = partial(check_range, interval=accepts)
    elif accepts is None or callable(accepts):
        check = check_flag if isinstance(default, bool) else accepts
    else:
        check = partial(check_name, valid=accepts)
    return field(default=default, metadata={"help": help, "check": check})


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

    preset: str = option("paper", "Defaults to start from: paper, or released, the authors' code.")
    start: float = option(0, "First moment of the active window (included), in `unit`.", "[0, inf]")
    end: float | None = option(None, "End of the active window (excluded); null: never.", "[0, inf]")
    unit: str = option("epochs", "Unit of start and end: epochs or steps.", ("epochs", "steps"))

    def __post_init__(self) -> None:
        check_name("preset", self.preset, self.presets())
        for each in fields(self):
            check, value = each.metadata.get("check"), vars(self)[each.name]
            if check is not None and (value is not None or each.default is not None):
                check(each.name, value)
        if self.end is not None and self.end <= self.start:
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

    measure: str = option("ratio", "Discrepancy of the scores: ratio or difference.", MEASURES)
    transform: str = option("tanh", "Map z into (0, 1): tanh, of x - 1, or sigmoid.", TRANSFORMS)
    threshold: float = option(1.0, "Discrepancy above which a modality is dominant.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("threshold", self.threshold, f"[{1 if self.measure == 'ratio' else 0}, inf]")

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
