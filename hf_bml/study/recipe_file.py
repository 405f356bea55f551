"""The file of a recipe, by its path or by the name of a packaged one; imports nothing slow, so that `hf-bml` can say
at once that there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..ground.suggestion import did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
RECIPES = PACKAGE / "recipes"  # where the build puts the repository's
if not RECIPES.is_dir():
    RECIPES = PACKAGE.parent / "recipes"
NO_RECIPES = "accelerate_configs"  # a folder of YAML for `accelerate launch`


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name (`digits/opm`), sorted."""
    files = {path.relative_to(RECIPES).with_suffix("").as_posix(): path for path in RECIPES.rglob("*.yaml")}
    return {name: files[name] for name in sorted(files) if not name.startswith(NO_RECIPES)}


def find_recipe(recipe: str | Path, extended_by: Sequence[Path] = ()) -> Path:
    """The file of a recipe: the path itself if there is such a file, else that of a packaged recipe.

    Args:
        recipe: a path, for a recipe that another one extends relative to that one's; or the name of a packaged recipe,
            as `digits/opm`, `digits/opm.yaml` or, as in the repository, `recipes/digits/opm.yaml`.
        extended_by: the absolute paths of the recipes that led to it.

    Raises:
        FileNotFoundError: neither; the closest name is named.
    """
    path = Path(extended_by[-1].parent, recipe) if extended_by else Path(recipe)
    if path.is_file():
        return path
    known = packaged_recipes()
    name = Path(recipe).as_posix().removeprefix("recipes/").removesuffix(".yaml")
    if name in known:
        return known[name]
    via = f" ({extended_by[-1]} extends it)" if extended_by else ""
    inside = [each for each in known if each.startswith(f"{name}/")]
    hint = f" {name} has {', '.join(inside[:3])}, ..." if inside else did_you_mean(name, known)
    raise FileNotFoundError(
        f"recipe {path} does not exist{via}; expected the path of a YAML file, or a name that hf-bml recipes lists."
        f"{hint}"
    )
