"""`hf-bml recipes [list | show | copy]`: the recipes that come with the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from ..study.errors import OneLineErrors, command
from ..study.recipe_file import packaged_recipes

DESCRIPTION = """\
hf-bml train, compare and sensitivity take these recipes by name, from any folder: hf-bml train digits/opm. A path that
exists wins over a name. A recipe of your own may extend one: `extends: digits/concat`."""
WIDTH = 119  # of a line of the list


@command("recipes", is_text_only=True)
def main(arguments: list[str]) -> str:
    """Returns the list, a recipe, or where it was copied to."""
    chosen = build_parser().parse_args(arguments)
    if chosen.action in (None, "list"):
        return recipe_list(chosen.folder if chosen.action else None)
    from ..study.recipe_yaml import standalone_text  # slow to import

    text = standalone_text(chosen.recipe)
    return text.rstrip("\n") if chosen.action == "show" else copy(chosen.recipe, text, chosen.to, chosen.force)


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = OneLineErrors(prog="hf-bml recipes", description=DESCRIPTION, formatter_class=formatter)
    actions = parser.add_subparsers(dest="action", metavar="{list,show,copy}")
    listing = actions.add_parser("list", help="a line about each recipe (the default)")
    listing.add_argument("folder", nargs="?", help="only of this folder, such as digits")
    show = actions.add_parser("show", help="print a recipe with all that it extends")
    copy = actions.add_parser("copy", help="write that into a file, to change it")
    for each in (show, copy):
        each.add_argument("recipe", help="such as digits/opm")
    copy.add_argument("to", nargs="?", type=Path, default=Path(), help="file or folder (default: the current folder)")
    copy.add_argument("--force", action="store_true", help="overwrite the file")
    return parser


def recipe_list(folder: str | None = None) -> str:
    """A line about each recipe: its name, and what it changes in the one that it extends, or trains.

    Raises:
        FileNotFoundError: no such folder.
    """
    found = {name: path for name, path in packaged_recipes().items() if not folder or name.startswith(f"{folder}/")}
    if not found:
        folders = list(dict.fromkeys(name.rpartition("/")[0] for name in packaged_recipes()))
        raise FileNotFoundError(f"expected a folder of recipes, found {folder!r}. There are {', '.join(folders)}.")
    width = max(map(len, found))
    lines = [f"{name:{width}}  {one_line(path)}" for name, path in found.items()]
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in lines)


def one_line(path: Path) -> str:
    """What a recipe's second line says, if that is a comment; else what it changes in another one, or trains."""
    text = path.read_text(encoding="utf-8")
    options, comment = yaml.safe_load(text), text.splitlines()[1]
    base = options.pop("extends", None)
    about = f"{base.removesuffix('.yaml').removeprefix('../../')}, " if base else ""
    if comment.startswith("# "):
        return about + comment[2:]
    if base is None:
        encoders = ", ".join(f"{name} ({encoder['type']})" for name, encoder in options["modalities"].items())
        return f"{options['dataset']}: {encoders}"
    return about + yaml.safe_dump(options, sort_keys=False, default_flow_style=True, width=1000).strip()[1:-1]


def copy(name: str, text: str, to: Path, force: bool) -> str:
    """Writes a recipe into a file; returns what to run next.

    Raises:
        FileExistsError: there is the file, and `force` is not given.
    """
    path = to / f"{Path(name).stem}.yaml" if to.is_dir() else to
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; give another file, or --force to overwrite it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"written to {path}; next: hf-bml train {path}"


if __name__ == "__main__":
    sys.exit(main())
