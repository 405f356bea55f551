"""What pictures and tables call what modulations log: a method says it itself, in its `titles`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..modulation import MODULATIONS, Modulation, Title

NOT_MODULATIONS = ("balance", "unimodal")
TIME = "_seconds"  # how the name of a time ends, which is in the tables


class Quantity(NamedTuple):
    """What a method logs for one modality, or for all.

    Attributes:
        key: in the log, `<method>/<name>_<modality>` or `<method>/<name>`.
        method: what the method is called; that of its class, if it is known.
        title: the method's, else one made of the name.
        modality: empty for a quantity of the whole model.
        is_named: whether the method has a title for it.
    """

    key: str
    method: str
    title: Title
    modality: str
    is_named: bool

    def __str__(self) -> str:
        what = f"{self.method}, {self.title.axis}"
        return f"{what}: {self.modality}" if self.modality else what


def quantities(keys: Iterable[str], modalities: Sequence[str]) -> list[Quantity]:
    """What modulations logged, in the order of the keys, but for times.

    Args:
        keys: of a log.
        modalities: names.

    Example:
        >>> [str(found) for found in quantities(["loss", "opm/drop_probability_audio", "mine/some_norm"], ["audio"])]
        ['OPM, drop probability: audio', 'mine, some norm']
    """
    found = []
    for key in keys:
        method, slash, name = key.partition("/")
        if not slash or method in NOT_MODULATIONS or key.endswith(TIME):
            continue
        modality = max((m for m in modalities if name.endswith(f"_{m}")), key=len, default="")
        name = name.removesuffix(f"_{modality}") if modality else name
        known = method_named(method)
        title = known.titles.get(name) if known else None
        label = known.__name__ if known else method.replace("_", " ")
        found.append(Quantity(key, label, title or Title(name.replace("_", " "), None), modality, title is not None))
    return found


def method_named(name: str) -> type[Modulation] | None:
    """The package's modulation of that name, or a user's own that has been imported; None for another."""
    if name in MODULATIONS:
        return MODULATIONS[name]
    return next((method for method in subclasses(Modulation) if vars(method).get("name") == name), None)


def subclasses(parent: type[Modulation]) -> Iterator[type[Modulation]]:
    """All classes that inherit from one, at any depth."""
    for child in parent.__subclasses__():
        yield child
        yield from subclasses(child)
