"""What corruptions a training saw, for cards and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .corruptions.augmentation import ends
from .corruptions.registry import CORRUPTIONS, build_corruption
from .processor import MultimodalProcessor


def augmentation_of(processor: MultimodalProcessor) -> dict[str, dict[str, Any]]:
    """Which corruptions training saw, JSON-able: `{modality: {corruption: its options, ..., "p": probability}}`; empty
    for none. Ranges are `[lowest, highest]`.

    Example:
        >>> augment = {"feature_noise": {"scale": [0, 1]}, "p": 0.5}
        >>> augmentation_of(MultimodalProcessor({"sensor": {"type": "features", "augment": augment}}))
        {'sensor': {'feature_noise': {'scale': [0, 1]}, 'p': 0.5}}
    """
    return {
        name: {**{kind: dict(options) for kind, options in found.corruptions.items()}, "p": found.p}
        for name, found in processor.augmentations.items()
    }


def augmentation_text(processor: MultimodalProcessor) -> str:
    """The same in words, one sentence.

    Example:
        >>> augment = {"white_noise": {"snr": [0, 20]}, "telephone": {}, "p": 0.5}
        >>> augmentation_text(MultimodalProcessor({"audio": {"type": "log_spectrogram", "augment": augment}}))
        'Training saw 50 % of audio corrupted by white_noise (snr 0 to 20 dB) or telephone.'
        >>> augmentation_text(MultimodalProcessor({"audio": {"type": "log_spectrogram"}}))
        'Training saw no corrupted signals.'
    """
    parts = [
        f"{100 * found.p:g} % of {name} corrupted by "
        + " or ".join(_in_words(kind, options) for kind, options in found.corruptions.items())
        for name, found in processor.augmentations.items()
    ]
    return f"Training saw {'; '.join(parts) or 'no corrupted signals'}."


def _in_words(name: str, options: Mapping[str, Any]) -> str:
    found = CORRUPTIONS.find(name)
    if found.severity is None:
        return name
    given = ends(found, options)
    lowest = build_corruption(name, {**options, found.severity: given[0]} if found.severity in options else options)
    span = f"{lowest.options[found.severity]:g}" + (f" to {given[1]:g}" if len(given) == 2 else "")
    return f"{name} ({found.severity} {span}{found.unit})"
