"""`hf-bml card RUN_DIR`: the model card of a run, with its picture."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..ground.disk import disk_errors_named
from ..hub.card import CardOptions, write_card
from ..hub.facts import facts_of_run, public_path
from ..hub.remote_code import CODE_FOLDER
from ..study.errors import BAD_INPUT, OneLineErrors, print_error


def card_parser(**options: str) -> OneLineErrors:
    """The options of the commands that write a card.

    Args:
        options: as for `argparse.ArgumentParser`.
    """
    parser = OneLineErrors(allow_abbrev=False, **options)
    parser.add_argument(
        "run_dir", type=Path, help="folder of a run that hf-bml train wrote, or one of its checkpoints"
    )
    parser.add_argument("--name", help="of the model (default: that of --repo-id, or the folder's)")
    parser.add_argument("--license", help="of the weights, an id that the Hub knows, such as apache-2.0")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 with one line on stderr for bad input."""
    parser = card_parser(prog="hf-bml card", description="Writes README.md and curves.png about a run.")
    parser.add_argument("--repo-id", help="where the quick start loads the model from (default: the folder)")
    parser.add_argument("--output", type=Path, help="folder for the card (default: RUN_DIR)")
    try:
        chosen = parser.parse_args(arguments)
        folder = chosen.output or chosen.run_dir
        with disk_errors_named(folder):
            print(write_run_card(chosen.run_dir, folder, chosen.repo_id, chosen.name, chosen.license))
    except (ValueError, OSError) as error:
        print_error("hf-bml card", error)
        return BAD_INPUT
    return 0


def write_run_card(
    run_dir: str | Path, folder: str | Path, repo_id: str | None, name: str | None = None, license: str | None = None
) -> Path:
    """Writes the card of a run, and its picture, into a folder.

    Args:
        run_dir: of the run or one of its checkpoints.
        folder: is made if needed.
        repo_id: where the quick start loads the model from; default `run_dir`.
        name: of the model; default that of `repo_id`, or the folder's.
        license: of the weights.

    Returns:
        the path of the card.

    Raises:
        FileNotFoundError: `run_dir` holds no model.
    """
    name = name or (repo_id.split("/")[-1] if repo_id else None)
    code = any((Path(place) / CODE_FOLDER).is_dir() for place in (run_dir, folder))
    options = CardOptions(source=repo_id or public_path(run_dir), license=license, code=code)
    return write_card(facts_of_run(run_dir, name), folder, options, figures_from=run_dir)


if __name__ == "__main__":
    sys.exit(main())
