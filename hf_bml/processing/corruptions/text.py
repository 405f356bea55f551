"""Corruptions of a text, before it is tokenized."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Corruption, Surroundings, number


@dataclass(frozen=True)
class WordDrop(Corruption):
    """Leaves out words; those that stay are joined by single spaces.

    Words are what white space separates. At least one stays, so a text of one word, or of a language without spaces,
    stays as it is.

    Args:
        fraction: of the words that are left out, rounded to whole words: exactly that many.

    Raises:
        ValueError: `fraction` is not in [0, 1].
    """

    name, signal = "word_drop", "text"
    severity, severities = "fraction", (0.1, 0.3, 0.5)

    fraction: float = number(0.3, 0, 1)

    def __call__(self, signal: str, rng: np.random.Generator, around: Surroundings) -> str:
        """The text that is left. What a milder severity drops, a stronger one drops, too."""
        words = signal.split()
        count = min(round(self.fraction * len(words)), len(words) - 1)
        if count < 1:
            return signal
        dropped = set(rng.permutation(len(words))[:count].tolist())
        return " ".join(word for index, word in enumerate(words) if index not in dropped)
