"""All corruptions by name, and which fit what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from ...ground.suggestion import NOTHING, Registry, check_options
from ..transforms.base import Transform
from .audio import Babble, Telephone, WhiteNoise
from .base import Corruption
from .image import Blur, GaussianNoise, Jpeg
from .text import WordDrop
from .vector import FeatureNoise

CORRUPTIONS: Registry[type[Corruption]] = Registry(
    "corruption",
    Corruption,
    "hf_bml.processing.CORRUPTIONS",
    {
        "white_noise": WhiteNoise,
        "babble": Babble,
        "telephone": Telephone,
        "gaussian_noise": GaussianNoise,
        "blur": Blur,
        "jpeg": Jpeg,
        "word_drop": WordDrop,
        "feature_noise": FeatureNoise,
    },
)


def build_corruption(name: str, options: Mapping[str, Any] | None = None) -> Corruption:
    """A corruption by its name in `CORRUPTIONS`.

    Raises:
        ValueError: an unknown name or option (the closest one is named), or one that is out of range.

    Example:
        >>> build_corruption("white_noise", {"snr": 20}).label
        'white_noise 20 dB'
    """
    found = CORRUPTIONS.find(name)
    if not isinstance(options or {}, Mapping):
        raise ValueError(f"{name}: expected its options as {{option: value}}, found {options!r}. Correct them.")
    check_options(name, options or {}, [field.name for field in fields(found)])
    return found(**(options or NOTHING))


def check_corruptible(modality: str, transform: Transform, name: str, signal: str) -> None:
    """Raises ValueError if the corruption `name` of that kind of signal does not fit what the transform reads."""
    if transform.signal == signal:
        return
    fitting = [key for key, found in CORRUPTIONS.items() if found.signal == transform.signal]
    kind = type(transform).__name__
    if transform.signal is None:
        raise ValueError(
            f"modality {modality!r}: {name} expects a transform that declares its signal, found {kind}, which does "
            "not. Split its `__call__` into `read` and `from_signal`, see Transform."
        )
    raise ValueError(
        f"modality {modality!r}: expected a corruption of {transform.signal}, {fitting}, for {kind}, found {name}, "
        f"one of {signal}. Choose another."
    )


def default_corruptions(transforms: Mapping[str, Transform]) -> list[tuple[str, Corruption]]:
    """Every corruption at its default severities, for each modality that it fits.

    Args:
        transforms: by modality, `MultimodalProcessor.transforms`; those without a signal are left out.
    """
    return [
        (modality, corruption)
        for modality, transform in transforms.items()
        for found in CORRUPTIONS.values()
        if found.signal == transform.signal
        for corruption in _severities(found, transform)
    ]


def _severities(found: type[Corruption], transform: Transform) -> Iterable[Corruption]:
    options = {"per_frame": True} if found is GaussianNoise and transform.compares_frames else {}
    if found.severity is None:
        return [found(**options)]
    return [found(**{found.severity: value, **options}) for value in found.severities]
