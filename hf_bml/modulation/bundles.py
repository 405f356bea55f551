"""Bundles: several modulations, their options and what their model should be, under one name.

Usage:      `modulations: balanced`, or beside others, and with other options for its own modulations:
            `modulations: {balanced: {}, mod_drop: {p: 0.2}, opm: {}}`; the same in Python and on the command line.

What is saved and logged names the modulations that a bundle stands for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bundle:
    """Modulations that are used together.

    Attributes:
        help: what it is for, a sentence.
        modulations: their options.
        model_options: of the model's config, for recipes that do not give them; in Python, give them to the config: a
            training warns of what it has kept at another default.
    """

    help: str
    modulations: Mapping[str, Mapping[str, Any]]
    model_options: Mapping[str, Any] = field(default_factory=dict)


BUNDLES: dict[str, Bundle] = {
    "balanced": Bundle(
        "Keeps a model working when a modality is missing or noisy; the one to begin with.",
        {"multi_loss": {"heads": "split"}, "mod_drop": {"p": 0.5, "if_all_dropped": "keep_all"}},
    ),
}


def named_options(specification: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Options by name, of modulations and bundles: from such a mapping, JSON of one, or names joined by `+`.

    Raises:
        ValueError: none of these.

    Example:
        >>> named_options("balanced+opm")
        {'balanced': {}, 'opm': {}}
    """
    if isinstance(specification, str):
        if specification.startswith("{"):
            try:
                return json.loads(specification)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"modulations must be JSON of a mapping, found {specification!r} ({error})."
                ) from error
        return {name: {} for name in specification.split("+")}
    if not isinstance(specification, Mapping | None):
        raise ValueError(
            f"modulations must be a mapping from name to options, or names joined by +, found {specification!r}. "
            "On the command line give JSON: --modulations '{\"opm\": {}}'."
        )
    return dict(specification or {})


def expanded(specification: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Options by modulation, with those of the bundles' modulations in the place of the bundles.

    Args:
        specification: see `named_options`. Options that are given for a modulation win over its bundle's.

    Raises:
        ValueError: another form, or a bundle is given options.

    Example:
        >>> expanded({"balanced": {}, "mod_drop": {"p": 0.2}})
        {'multi_loss': {'heads': 'split'}, 'mod_drop': {'p': 0.2, 'if_all_dropped': 'keep_all'}}
    """
    given = named_options(specification)
    found: dict[str, Any] = {}
    for name, options in given.items():
        if name not in BUNDLES:
            found.setdefault(name, options)
            continue
        members = BUNDLES[name].modulations
        if options:
            raise ValueError(
                f"{name} has no options of its own, found {options!r}. Give them to one of its modulations, "
                f"{' or '.join(members)}, beside it."
            )
        for member, defaults in members.items():
            own = given.get(member) or {}
            found[member] = {**defaults, **own} if isinstance(own, Mapping) else own
    return found


def bundled_model_options(specification: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """What the model's config should be set to for the bundles among `specification` (see `named_options`)."""
    bundles = [BUNDLES[name] for name in named_options(specification) if name in BUNDLES]
    return {option: value for bundle in bundles for option, value in bundle.model_options.items()}
