"""Data sets for balanced multimodal training: one file each, one `load(**options) -> datasets.DatasetDict` each.

Every data set has the splits train, validation and test, one column per modality, and `labels`. A new data set is a
new file in this package, or any function named by its dotted path. There is no registry.

Example:
    >>> dataset = load_multimodal_dataset("digits", snr_db=20.0)
    >>> dataset["train"].column_names
    ['audio', 'visual', 'labels']
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from datasets import DatasetDict

from ..ground.suggestion import did_you_mean
from .data_report import data_report
from .from_columns import from_columns
from .location import find_data_file
from .validation import check_dataset_dict

__all__ = [
    "check_dataset_dict",
    "check_options",
    "data_report",
    "dataset_function",
    "dataset_names",
    "find_data_file",
    "from_columns",
    "load_multimodal_dataset",
]

SUPPORT_MODULES = frozenset(
    {
        "annotations",
        "clips",
        "columns",
        "data_report",
        "description",
        "feature_files",
        "joined_columns",
        "location",
        "music_scene",
        "splits",
        "streamed_columns",
        "validation",
    }
)


def dataset_names() -> list[str]:
    """Names of the data sets in this package, sorted."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in modules if not name.startswith("_") and name not in SUPPORT_MODULES)


def load_multimodal_dataset(name: str, **options: Any) -> DatasetDict:
    """Load a data set by name and check it.

    Args:
        name: A name out of `dataset_names()`, or the dotted path of a function that returns a
            `datasets.DatasetDict`: "package.module:function" or "package.module.function".
        options: Keyword arguments of the data set's `load` (or of the function).

    Returns:
        Splits train, validation and test, none empty, with equal columns, among them integer `labels`.

    Raises:
        ValueError: The name or an option is unknown, or the result breaks the contract of `check_dataset_dict`.
    """
    load = dataset_function(name)
    check_options(load, options, name)
    return check_dataset_dict(load(**options), name)


def dataset_function(name: str) -> Callable[..., DatasetDict]:
    """The function behind a data set's name, as `load_multimodal_dataset` takes it.

    Raises:
        ValueError: No such data set, module or function.
    """
    return _user_function(name) if "." in name or ":" in name else _package_function(name)


def _package_function(name: str) -> Callable[..., DatasetDict]:
    names = dataset_names()
    if name not in names:
        raise ValueError(
            f"Expected the name of a data set, found {name!r}.{did_you_mean(name, names)} Known names: "
            f"{', '.join(names)}. For a data set of your own give 'package.module:function'."
        )
    return importlib.import_module(f"{__name__}.{name}").load


def _user_function(path: str) -> Callable[..., DatasetDict]:
    module_name, _, function_name = path.partition(":") if ":" in path else path.rpartition(".")
    if not module_name or not function_name or module_name.startswith("."):
        raise ValueError(f"Expected 'package.module:function', found {path!r}. Give both the module and the function.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"Expected an importable module in {path!r}, found no module '{error.name}'. Correct the path or put the "
            f"module on PYTHONPATH. Data sets of this package: {', '.join(dataset_names())}."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(
            f"Expected a function '{function_name}' in module '{module_name}', found none."
            f"{did_you_mean(function_name, functions)} Functions there: {', '.join(functions) or 'none'}."
        )
    return function


def check_options(load: Callable[..., DatasetDict], options: dict[str, Any], name: str) -> None:
    """Raises ValueError, naming the closest valid one, for an option that a data set's function does not take."""
    parameters = inspect.signature(load).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            raise ValueError(
                f"Expected an option of data set '{name}', found {option!r}.{did_you_mean(option, list(parameters))} "
                f"Options: {', '.join(parameters) or 'none'}."
            )
