"""Coalitions: which modalities a model is given, from none to all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

MAX_MODALITIES = 6
Coalition = tuple[str, ...]


def all_coalitions(modalities: Sequence[str]) -> list[Coalition]:
    """All 2^M coalitions, the smallest first, names in the order of `modalities`.

    Raises:
        ValueError: no modality, or more than 6: a pass over the data per coalition would take too long.

    Example:
        >>> all_coalitions(["audio", "visual"])
        [(), ('audio',), ('visual',), ('audio', 'visual')]
    """
    if not 1 <= len(modalities) <= MAX_MODALITIES:
        raise ValueError(
            f"expected 1 to {MAX_MODALITIES} modalities, as every one of the 2^M coalitions is evaluated; found "
            f"{len(modalities)}: {list(modalities)}."
        )
    sizes = range(len(modalities) + 1)
    return [coalition for size in sizes for coalition in itertools.combinations(modalities, size)]


def coalition_name(coalition: Coalition) -> str:
    """`audio+visual`; empty for the empty coalition."""
    return "+".join(coalition)
