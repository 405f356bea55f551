"""Every public name has a docstring, and the examples in docstrings run."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re

import hf_bml

NAMES = [module.name for module in pkgutil.walk_packages(hf_bml.__path__, "hf_bml.")]
MODULES = {name: importlib.import_module(name) for name in ["hf_bml", *sorted(NAMES)] if not name.endswith("__main__")}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_examples_run():
    failed = {name: doctest.testmod(MODULES[name], optionflags=FLAGS) for name in MODULES}
    assert not [name for name, result in failed.items() if result.failed]
    assert sum(result.attempted > 0 for result in failed.values()) >= 12


def test_public_names_are_documented():
    without = [name for name, module in MODULES.items() if not module.__doc__]
    for name, module in MODULES.items():
        for attribute, value in vars(module).items():
            is_ours = (getattr(value, "__module__", None) or "").startswith("hf_bml")
            if is_ours and attribute[0] != "_" and (inspect.isclass(value) or inspect.isfunction(value)):
                without += [] if inspect.getdoc(value) else [f"{name}.{attribute}"]
    assert not without, f"without a docstring: {without}"


PACKAGES = {name: module for name, module in MODULES.items() if "__all__" in vars(module)}
PUBLIC = {
    f"{name}.{public}": getattr(module, public) for name, module in PACKAGES.items() for public in module.__all__
}


def test_every_package_says_what_is_public():
    leaves = ("data", "metrics", "models", "modulation", "processing")
    assert {"hf_bml", *(f"hf_bml.{leaf}" for leaf in leaves)} <= set(PACKAGES)
    assert len(PUBLIC) == sum(len(module.__all__) for module in PACKAGES.values()), "an __all__ has repeated names"


def own_docstring(value: object) -> str:
    """What was written for a name: no inherited docstring, and not the signature that a dataclass makes up."""
    text = (vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__) or ""
    return "" if inspect.isclass(value) and text.startswith(f"{value.__name__}(") else text


def test_public_names_have_docstrings_of_their_own():
    without = []
    for name, value in PUBLIC.items():
        if isinstance(value, dict):  # a registry
            assert value, f"{name} is empty"
            without += [f"{name}[{key!r}]" for key, entry in value.items() if not own_docstring(entry)]
            continue
        without += [] if own_docstring(value) else [name]
        without += [f"{name}.{member}" for member in undocumented_members(value)]
    assert not without, f"without a docstring: {without}"


def undocumented_members(value: object) -> list[str]:
    """Public methods and properties that a class defines without a word, on itself or on what it overrides."""
    members = vars(value) if inspect.isclass(value) else {}
    return [
        name
        for name, member in members.items()
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod))
        and not inspect.getdoc(getattr(value, name))
    ]


def test_arguments_are_documented():
    """Of functions, and of what builds a class: where a docstring lists arguments, it lists all of them."""
    missing = {name: undescribed_arguments(value) for name, value in PUBLIC.items() if not isinstance(value, dict)}
    missing = {name: arguments for name, arguments in missing.items() if arguments}
    assert not missing, f"arguments without a word: {missing}"


def undescribed_arguments(value: object) -> list[str]:
    if "Args:" not in (text := own_docstring(value)):
        return []
    parameters = inspect.signature(value).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name[0] != "_"]
    if dataclasses.is_dataclass(value):  # what is inherited is described there
        named = [argument for argument in named if argument in inspect.get_annotations(value)]
    referred = [getattr(inspect.getmodule(value), other, None) for other in re.findall(r"see `(\w+)`", text)]
    described = " ".join([text, *(inspect.getdoc(other) or "" for other in referred)])
    return [argument for argument in named if not re.search(rf"\b{re.escape(argument)}\b", described)]
