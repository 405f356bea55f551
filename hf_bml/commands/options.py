"""`hf-bml options [KIND] [NAME ...]`: what a recipe can name, and the options of each."""

from __future__ import annotations

import argparse
import sys

from ..study.errors import OneLineErrors, command

DESCRIPTION = """\
Lists what a recipe can name: tasks, encoders, processors, corruptions, fusions, interactions, architectures,
modulations, data sets. With a kind, such as `encoders`, it lists these alone. With a kind and names, or with names of
any kind, it shows their options with types, defaults, meaning and an example; one of your own is `encoders
package.module:Name`. The names training, data and model stand for the blocks of a recipe."""


@command("options")
def main(arguments: list[str]) -> str:
    """Returns the listing, or the page of each name."""
    chosen = build_parser().parse_args(arguments)
    from ..study.reference.kinds import KINDS, found_parts  # slow to import
    from ..study.reference.pages import POINTER, listing, markdown, overview, page

    if chosen.markdown:
        return markdown().rstrip()
    if not chosen.names:
        return overview()
    if chosen.names[0] in KINDS and len(chosen.names) == 1:
        return f"{listing(chosen.names[0])}\n\n{POINTER}"
    return "\n\n\n".join(page(kind, part) for kind, part in found_parts(chosen.names))


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = OneLineErrors(prog="hf-bml options", description=DESCRIPTION)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a kind, names of that kind, or names of any kind")
    parser.add_argument("--markdown", action="store_true", help="print all of it as recipes/REFERENCE.md has it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
