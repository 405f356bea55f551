"""The face of a corruption, and what its draws depend on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from ..transforms.base import Signal

LIMITS = "limits"  # of a `number`, in the field's metadata


@dataclass(frozen=True)
class Surroundings:
    """What a corruption may need beside the signal.

    Attributes:
        sampling_rate: of an audio signal, in Hz.
        others: signals of the same split, `None` where a row has none; the corrupted one may be among them.
        std: standard deviation of each dimension of a vector over the training split, float32 (dim,).
    """

    sampling_rate: int = 0
    others: Sequence[Signal | None] = ()
    std: Tensor | None = None


@dataclass(frozen=True)
class Corruption:
    """Makes one raw signal worse, by a draw or not; a frozen dataclass of options, which it checks.

    To add one, write such a class with a `__call__` and register it, `CORRUPTIONS["name"] = Name`. Options that are a
    [`number`] are checked when it is built.

    Attributes:
        name: in `CORRUPTIONS`.
        signal: the kind of signal that it takes, see `Transform.signal`.
        severity: the option that says how strong it is; None where there is only one strength.
        unit: of the severity, for people.
        severities: the severities that are tried by default, the mildest first.
        needs: which fields of `Surroundings` it uses.
    """

    name: ClassVar[str]
    signal: ClassVar[Literal["audio", "image", "text", "vector"]]
    severity: ClassVar[str | None] = None
    unit: ClassVar[str] = ""
    severities: ClassVar[tuple[float, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for option in fields(self):
            if LIMITS in option.metadata:
                check_number(self.name, option.name, self.options[option.name], **option.metadata[LIMITS])

    def __call__(self, signal: Signal, rng: np.random.Generator, around: Surroundings) -> Signal:
        """The corrupted signal, a new one of the same kind, shape and dtype.

        Args:
            signal: see `Transform.signal`.
            rng: of all draws, which do not depend on the severity.
            around: what `needs` names.
        """
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `__call__`.")

    @property
    def options(self) -> dict[str, Any]:
        """The options, by name, JSON-able."""
        return asdict(self)

    @property
    def label(self) -> str:
        """For tables and figures, such as "white_noise 10 dB"."""
        return self.name if self.severity is None else f"{self.name} {self.options[self.severity]:g}{self.unit}"


def row_generator(seed: int, corruption: str, modality: str, row: int) -> np.random.Generator:
    """The generator of one row's draws: a function of these four alone, on every machine."""
    key = hashlib.sha256(f"{seed}/{corruption}/{modality}/{row}".encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:16], "big"))


def number(default: float, low: float = -math.inf, high: float = math.inf, **limits: bool) -> Any:
    """An option of a corruption that `check_number` checks with these limits."""
    return field(default=default, metadata={LIMITS: {"low": low, "high": high, **limits}})


def check_number(
    owner: str,
    option: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
    whole: bool = False,
) -> None:
    """Raises ValueError unless `value` is a finite number in [low, high], in (low, high] if it must be `above`, and
    without a fraction if it must be `whole`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not (low < value if above else low <= value) or value > high:
        allowed = f"in {'(' if above or math.isinf(low) else '['}{low:g}, {high:g}{')' if math.isinf(high) else ']'}"
        raise ValueError(f"{owner}: expected {option} {allowed}, found {value!r}. Correct it.")
    if whole and value != int(value):
        raise ValueError(f"{owner}: expected a whole number for {option}, found {value!r}. Round it.")
