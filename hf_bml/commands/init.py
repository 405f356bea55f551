"""`hf-bml init --dataset my.csv --audio wav --visual mp4 --label emotion`: a first recipe for data of your own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..study.errors import OneLineErrors, command

DESCRIPTION = """\
Looks at the data and writes a commented YAML that trains as it is: processors and encoders that fit the columns, batch
size, epochs and splits that fit the rows.

    hf-bml init --dataset my.csv --audio wav --visual mp4 --label emotion
    hf-bml init --dataset me/clips --modality face=frames --modality words=transcript --label mood"""
SHORT = ("audio", "visual", "image", "video", "text")
HUB_OPTIONS = ("name", "revision")


@command("init")
def main(arguments: list[str]) -> str:
    """Writes the recipe; returns what was seen, and the next command."""
    chosen = build_parser().parse_args(arguments)
    data_files = [part.partition("=") for part in chosen.data_files or []]
    first = data_files[0][2] or data_files[0][0] if data_files else chosen.dataset
    output = chosen.output or Path(f"{Path(first).stem}.yaml")
    if output.exists() and not chosen.force:
        raise FileExistsError(f"{output} exists; give another --output, or --force to overwrite it.")
    from ..study.first_recipe import first_recipe  # slow to import

    source = {"path": chosen.dataset}
    if data_files:
        named = all(equals for _, equals, _ in data_files)
        source["data_files"] = {split: file for split, _, file in data_files} if named else chosen.data_files
    source |= {option: value for option in HUB_OPTIONS if (value := vars(chosen)[option]) is not None}
    modalities = dict(chosen.modalities or [])
    if len(modalities) != len(chosen.modalities or []):
        raise ValueError(f"expected every modality once, found {[name for name, _ in chosen.modalities]}.")
    label = chosen.label if len(chosen.label) > 1 else chosen.label[0]
    found = first_recipe(source, modalities, label, chosen.group, chosen.media_dir, chosen.numbers)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(f"# hf-bml train {output}\n{found.text}", encoding="utf-8")
    further = f"\nthen: hf-bml compare {output} --modulations none opm balanced" if len(modalities) > 1 else ""
    return "\n".join([*found.seen, f"written to {output}; next: hf-bml train {output}{further}"])


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = OneLineErrors(prog="hf-bml init", description=DESCRIPTION, formatter_class=formatter, allow_abbrev=False)
    parser.add_argument(
        "--dataset", required=True, help="file (.csv, .tsv, .parquet, .json, .jsonl), folder, Hub id, or a format"
    )
    parser.add_argument(
        "--data_files", nargs="+", metavar="[SPLIT=]FILE", help="of a folder, Hub id or format: file patterns"
    )
    parser.add_argument("--name", help="configuration of a Hub data set")
    parser.add_argument("--revision", help="commit or tag of a Hub data set")
    parser.add_argument("--media_dir", help="folder that file names are relative to (default: the table's)")
    for name in SHORT:
        parser.add_argument(
            f"--{name}",
            dest="modalities",
            action="append",
            type=lambda text, name=name: modality(f"{name}={text}"),
            metavar="COLUMN",
            help=f"short for --modality {name}=COLUMN" + (", of videos their sound" if name == "audio" else ""),
        )
    parser.add_argument(
        "--modality",
        dest="modalities",
        action="append",
        type=modality,
        metavar="NAME=COLUMN[:KIND]",
        help="once for each modality; the kind (audio, image, frames, video, text, vector, sequence) is looked up in "
        "the column unless it is given",
    )
    parser.add_argument(
        "--label",
        nargs="+",
        default=["label"],
        metavar="COLUMN",
        help="column of the class, of lists of classes, or of numbers with a fraction to predict; or several columns, "
        "of 0 and 1, one for each class (default: label)",
    )
    parser.add_argument("--numbers", action="store_true", help="the label is a number to predict, or several")
    parser.add_argument("--group", help="column whose equal values stay in one split, such as the speaker")
    parser.add_argument("--output", type=Path, help="the recipe (default: DATASET.yaml in the current folder)")
    parser.add_argument("--force", action="store_true", help="overwrite it")
    return parser


def modality(text: str) -> tuple[str, tuple[str, str | None]]:
    """`name=column` or `name=column:kind` as (name, (column, kind)).

    Raises:
        ArgumentTypeError: of another form.

    Example:
        >>> modality("voice=clip:audio")
        ('voice', ('clip', 'audio'))
    """
    name, _, column = text.partition("=")
    column, _, kind = column.partition(":")
    if not name.isidentifier() or not column:
        raise argparse.ArgumentTypeError(f"expected NAME=COLUMN or NAME=COLUMN:KIND, found {text!r}")
    return name, (column, kind or None)


if __name__ == "__main__":
    sys.exit(main())
