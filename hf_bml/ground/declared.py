"""What a class or function declares of its options, for people: name, type, default, meaning, purpose, an example.

Everything is read from what is declared anyway: the fields of a dataclass or the signature, and the docstring, whose
section `Args:` says what an option means and whose line "Usage: `YAML`" is the example.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

import yaml

REQUIRED = "required"
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields", "Example", "Usage")
TYPES = (  # what people who write YAML call it
    (r"\b(\w+\.)+(?=[A-Z])", ""),
    (r"\bstr \| PathLike\b", "path"),
    (r"\bSequence\[", "list["),
    (r"\bMapping\[", "dict["),
    (r"\bNone\b", "null"),
)


@dataclass(frozen=True)
class Option:
    """An option, in words.

    Attributes:
        name: as in YAML.
        type: such as "int | null".
        default: as in YAML, or "required".
        meaning: of the docstring, else the field's `help`; without line breaks.
    """

    name: str
    type: str
    default: str
    meaning: str


def options_of(owner: Callable[..., Any], names: Iterable[str] | None = None) -> list[Option]:
    """The options that a dataclass, another class or a function takes.

    Args:
        owner: what takes them by keyword.
        names: those wanted, in order; all by default.

    Example:
        >>> def load(path: str, rate: int = 16000):
        ...     '''Loads.
        ...
        ...     Args:
        ...         path, rate: of the file.
        ...     '''
        >>> options_of(load)[1]
        Option(name='rate', type='int', default='16000', meaning='of the file.')
    """
    found = {}
    for name, (kind, default, text) in declared(owner).items():
        shown = default if default == REQUIRED else in_yaml(default)
        found[name] = Option(name, type_in_words(kind), shown, meaning_of(owner, name) or text)
    return [found[name] for name in (found if names is None else names)]


def declared(owner: Callable[..., Any]) -> dict[str, tuple[Any, Any, str]]:
    """Annotation, default (REQUIRED without one) and help of every option."""
    if is_dataclass(owner):
        types = {}  # as written: HfArgumentParser changes the types of fields
        for base in reversed(owner.__mro__):
            types |= inspect.get_annotations(base)
        return {
            each.name: (types[each.name], default_of(each), each.metadata.get("help", ""))
            for each in fields(owner)
            if each.init
        }
    return {
        each.name: (each.annotation, REQUIRED if each.default is each.empty else each.default, "")
        for each in inspect.signature(owner).parameters.values()
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }


def default_of(field: Any) -> Any:
    """The default of a dataclass's field, REQUIRED without one."""
    if field.default is not MISSING:
        return field.default
    return REQUIRED if field.default_factory is MISSING else field.default_factory()


def check_required(kind: str, owner: Callable[..., Any], options: Iterable[str]) -> None:
    """Raises ValueError if an option that `owner` needs is not among `options`; `kind` is its name in a recipe."""
    for name, (_, default, _) in declared(owner).items():
        if default == REQUIRED and name not in options:
            raise ValueError(f"type {kind!r} needs the option {name!r}.")


def unlike_declared(owner: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """Which options have a value of another type than declared, a sentence each; "" if none has.

    Example:
        >>> def cut(duration: float | None = None): ...
        >>> unlike_declared(cut, {"duration": "3s"})
        "duration must be float | null, found '3s'."
    """
    found = {name: type_in_words(kind) for name, (kind, _, _) in declared(owner).items() if name in options}
    wrong = [name for name, words in found.items() if not fits(options[name], words)]
    return " ".join(f"{name} must be {found[name]}, found {options[name]!r}." for name in wrong)


def fits(value: Any, words: str) -> bool:
    """Whether a value out of YAML may be of a type in words; what lists and mappings hold is not looked at."""
    names = {type(None): ("null",), int: ("int", "float"), str: ("str", "path"), tuple: ("list",)}
    return not words or any(name in words for name in ("Any", *names.get(type(value), (type(value).__name__,))))


def type_in_words(annotation: Any) -> str:
    """An annotation, which may be a string, as people who write YAML know it; "" for none."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for pattern, words in TYPES:
        text = re.sub(pattern, words, text)
    return text


def in_yaml(value: Any) -> str:
    """A value as YAML has it, in one line.

    Example:
        >>> in_yaml((8, None)), in_yaml("mean"), in_yaml(1e-7)
        ('[8, null]', 'mean', '1e-07')
    """
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def purpose_of(owner: Any) -> str:
    """The first paragraph of a docstring, in one line."""
    return one_line(inspect.getdoc(owner).split("\n\n")[0]) if inspect.getdoc(owner) else ""


def description_of(owner: Any) -> list[str]:
    """The further paragraphs of a docstring before its sections, each in one line."""
    text = re.split(rf"^(?:{'|'.join(SECTIONS)}):", inspect.getdoc(owner) or "", maxsplit=1, flags=re.MULTILINE)[0]
    return [one_line(paragraph) for paragraph in text.strip().split("\n\n")[1:]]


def usage_of(*owners: Any) -> dict[str, Any] | None:
    """The example in the first docstring that has a line "Usage: `YAML`"; None if none has."""
    for owner in owners:
        example = re.match(r"`([^`]*)`", note_of(owner, "Usage"))
        if example:
            return yaml.safe_load(example[1] if example[1].startswith("{") else f"{{{example[1]}}}")
    return None


def note_of(owner: Any, word: str) -> str:
    """What a docstring says behind a line's beginning `word:`, without line breaks; "" if there is no such line."""
    found = re.search(rf"^{word}:[ \t]+(\S.*(?:\n[ \t]+\S.*)*)", inspect.getdoc(owner) or "", flags=re.MULTILINE)
    return one_line(found[1]) if found else ""


def meaning_of(owner: Callable[..., Any], name: str) -> str:
    """What docstrings say of an option: that of a function or class, its bases', or the one that they refer to by
    "see `Name`"."""
    text = ""
    for each in owner.__mro__ if inspect.isclass(owner) else (owner,):
        text = arguments_in(own_docstring(each)).get(name, text)
        refers = re.fullmatch(r"(?:see|as of) \[?`([\w.]+)`\]?[.,;]?( .*)?", text)
        if refers and (other := named_from(each, refers[1])):
            return meaning_of(other, name) + (refers[2] or "")
        if text and not refers:
            break
    return text


def own_docstring(owner: Any) -> str | None:
    """A docstring as it was written for a class or function, not inherited; None for none."""
    return vars(owner).get("__doc__") if inspect.isclass(owner) else owner.__doc__


def named_from(owner: Any, name: str) -> Any:
    """What a name in the docstring of `owner` stands for; None if it is unknown there."""
    module, _, last = name.rpartition(".")
    return vars(sys.modules[module or owner.__module__]).get(last)


def arguments_in(docstring: str | None) -> Mapping[str, str]:
    """The section `Args:` of a docstring: what it says by name, in one line each; several may share a text.

    Example:
        >>> arguments_in("Adds.\\n\\nArgs:\\n    a, b (`int`): numbers,\\n        both.\\n\\nReturns:\\n    the sum.")
        {'a': 'numbers, both.', 'b': 'numbers, both.'}
    """
    section = re.search(
        r"^Args:\n((?:[ \t]+.*\n?|\n(?=[ \t]))*)", inspect.cleandoc(docstring or ""), flags=re.MULTILINE
    )
    if section is None:
        return {}
    entries = re.findall(r"^([\w, ]+?)(?: \([^\n]*?\))?:\s+((?:.+\n?(?:\n*[ \t]+.*\n?)*))", dedented(section[1]), re.M)
    return {name: one_line(text) for names, text in entries for name in names.split(", ")}


def dedented(text: str) -> str:
    """`text` without the indentation of its first line."""
    return inspect.cleandoc(f"\n{text}")


def one_line(text: str) -> str:
    """`text` without line breaks."""
    return " ".join(text.split())
