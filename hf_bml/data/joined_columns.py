"""Two or more unimodal sources side by side, matched by a key."""

from collections.abc import Sequence

from datasets import Dataset, concatenate_datasets

from .columns import column_values
from .data_report import add_to_report, shortened


def join_sources(
    sources: Sequence[Dataset], keys: Sequence[str], wanted: Sequence[str], name: str, split: str
) -> Dataset:
    """Rows of all sources with equal keys side by side, in the order of the first source.

    The first of several rows with one key counts. Repeated and unmatched keys go to the report.

    Args:
        sources: One split of each source.
        keys: Key column of each source; that of a media column is its file's stem.
        wanted: Columns that must not stand in two sources. Of others the first source's is kept.
        name: Shown in errors.
        split: Shown in errors.

    Raises:
        ValueError: A key column is missing, no key is in all sources, or a wanted column is in two.
    """
    positions: list[dict[str, int]] = []
    repeated = []
    for source, column in zip(sources, keys, strict=True):
        if column not in source.column_names:
            raise ValueError(
                f"Expected the key column {column!r} in every source of '{name}', found {source.column_names}. "
                "Correct join_on."
            )
        positions.append({})
        for row, key in enumerate(map(str, column_values(source, column))):
            if positions[-1].setdefault(key, row) != row:
                repeated.append(key)
    common = [key for key in positions[0] if all(key in position for position in positions)]
    if not common:
        raise ValueError(
            f"Expected common keys in the columns {list(keys)} of '{name}', split '{split}', found "
            f"{shortened(list(positions[0]))} in the first and {shortened(list(positions[1]))} in the second source. "
            "Correct join_on."
        )
    parts: list[Dataset] = []
    for source, position in zip(sources, positions, strict=True):
        taken = {column for part in parts for column in part.column_names}
        twice = sorted(taken & set(wanted) & set(source.column_names))
        if twice:
            raise ValueError(
                f"Expected the columns {twice} in one source of '{name}' only. Rename those of the others."
            )
        part = source.select([position[key] for key in common])
        parts.append(part.select_columns([column for column in part.column_names if column not in taken]))
    joined = concatenate_datasets(parts, axis=1)
    unmatched = sorted({key for position in positions for key in position} - set(common))
    add_to_report(joined, name, split, "unmatched keys", unmatched)
    add_to_report(joined, name, split, "repeated keys", sorted(set(repeated)))
    return joined
