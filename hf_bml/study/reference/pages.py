"""The reference as text for a terminal, and as markdown."""

from __future__ import annotations

import re
import shutil
import textwrap

import yaml

from ...ground.declared import REQUIRED, Option
from .kinds import KINDS, Part, parts

POINTER = "hf-bml options KIND NAME shows the options of one, hf-bml options NAME of whatever has that name."
MARKDOWN_HEAD = """\
# Reference

What a recipe can name, with all options: types, defaults, meaning, and an example that works. `hf-bml options` shows
the same in a terminal, and of your own parts as well. This file is written by

```
hf-bml options --markdown > recipes/REFERENCE.md
```

`null` is Python's `None`. Keys inside a mapping take dotted names on a command line: `--modulations.opm.q_base 0.5`.
"""


def width() -> int:
    """Columns to write in, at most 100: longer lines are hard to read."""
    return min(100, shutil.get_terminal_size((100, 24)).columns)


def filled(text: str, indent: int = 0, first: str = "") -> str:
    """A paragraph in lines that fit, indented; `first` stands before it, on its first line."""
    wrap = textwrap.TextWrapper(
        width(), first.ljust(indent), " " * indent, break_long_words=False, break_on_hyphens=False
    )
    return wrap.fill(text)


def plain(text: str) -> str:
    """`text` without the brackets around names that documentation links."""
    return re.sub(r"\[(`[^`]*`)\]", r"\1", text)


def declaration(option: Option) -> str:
    """Type and default in words."""
    return ", ".join(filter(None, [option.type, default_in_words(option)]))


def default_in_words(option: Option) -> str:
    """`required`, or the default."""
    return REQUIRED if option.default == REQUIRED else f"default {option.default}"


def example_yaml(part: Part) -> str:
    """The part's example as YAML, what holds no mapping in one line."""
    options = {"sort_keys": False, "width": 80, "allow_unicode": True}
    text = yaml.safe_dump(part.example, default_flow_style=None, **options)
    return yaml.safe_dump(part.example, default_flow_style=False, **options) if text.startswith("{") else text


def overview() -> str:
    """Everything there is, with a line each."""
    return "\n\n".join([*map(listing, KINDS), POINTER])


def listing(kind: str) -> str:
    """A kind, and a line for each that is of it."""
    found = parts(kind)
    column = max(len(part.name) for part in found) + 4
    lines = [filled(plain(part.purpose), column, f"  {part.name}") for part in found]
    return "\n".join([filled(f"{kind}: {KINDS[kind].text}"), *lines])


def page(kind: str, part: Part) -> str:
    """What one is for, its options (those of all of its kind last), and an example."""
    shared = KINDS[kind].shared()
    options = [*sorted(part.options, key=lambda option: option in shared), *part.further]
    entries = [f"  {each.name}  ({declaration(each)})\n{filled(plain(each.meaning), 6)}" for each in options]
    paragraphs = [filled(f"{part.name} ({kind}): {plain(part.purpose)}"), *map(filled, map(plain, part.notes))]
    paragraphs += ["\n".join(entries)] if entries else []
    if part.example is not None:
        paragraphs.append("Example:\n" + textwrap.indent(example_yaml(part), "  ").rstrip())
    return "\n\n".join([*paragraphs, f"Declared in {part.home}."])


def markdown() -> str:
    """The whole reference."""
    contents = ", ".join(f"[{kind}](#{kind})" for kind in KINDS)
    return "\n".join([MARKDOWN_HEAD, f"Kinds: {contents}.", *(markdown_kind(kind) for kind in KINDS)])


def markdown_kind(kind: str) -> str:
    """The chapter of a kind."""
    shared = KINDS[kind].shared()
    blocks = [f"\n## {kind}\n\n{KINDS[kind].text}\n"]
    if shared:
        blocks.append("Options that they share:\n\n" + "\n".join(map(markdown_option, shared)) + "\n")
    return "\n".join([*blocks, *(markdown_part(part, shared) for part in parts(kind))])


def markdown_part(part: Part, shared: list[Option]) -> str:
    """The section of a part, without the options that stand at the head of the chapter."""
    source = f"[{part.home}](../{part.home.replace('.', '/')}.py)"
    paragraphs = [f"### {part.name}", f"{plain(part.purpose)} ({source})", *map(plain, part.notes)]
    options = [markdown_option(option) for option in part.options if option not in shared]
    paragraphs += ["\n".join(options)] if options else []
    if part.example is not None:
        paragraphs.append(f"```yaml\n{example_yaml(part)}```")
    return "\n\n".join(paragraphs) + "\n"


def markdown_option(option: Option) -> str:
    """An entry of a list."""
    default = REQUIRED if option.default == REQUIRED else f"default `{option.default}`"
    kind = f"`{option.type}`, " if option.type else ""
    return f"- **`{option.name}`** ({kind}{default}): {plain(option.meaning)}"
