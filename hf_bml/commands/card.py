"""`hf-bml card RUN_DIR`: the model card of a run, with its picture."""

from __future__ import annotations

import sys
from pathlib import Path

from ..study.command_lines import card_parser
from ..study.errors import command


@command("card")
def main(arguments: list[str]) -> None:
    """Writes the card and prints its path."""
    parser = card_parser(prog="hf-bml card", description="Writes README.md and curves.png about a run.")
    parser.add_argument("--repo-id", help="where the quick start loads the model from (default: the folder)")
    parser.add_argument("--output", type=Path, help="folder for the card (default: RUN_DIR)")
    chosen = parser.parse_args(arguments)
    from ..ground.disk import disk_errors_named  # slow to import, as what follows
    from ..hub.run_folder import write_run_card

    folder = chosen.output or chosen.run_dir
    with disk_errors_named(folder):
        print(write_run_card(chosen.run_dir, folder, chosen.repo_id, chosen.name, chosen.license))


if __name__ == "__main__":
    sys.exit(main())
