"""Where a report's figures go, and how its runs look in all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..figures.style import Styles


@dataclass
class FigureFolder:
    """A folder of PNGs.

    Attributes:
        folder: it exists.
        styles: line options per run, the same in all figures.
        prefix: what their names begin with; tells data sets apart.
    """

    folder: Path
    styles: Styles
    prefix: str = ""

    def path(self, name: str) -> Path:
        """`<folder>/<prefix><name>.png`."""
        return self.folder / f"{self.prefix}{name}.png"
