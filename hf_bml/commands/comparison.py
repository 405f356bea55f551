"""Several runs side by side: `summary.json` after every run, `summary.md` at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..analysis.summary import recipe_table
from .recipe import Recipe

SUMMARY_NAME = "summary"
HIDDEN = ("loss", "mean_average_precision_classes", "epoch", "validation_accuracy")


def results_by_recipe(results: Sequence[tuple[Recipe, dict[str, Any]]]) -> dict[str, list[dict[str, float]]]:
    """Per recipe one flat mapping per run: test metrics, `ratio_<modality>`, `validation_accuracy`."""
    by_recipe: dict[str, list[dict[str, float]]] = {}
    for recipe, result in results:
        ratios = {f"ratio_{modality}": value for modality, value in result["final_ratios"].items()}
        by_recipe.setdefault(recipe.name, []).append(
            {**result["test"], **ratios, "validation_accuracy": result["validation"]["accuracy"]}
        )
    return by_recipe


def write_results(by_recipe: dict[str, list[dict[str, float]]], folder: Path) -> None:
    """`summary.json`; called after every run, so that it holds what is finished, whatever happens next."""
    (folder / f"{SUMMARY_NAME}.json").write_text(json.dumps(by_recipe, indent=2) + "\n", encoding="utf-8")


def write_table(by_recipe: dict[str, list[dict[str, float]]], folder: Path, compare: str) -> str:
    """The comparison as Markdown, also written to `summary.md`."""
    table = recipe_table(by_recipe, shown_columns(by_recipe), compare)
    (folder / f"{SUMMARY_NAME}.md").write_text(table + "\n", encoding="utf-8")
    return table


def shown_columns(by_recipe: dict[str, list[dict[str, float]]]) -> list[str]:
    """The metrics of a comparison: accuracies, mAP, F1 and ratios, in the order in which they first appear."""
    names: dict[str, None] = {}
    for runs in by_recipe.values():
        names.update(dict.fromkeys(runs[0]))
    return ["validation_accuracy", *[name for name in names if name not in HIDDEN]]
