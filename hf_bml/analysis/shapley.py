"""Shapley values: how much each modality contributes to a score such as the accuracy.

The exact value of modality m among M modalities (Shapley 1953), with v the score of a coalition:

    phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! (v(S + m) - v(S))

They add up to v(all) - v(none) (efficiency). A modality that is not in the coalition is absent: its feature is zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .coalitions import Coalition, all_coalitions, coalition_name


def shapley_values(scores: Mapping[Coalition, float], modalities: Sequence[str]) -> dict[str, float]:
    """Exact Shapley value of every modality, in the unit of the scores.

    Args:
        scores: of every coalition of `modalities`, see `all_coalitions`.
        modalities: 1 to 6 names, in the order that the coalitions have.

    Raises:
        ValueError: too many modalities, or a coalition without score.

    Example:
        >>> shapley_values({(): 0.0, ("a",): 0.5, ("b",): 0.25, ("a", "b"): 1.0}, ["a", "b"])
        {'a': 0.625, 'b': 0.375}
    """
    coalitions = all_coalitions(modalities)
    missing = [coalition_name(coalition) or "(none)" for coalition in coalitions if coalition not in scores]
    if missing:
        raise ValueError(f"expected a score of every coalition of {list(modalities)}, found none of {missing}.")
    total = len(modalities)
    values = {}
    for modality in modalities:
        terms = []
        for coalition in (coalition for coalition in coalitions if modality not in coalition):
            joined = tuple(name for name in modalities if name in coalition or name == modality)
            size = len(coalition)
            weight = math.factorial(size) * math.factorial(total - size - 1) / math.factorial(total)
            terms.append(weight * (scores[joined] - scores[coalition]))
        values[modality] = math.fsum(terms)
    return values
