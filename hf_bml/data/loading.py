"""Finds a data set by its name or dotted path, loads and checks it.

Example:
    >>> dataset = load_multimodal_dataset("digits", snr_db=20.0)
    >>> dataset["train"].column_names
    ['audio', 'visual', 'labels']
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from datasets import DatasetDict

from ..ground.suggestion import check_options as check_known
from ..ground.suggestion import did_you_mean, import_named
from . import catalogue
from .from_columns import load as load_columns
from .validation import check_dataset_dict

FROM_COLUMNS = "from_columns"
BESIDE_RECIPES = {"music_avqa_generated": "recipes.music_avqa_generated.questions:load"}  # modules among the recipes


def dataset_names() -> list[str]:
    """Names of the data sets in `hf_bml.data.catalogue`, and `from_columns`, sorted."""
    return sorted([FROM_COLUMNS, *(module.name for module in pkgutil.iter_modules(catalogue.__path__))])


def load_multimodal_dataset(name: str, **options: Any) -> DatasetDict:
    """Load a data set by name and check it.

    Args:
        name: a name out of `dataset_names()`, or the dotted path of a function that returns a
            `datasets.DatasetDict`: "package.module:function" or "package.module.function".
        options: keyword arguments of the data set's `load` (or of the function).

    Returns:
        splits train, validation and test, none empty, with equal columns, among them integer `labels`.

    Raises:
        ValueError: the name or an option is unknown, or the result breaks the contract of `check_dataset_dict`.
    """
    load = dataset_function(name)
    check_options(load, options, name)
    return check_dataset_dict(load(**options), name)


def dataset_function(name: str) -> Callable[..., DatasetDict]:
    """The function behind a data set's name, as `load_multimodal_dataset` takes it.

    Raises:
        ValueError: no such data set, module or function.
    """
    return _user_function(name) if "." in name or ":" in name else _package_function(name)


def _package_function(name: str) -> Callable[..., DatasetDict]:
    if name in BESIDE_RECIPES:
        with contextlib.suppress(ValueError):  # in a clone the recipes are not inside the package
            return import_named(f"{__package__.partition('.')[0]}.{BESIDE_RECIPES[name]}")
        try:
            return import_named(BESIDE_RECIPES[name])
        except ValueError as error:
            message = f"Data set {name!r} lies beside its recipes: run in the root of a clone. {error}"
            raise ValueError(message) from error
    names = dataset_names()
    if name not in names:
        raise ValueError(
            f"Expected the name of a data set, found {name!r}.{did_you_mean(name, names)} Known names: "
            f"{', '.join(names)}. For a data set of your own give 'package.module:function'."
        )
    return load_columns if name == FROM_COLUMNS else importlib.import_module(f"{catalogue.__name__}.{name}").load


def _user_function(path: str) -> Callable[..., DatasetDict]:
    try:
        function = import_named(path)
    except ValueError as error:
        raise ValueError(f"{error} Data sets of this package: {', '.join(dataset_names())}.") from error
    if not callable(function):
        raise ValueError(f"Expected a function in {path!r}, found {type(function).__name__}.")
    return function


def check_options(load: Callable[..., DatasetDict], options: dict[str, Any], name: str) -> None:
    """Raises ValueError, naming the closest valid one, for an option that a data set's function does not take."""
    parameters = inspect.signature(load).parameters
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        check_known(f"The data set {name!r}", options, parameters)
