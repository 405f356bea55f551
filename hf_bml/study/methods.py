"""The methods of a comparison, as the command line writes them.

none                                  plain training
opm                                   a modulation with its default options
opm:q_base=0.3,lam=0.25+ogm           with options (values are YAML), and together with another one
balanced+mod_drop:p=0.3               a bundle, with another option of one of its modulations
none@greedy                           plain training of the model that greedy needs
unimodal                              the single modality that is best on validation
ensemble:average=logits               the modalities' own models together; or average=probabilities, the default
unimodal_init, unimodal_init+opm      joint training that starts from the modalities' own encoders
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from ..analysis.row import PLAIN
from ..ground.suggestion import did_you_mean
from ..modulation import BUNDLES, MODULATIONS, build_modulations, bundled_model_options
from .parts import JOINT_ONLY
from .recipe_yaml import RecipeLoader

STARTS: dict[str, dict[str, Any]] = {  # what begins with models of one modality each, and its options' defaults
    "unimodal": {},
    "ensemble": {"average": "probabilities"},
    "unimodal_init": {},
}
AVERAGES = ("probabilities", "logits")


@dataclass
class Method:
    """A combination of modulations, the model it runs on, and what it starts from.

    Attributes:
        modulations: the options given per modulation or bundle, in the order of the text; empty for plain training.
        borrowed: further modulations whose model is needed, without themselves.
        start: one of STARTS, empty for new weights.
        start_options: the given ones of its options.
    """

    modulations: dict[str, dict[str, Any]] = field(default_factory=dict)
    borrowed: tuple[str, ...] = ()
    start: str = ""
    start_options: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> str:
        """The modulations' names joined by `+`, behind the start if there is one; or `none`."""
        return "+".join([*([self.start] if self.start else []), *self.modulations]) or PLAIN

    def with_option(self, name: str, option: str, value: Any) -> Method:
        """The same with another value for an option of its part `name`."""
        if name == self.start:
            return replace(self, start_options={**self.start_options, option: value})
        changed = {**self.modulations[name], option: value}
        return replace(self, modulations={**self.modulations, name: changed})

    @property
    def label(self) -> str:
        """As the command line writes it, all given options included; `parse_method` reads it again."""
        given = {**({self.start: self.start_options} if self.start else {}), **self.modulations}
        parts = [
            name + (":" + ",".join(f"{key}={option_text(value)}" for key, value in options.items()) if options else "")
            for name, options in given.items()
        ]
        return ("+".join(parts) or PLAIN) + ("@" + "+".join(self.borrowed) if self.borrowed else "")

    @property
    def plain(self) -> str:
        """The label of plain training of the same model."""
        return Method(borrowed=self.owners).label

    @property
    def owners(self) -> tuple[str, ...]:
        """The modulations that need a model of their own."""
        return tuple(dict.fromkeys(name for name, options in self._given if model_options_of(name, options)))

    @property
    def _given(self) -> list[tuple[str, Mapping[str, Any] | None]]:
        return [*self.modulations.items(), *((name, None) for name in self.borrowed)]

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's config must be set to for these modulations.

        Raises:
            ValueError: two of them need different values.
        """
        options: dict[str, Any] = {}
        for name, given in self._given:
            for option, value in model_options_of(name, given).items():
                if options.setdefault(option, value) != value:
                    raise ValueError(
                        f"{self.label!r}: its modulations need the model option {option} to be {options[option]!r} "
                        f"and {value!r} at once. Compare them in separate methods."
                    )
        return options

    @property
    def start_changes(self) -> dict[str, Any]:
        """The recipe options of its start; of `unimodal` none, as it is a recipe per modality.

        Raises:
            ValueError: an option that the start does not have, or not with this value.
        """
        options = {**STARTS.get(self.start, {}), **self.start_options}
        for name in self.start_options:
            if name not in STARTS[self.start]:
                raise ValueError(f"{self.label!r}: {self.start} has no option {name!r}.")
        if self.start == "ensemble":
            if options["average"] not in AVERAGES:
                raise ValueError(f"ensemble: average must be one of {AVERAGES}, found {options['average']!r}.")
            return {**JOINT_ONLY, "from_unimodal": "models", "fusion": f"average_{options['average']}"}
        return {"from_unimodal": "encoders"} if self.start == "unimodal_init" else {}


def method_of(options: Mapping[str, Any]) -> Method:
    """The method of a run, from the options of its recipe that differ from the defaults."""
    modulations = {name: given or {} for name, given in (options.get("modulations") or {}).items()}
    if options.get("from_unimodal") == "models":
        average = str(options.get("fusion")).removeprefix("average_")
        return Method(start="ensemble", start_options={} if average == AVERAGES[0] else {"average": average})
    return Method(modulations, start="unimodal_init" if options.get("from_unimodal") else "")


def parse_method(text: str, defaults: Mapping[str, Mapping[str, Any] | None] | None = None) -> Method:
    """Reads `opm:q_base=0.3+ogm@greedy`.

    Args:
        text: see the module.
        defaults: options per modulation where the text gives none.

    Raises:
        ValueError: unknown modulation, one that is given twice, or options of another form. Names and values of
            options are the modulations' own business.

    Example:
        >>> parse_method("opm:q_base=0.3+ogm", {"ogm": {"alpha": 0.8}}).modulations
        {'opm': {'q_base': 0.3}, 'ogm': {'alpha': 0.8}}
    """
    combination, at, model = text.partition("@")
    method = Method(borrowed=tuple(model.split("+")) if at else ())
    for part in re.split(r"\+(?=[A-Za-z_])", combination) if combination != PLAIN else ():
        name, colon, options = part.partition(":")
        given = parse_options(options, text) if colon else {}
        if name in STARTS and not method.start and not method.modulations:
            method.start, method.start_options = name, given
            continue
        check_modulation(name, text)
        if name in method.modulations:
            raise ValueError(f"{text!r}: {name} is given twice.")
        method.modulations[name] = {**((defaults or {}).get(name) or {}), **given}
    if method.start in ("unimodal", "ensemble") and (method.modulations or method.borrowed):
        raise ValueError(f"{text!r}: {method.start} has no joint training that could be modulated. Use it by itself.")
    for name in method.borrowed:
        check_modulation(name, text)
        if not model_options_of(name):
            raise ValueError(f"{text!r}: {name} needs no model of its own. Leave out '@{name}'.")
    return method


def model_options_of(name: str, options: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """What a modulation with these options, or a bundle, needs the model's config to be, whatever the modalities."""
    try:
        modulations = build_modulations({name: options})
    except ValueError:  # of wrong options, which the check of the recipe refuses, saying where they were given
        return {}
    found = bundled_model_options({name: options})
    for modulation in modulations:
        found |= modulation.needs(()).model_options
    return found


def check_modulation(name: str, text: str) -> None:
    """Raises ValueError, naming the closest valid one, for a modulation that does not exist."""
    if name == PLAIN:
        raise ValueError(f"{text!r}: none is used by itself; it is plain training.")
    if name not in (*MODULATIONS, *BUNDLES):
        known = [PLAIN, *MODULATIONS, *BUNDLES, *STARTS]
        hint = did_you_mean(name, known)
        raise ValueError(f"{text!r}: unknown modulation {name!r}.{hint} Known: {', '.join(known)}.")


def parse_options(text: str, where: str) -> dict[str, Any]:
    """Reads `q_base=0.3,lam=0.25`; values are YAML, so lists and mappings take brackets.

    Raises:
        ValueError: another form, or a value that is not YAML.
    """
    pairs, count = re.subn(r"(^|,)\s*(\w+)=", r"\1 \2: ", text)
    try:
        options = yaml.load(f"{{{pairs}}}", Loader=RecipeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{where!r}: the options {text!r} cannot be read: {error}") from error
    if not count or len(options) != count:
        raise ValueError(f"{where!r}: expected options like q_base=0.3,lam=0.25 after the colon, found {text!r}.")
    return options


def option_text(value: Any) -> str:
    """A value as `parse_options` reads it: words as they are, everything else as JSON."""
    is_word = isinstance(value, str) and re.fullmatch(r"[\w.-]+", value)
    return value if is_word and yaml.load(value, RecipeLoader) == value else json.dumps(value, default=str)


def check_used(methods: Iterable[Method], given: Iterable[str]) -> None:
    """Raises ValueError for a modulation that options were given for, but that no method contains."""
    used = {name for method in methods for name in method.modulations}
    for name in given:
        if name not in used:
            hint = did_you_mean(name, used)
            raise ValueError(f"--modulations.{name}: no method contains {name!r}.{hint}")
