"""Where a report's figures go, and how its runs look in all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..figures.style import Styles
from .page import Figure


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

    def draw(
        self,
        name: str,
        caption: str,
        alternative: str,
        plot: Callable[..., Any],
        *data: Any,
        styled: bool = True,
        wide: bool = True,
        **options: Any,
    ) -> Figure:
        """Has `plot(*data, path, **options)`, with the runs' styles if `styled`, write a picture; see `Figure`."""
        path = self.path(name)
        plot(*data, path, **({"styles": self.styles} if styled else {}), **options)
        return Figure(path, caption, alternative, wide)
