"""Accuracy when modalities are missing at random at test time (paper Sec. 4.4.3, Fig. 6).

Every sample loses every modality independently of the others with that modality's rate. As a prediction depends on
nothing but what its sample has left, each sample is predicted once per coalition, and any number of masks is then a
matter of looking up: exact, and 2^M passes instead of one per mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .coalitions import Coalition, all_coalitions

PAPER_FIXED_RATES = (0.1, 0.2)
PAPER_RATES = (0.1, 0.12, 0.15, 0.18, 0.2, 0.23, 0.25, 0.28, 0.3)


def check_rates(what: str, rates: Iterable[float]) -> None:
    """Raises ValueError for a rate that is not a probability, and without any."""
    rates = list(rates)
    outside = [rate for rate in rates if not 0 <= rate <= 1]
    if outside or not rates:
        raise ValueError(f"{what}: expected probabilities in [0, 1], found {outside or 'none'}.")


def presence(samples: int, rates: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Which sample keeps which modality: an independent Bernoulli(1 - rate) draw each.

    A draw depends on seed, modality and the number of samples alone, so all methods, regardless of the order of their
    modalities, see the same masks. With a higher rate the same samples are missing, and more.

    Args:
        samples: how many.
        rates: per modality, in [0, 1].
        seed: of the masks, >= 0.

    Returns:
        per modality bool `(samples,)`.
    """
    check_rates("rates", rates.values())
    return {
        name: np.random.default_rng([seed, *name.encode()]).random(samples) >= rate for name, rate in rates.items()
    }


def accuracy_with_missing(correct: Mapping[Coalition, np.ndarray], present: Mapping[str, np.ndarray]) -> float:
    """Accuracy in [0, 1] when every row has what `present` says.

    Args:
        correct: per coalition of all modalities bool `(rows,)`, whether its prediction is right.
        present: per modality, in the order of the coalitions, bool `(rows,)`.

    Raises:
        ValueError: a coalition is missing.
    """
    coalitions = all_coalitions(list(present))
    missing = [coalition for coalition in coalitions if coalition not in correct]
    if missing:
        raise ValueError(f"expected predictions of every coalition of {list(present)}, found none of {missing}.")
    right = np.zeros(len(next(iter(correct.values()))), dtype=bool)
    for coalition in coalitions:
        here = np.all([keep == (name in coalition) for name, keep in present.items()], axis=0)
        right |= here & correct[coalition]
    return float(right.mean())


def missing_grid(
    correct: Mapping[Coalition, np.ndarray],
    modalities: Sequence[str],
    fixed: str,
    fixed_rate: float,
    varied: str,
    rates: Sequence[float],
    seeds: Sequence[int],
    samples: np.ndarray | None = None,
) -> dict[str, Any]:
    """One curve of Fig. 6: `fixed` is missing at one rate, `varied` at several, all other modalities never.

    Args:
        correct: as in `accuracy_with_missing`.
        modalities: all, in order.
        fixed, varied: two of them.
        fixed_rate, rates: in [0, 1].
        seeds: one set of masks each.
        samples: int `(rows,)`, the sample that a row belongs to, where samples have several rows.

    Returns:
        `fixed`, `fixed_rate`, `varied`, `rates`, and per rate the mean over seeds, `accuracy`, and the standard
        deviation (n - 1), `std`; None for a single seed.

    Raises:
        ValueError: an unknown modality, the same one twice, a rate out of range, or no seed.
    """
    for name in (fixed, varied):
        if name not in modalities:
            raise ValueError(f"expected one of the modalities {list(modalities)}, found {name!r}.")
    if fixed == varied:
        raise ValueError(f"expected two different modalities, found {fixed!r} twice.")
    if not len(seeds):
        raise ValueError("expected at least one seed, found none.")
    check_rates("fixed_rate", [fixed_rate])
    check_rates("rates", rates)
    rows = len(next(iter(correct.values())))
    samples = np.arange(rows) if samples is None else np.asarray(samples)
    count = int(samples.max()) + 1
    table = np.empty((len(rates), len(seeds)))
    for i, rate in enumerate(rates):
        for j, seed in enumerate(seeds):
            every = {**dict.fromkeys(modalities, 0.0), fixed: fixed_rate, varied: rate}
            masks = presence(count, every, seed)
            table[i, j] = accuracy_with_missing(correct, {name: mask[samples] for name, mask in masks.items()})
    return {
        "fixed": fixed,
        "fixed_rate": float(fixed_rate),
        "varied": varied,
        "rates": [float(rate) for rate in rates],
        "accuracy": table.mean(axis=1).tolist(),
        "std": table.std(axis=1, ddof=1).tolist() if len(seeds) > 1 else [None] * len(rates),
    }
