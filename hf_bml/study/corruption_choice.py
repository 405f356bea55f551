"""Which corruptions of a run's signals are asked for, and which of them fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ground.suggestion import did_you_mean
from ..processing.corruptions import CORRUPTIONS, Corruption, build_corruption, default_corruptions
from ..processing.tensor_storage import stored_source
from .finished_run import FinishedRun, check_modality
from .methods import parse_options
from .run_data import raw_data


@dataclass(frozen=True)
class Chosen:
    """A corruption that was asked for.

    Attributes:
        modality: whose signal.
        name: in `CORRUPTIONS`.
        options: None for the default severities.
        text: as it was written.
    """

    modality: str
    name: str
    options: Mapping[str, Any] | None
    text: str


def parse_corruption(text: str) -> Chosen:
    """Reads `audio.white_noise`, at its default severities, or `audio.white_noise:snr=10`.

    Raises:
        ValueError: another form, an unknown corruption, or options that it does not have.
    """
    place, colon, given = text.partition(":")
    modality, dot, name = place.rpartition(".")
    if not dot or not modality:
        raise ValueError(f"--corruptions: expected MODALITY.CORRUPTION[:OPTION=VALUE,...], found {text!r}.")
    if name not in CORRUPTIONS:
        hint = did_you_mean(name, CORRUPTIONS)
        raise ValueError(f"--corruptions: no corruption {name!r}.{hint} Known: {', '.join(CORRUPTIONS)}.")
    options = parse_options(given, text) if colon else None
    build_corruption(name, options)
    return Chosen(modality, name, options, text)


def parse_corruptions(texts: Sequence[str] | None, modalities: Sequence[str]) -> list[Chosen] | None:
    """Reads several; None stays None, which means all that fit.

    Args:
        texts: see `parse_corruption`.
        modalities: of any of the runs.

    Raises:
        ValueError: see there; or a modality that no run has.
    """
    chosen = None if texts is None else [parse_corruption(text) for text in texts]
    for one in chosen or ():
        check_modality(f"--corruptions {one.text}", one.modality, modalities)
    return chosen


def fitting_corruptions(
    run: FinishedRun, modalities: Sequence[str], chosen: Sequence[Chosen] | None
) -> tuple[list[tuple[str, Corruption]], list[str]]:
    """Pairs of a modality and its corruption, and a sentence on every modality that none of the default ones fits."""
    if run.processor is None:
        return [], ["The columns are tensors already, and no corruption fits them."]
    features = raw_data(run.recipe)["train"].features or {}
    left_out, transforms = [], {}
    for name in modalities:
        transform = run.processor.transforms[name]
        if transform.signal is None:
            left_out.append(f"{name}: {type(transform).__name__} declares no signal that a corruption could change.")
        elif stored_source(features.get(name)):
            left_out.append(f"{name}: its column holds prepared tensors, not raw values.")
        else:
            transforms[name] = transform
    every = default_corruptions(transforms)
    if chosen is None:
        return every, left_out
    pairs: list[tuple[str, Corruption]] = []
    for one in chosen:
        if one.modality not in modalities:
            continue
        if one.options is not None and one.modality in transforms:
            pairs.append((one.modality, build_corruption(one.name, one.options)))
            continue
        own = [pair for pair in every if (pair[0], pair[1].name) == (one.modality, one.name)]
        if not own:
            names = list(dict.fromkeys(corruption.name for modality, corruption in every if modality == one.modality))
            raise ValueError(
                f"--corruptions {one.text}: does not fit; {one.modality} takes {', '.join(names) or 'none'}."
            )
        pairs += own
    return pairs, []
