"""One HTML page that holds everything: sections of text, figures and tables; no script, no request to anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import jinja2

TEMPLATE_NAME = "template.html"
MOST_COLUMNS = 7  # of a table that fits on a page of 800 pixels
LEAD_COLUMNS = 6  # that are seen of a wider one


@dataclass
class Figure:
    """A picture with its caption.

    Attributes:
        path: a PNG.
        caption: what is seen, and where it comes from.
        alternative: what the picture shows, for those who do not see it.
        wide: whether it takes the page's whole width.
    """

    path: Path
    caption: str
    alternative: str
    wide: bool = True
    kind: str = field(default="figure", init=False)

    @property
    def source(self) -> str:
        """The PNG as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode("ascii")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the PNG's header."""
        header = self.path.read_bytes()[16:24]
        return int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")


@dataclass
class Table:
    """A table whose first column names its rows; of a wide one the reader opens what lies behind the first columns.

    Attributes:
        caption: what it holds.
        header: one text per column.
        rows: as many texts per row.
        folded: whether the reader opens it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    kind: str = field(default="table", init=False)

    @property
    def lead(self) -> Table | None:
        """The first columns of a table that is wider than the page; None for one that fits or is folded anyway."""
        if self.folded or len(self.header) <= MOST_COLUMNS:
            return None
        rows = [row[:LEAD_COLUMNS] for row in self.rows]
        return Table(self.caption, self.header[:LEAD_COLUMNS], rows)


@dataclass
class Text:
    """A paragraph, and lines of a list below it.

    Attributes:
        text: the paragraph; may be empty.
        lines: of the list.
        code: whether the lines are commands.
    """

    text: str = ""
    lines: Sequence[str] = ()
    code: bool = False
    kind: str = field(default="text", init=False)


@dataclass
class Cards:
    """Boxes side by side, each with a heading and lines.

    Attributes:
        cards: heading and lines of each.
    """

    cards: Sequence[tuple[str, Sequence[str]]]
    kind: str = field(default="cards", init=False)


@dataclass
class Section:
    """A part of the page.

    Attributes:
        anchor: its place in links, unique.
        title: its heading.
        parts: figures, tables and texts in their order.
    """

    anchor: str
    title: str
    parts: list[Figure | Table | Text | Cards] = field(default_factory=list)


def render_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The page as HTML; all texts are escaped, so that names from data or options cannot become markup.

    Args:
        title: of the page.
        subtitle: a line below it.
        sections: in their order; those without parts are left out.
    """
    template = files(__package__).joinpath(TEMPLATE_NAME).read_text(encoding="utf-8")
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(**options)
    shown = [section for section in sections if section.parts]
    return environment.from_string(template).render(title=title, subtitle=subtitle, sections=shown)
