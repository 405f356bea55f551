"""Any data set with a column per modality: from the Hub or local parquet, webdataset, audiofolder, videofolder, CSV.

Source and licence: the user's. `from_columns` takes a loaded `datasets` object, or the file, folder or Hub id of one;
`load` (so `dataset: from_columns` in a recipe) takes all that `datasets.load_dataset` reads, with its options.

Columns
    One per modality, under the modality's name. Audio and video stay undecoded, `{"bytes", "path"}`.
    labels: `ClassLabel`. Names of classes that the source does not declare are sorted, so they do not depend on the
        order of the rows. Several classes a row are a list of a `ClassLabel` (`task: multi_label_classification`),
        numbers a float32 or a list of them (`task: regression`).
    group: with the option `group`, what it says of each row, as a string; not in a stream.

Splits: those of the source. A missing validation or test split is held out of train, in the order of the SHA-1 of the
group (or of the row's number), so whole groups (speakers, videos) stay together. Rows of a stream have no number that
stays: without `group`, the content of the modalities' columns decides, so other modalities give other splits.

Pitfalls: without `group`, clips of one speaker or video can be in several splits, which flatters the validation.
Joined sources whose rows are not in the same order are copied to the cache of `datasets`, media included.

Usage: `dataset: from_columns, dataset_options: {path: csv, data_files: clips.csv, modalities: {audio: wav, visual:
    mp4}, label: emotion}`

Example:
    >>> from datasets import Dataset
    >>> clips = Dataset.from_dict({"wav": ["a b", "c", "d e", "f"], "mood": ["sad", "glad", "sad", "glad"]})
    >>> dataset = from_columns(clips, {"text": "wav"}, label="mood", validation_fraction=0.25, test_fraction=0.25)
    >>> dataset["train"].features["labels"].names, dataset.num_rows
    (['glad', 'sad'], {'train': 2, 'validation': 1, 'test': 1})
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import (
    Audio,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    Value,
    Video,
    concatenate_datasets,
)

from .columns import check_columns, column_values, group_part, undecoded
from .data_report import add_to_report, note_held_out, split_report
from .joined_columns import join_sources
from .label_columns import Label, label_columns, label_of, label_reader, label_values, other_classes, read_labels
from .sources import DataFiles, read_source, table_folders
from .splits import SPLITS, held_out_groups
from .streamed_columns import streamed
from .validation import GROUP

TYPES = {"audio": Audio(decode=False), "video": Video(decode=False), "image": Image(decode=False)}
ALIASES = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
AnyDataset = Dataset | DatasetDict | IterableDataset | IterableDatasetDict | str | os.PathLike


def load(
    path: str = "parquet",
    modalities: dict[str, str] | None = None,
    label: str | list[str] = "label",
    name: str | None = None,
    data_dir: str | None = None,
    data_files: DataFiles = None,
    revision: str | None = None,
    streaming: bool = False,
    join: list[dict[str, Any]] | None = None,
    join_on: str | list[str] | None = None,
    splits: dict[str, str] | None = None,
    classes: list[str] | None = None,
    numbers: bool = False,
    types: dict[str, str] | None = None,
    media_dir: str | os.PathLike | None = None,
    group: str | None = None,
    group_pattern: str | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> DatasetDict | IterableDatasetDict:
    """All that `datasets.load_dataset` reads, through `from_columns`.

    Args:
        path: a file (.csv, .tsv, .parquet, .json, .jsonl), folder, Hub id, or format: "parquet", "webdataset",
            "audiofolder", "videofolder", "imagefolder", "csv".
        modalities, label: see `from_columns`.
        name: configuration of a Hub data set.
        data_dir: folder of the files.
        data_files: file patterns, one for all or one per split.
        revision: commit or tag of a Hub data set. Pin it: data sets change.
        streaming: read while training, without a local copy.
        join: more sources, each the same arguments (`path`, `name`, `data_dir`, `data_files`, `revision`).
        join_on: see `from_columns`.
        splits, classes, numbers, types, media_dir, group, group_pattern, validation_fraction, test_fraction: see
            `from_columns`.

    Returns:
        splits train, validation and test.

    Raises:
        ValueError: see `from_columns`; or `modalities` is missing, or a source cannot be read.
    """
    if not modalities:
        raise ValueError("Expected modalities, found none. Pass e.g. modalities={'audio': 'wav', 'visual': 'mp4'}.")
    first = {"path": path, "name": name, "data_dir": data_dir, "data_files": data_files, "revision": revision}
    given = [first, *(join or [])]
    return _from_sources(
        [read_source(**source, streaming=streaming) for source in given],
        [table_folders(**source) if types and media_dir is None else {} for source in given],
        modalities,
        label,
        join_on=join_on,
        splits=splits,
        classes=classes,
        numbers=numbers,
        types=types,
        media_dir=media_dir,
        group=group,
        group_pattern=group_pattern,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        dataset_name=path,
    )


def load_hub(
    hub_id: str, known: Mapping[str, Mapping[str, Any]], revision: str | None = None, **options: Any
) -> DatasetDict | IterableDatasetDict:
    """A copy of a data set on the Hub.

    Args:
        hub_id: its id.
        known: options of `load` (revision, label, splits, ...) for the ids that a data set's module knows.
        revision: commit or tag instead of the known one.
        options: options of `load` for any copy.
    """
    options = {**options, **known.get(hub_id, {})}
    return load(hub_id, **{**options, "revision": revision or options.get("revision")})


def from_columns(
    dataset: AnyDataset | Sequence[AnyDataset],
    modalities: Mapping[str, str],
    label: Label = "label",
    *,
    data_files: DataFiles = None,
    join_on: str | Sequence[str] | None = None,
    splits: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    numbers: bool = False,
    types: Mapping[str, str] | None = None,
    media_dir: str | os.PathLike | None = None,
    group: str | None = None,
    group_pattern: str | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    dataset_name: str | None = None,
) -> DatasetDict | IterableDatasetDict:
    """Columns of a data set as modalities and labels.

    Args:
        dataset: one data set (a single split counts as train), or several that are joined on `join_on`. A file (.csv,
            .tsv, .parquet, .json, .jsonl), folder, Hub id or format is read by `datasets.load_dataset`; call that
            yourself for its other options.
        modalities: column of each modality, such as `{"audio": "wav", "visual": "mp4"}`; the order is kept, and one
            column may serve twice.
        label: column of the class: names, integers, booleans or a `ClassLabel`. `"json.emotion"` is a field of the
            column `json`. Splits may declare other classes, or the same in another order: names count, not indices.
            Floats are numbers to predict. Lists are several classes a row: names or integers, of which any apply, or
            a 0 or 1 for each of `classes` (lists of floats, of booleans, or all of equally many integers 0 and 1).
            `[happy, loud]` are columns of 0 and 1, one for each class. Every row needs a label; a list may be empty.
        data_files: of a folder, Hub id or format such as "csv": file patterns, one for all or one per split.
        join_on: key column, or one for each source. The key of an audio, video or image column is its file's stem.
            The first of several rows with one key is taken; repeated and unmatched keys, and rows without a key, are
            left out and reported. Sources that both have the label column must agree on the joined rows.
        splits: the source's name of "train", "validation" and "test", where it is another one.
        classes: class names in the order of their indices. Rows of other classes are left out and reported; of
            several classes a row, the other names are.
        numbers: whether integers and lists, or the columns of `label`, are numbers to predict, as floats are.
        types: "audio", "video" or "image" for modalities whose column holds file paths as text. Rows whose file does
            not exist are left out and reported; without a path, the row lacks the modality.
        media_dir: folder that such paths are relative to; None takes that of the table that names them, where it is
            known, and then the current one.
        group: column whose equal values must stay in one split, such as the speaker; of audio, videos or images, the
            stems of the files.
        group_pattern: regular expression whose first `(...)` is the group, where it is a part of that column, such as
            `"-([0-9]+)[.]mp4$"` for the actor in `01-01-03-02-01-01-12.mp4`.
        validation_fraction: share of train that becomes validation, if the source has none; in (0, 1).
        test_fraction: share of train that becomes test, if the source has none; in (0, 1).
        dataset_name: name in logs and errors; None takes the Hub id or "from_columns".

    Returns:
        splits train, validation and test with one column per modality and `labels`; `data_report` tells what is left
        out. An `IterableDatasetDict` if the source streams: rows are then held out by a hash of the group or,
        without one, of the content of the modalities' columns, so the fractions hold on average. It may be shuffled,
        read by several workers and split by node, before or after.

    Raises:
        FileNotFoundError: there is no such file, folder or data set on the Hub, or none of a split's media files.
        ValueError: a column, split, class or label is missing; `group_pattern` does not match a row; labels are
            neither classes nor numbers, or a split has none of train's classes; the sources cannot be joined; the
            fractions leave nothing. While a stream is read: a row has no label or an unknown one; a split must be held
            out without `group`, and a file is known by its path alone.
    """
    parts = [dataset] if isinstance(dataset, str) or not isinstance(dataset, Sequence) else dataset
    if data_files is not None and (len(parts) > 1 or not _is_name(parts[0])):
        raise ValueError(
            f"Expected one folder, Hub id or format for data_files={data_files!r}, found {len(parts)} data sets, "
            f"the first a {type(parts[0]).__name__}. Read them with datasets.load_dataset."
        )
    looks = types and media_dir is None
    return _from_sources(
        [read_source(part, data_files) if _is_name(part) else part for part in parts],
        [table_folders(part, data_files) if looks and _is_name(part) else {} for part in parts],
        modalities,
        label,
        join_on=join_on,
        splits=splits,
        classes=classes,
        numbers=numbers,
        types=types,
        media_dir=media_dir,
        group=group,
        group_pattern=group_pattern,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        dataset_name=dataset_name or next((str(part) for part in parts if _is_name(part)), "from_columns"),
    )


def _from_sources(
    sources: Sequence[Dataset | DatasetDict | IterableDataset | IterableDatasetDict],
    folders: Sequence[Mapping[str, Path]],
    modalities: Mapping[str, str],
    label: Label,
    *,
    join_on: str | Sequence[str] | None,
    splits: Mapping[str, str] | None,
    classes: Sequence[str] | None,
    numbers: bool,
    types: Mapping[str, str] | None,
    media_dir: str | os.PathLike | None,
    group: str | None,
    group_pattern: str | None,
    validation_fraction: float,
    test_fraction: float,
    dataset_name: str,
) -> DatasetDict | IterableDatasetDict:
    """See `from_columns`.

    Args:
        sources: to be joined if there are several.
        folders: those that the tables of each source's splits lie in, where they are known.
    """
    names = [split_names(source, splits, dataset_name) for source in sources]
    sources = [named_splits(source, own) for source, own in zip(sources, names, strict=True)]
    tables, columns = sources[0], label_columns(label)
    streaming = any(isinstance(rows, IterableDataset) for source in sources for rows in source.values())
    if len(sources) > 1:
        if streaming or join_on is None:
            raise ValueError(
                f"Expected join_on and no streaming for the {len(sources)} sources of '{dataset_name}', found "
                f"join_on={join_on!r}, streaming={streaming}. Name the key column, or join them beforehand."
            )
        keys = [join_on] * len(sources) if isinstance(join_on, str) else join_on
        tables = {
            split: join_sources(
                [source[split] for source in sources],
                keys,
                list(modalities.values()),
                columns,
                dataset_name,
                split,
            )
            for split in tables
            if all(split in source for source in sources)
        }
    for rows in tables.values():
        check_columns(rows, modalities, columns, group, dataset_name)
    part_of = group_part(group, group_pattern, dataset_name)
    fractions = {"test": test_fraction, "validation": validation_fraction}
    held_out = " and ".join(split for split in SPLITS if split not in tables)
    by = f"grouped by {group}" if group is not None else "row by row"
    how = f"{held_out} held out of train, {by}" if held_out else "splits as the source gives them"
    if streaming:
        if types:
            raise ValueError(
                f"Expected media or plain values to stream, found types={dict(types)}. Drop one of the two."
            )
        splits = streamed(tables, modalities, label, classes, numbers, group, part_of, fractions, dataset_name)
        return note_held_out(splits, how)
    kinds = {split: label_of(rows.features, label) for split, rows in tables.items()}
    given = {split: label_values(rows, label) for split, rows in tables.items()}
    reader = label_reader(kinds, label, classes, numbers, given, dataset_name)
    result, groups = {}, {}
    for split, rows in tables.items():
        labels = read_labels(reader, split, given[split], dataset_name)
        own = {of[theirs[split]] for of, theirs in zip(folders, names, strict=True) if theirs[split] in of}
        places = [Path(media_dir)] if media_dir is not None else [*(own if len(own) == 1 else ()), Path()]
        chosen = modality_columns(rows, modalities, types or {}, places)
        filled = [0 if read is None else read for read in labels]  # of one class, whose other rows are left out
        chosen = chosen.add_column("labels", filled, feature=reader.feature)
        absent = absent_files(chosen, types or {})
        if absent and len(absent) == len(chosen):
            looked_in = " and ".join(str(place.absolute()) for place in places)
            raise FileNotFoundError(
                f"Expected the files that split '{split}' of '{dataset_name}' names in {looked_in}, found none of "
                f"{len(absent)}, such as '{absent[0]}'. Pass media_dir=FOLDER."
            )
        keep = [row for row, read in enumerate(labels) if read is not None and row not in absent]
        values = list(map(part_of, range(len(rows)) if group is None else column_values(rows, group)))
        if group is not None and GROUP not in modalities:
            chosen = chosen.add_column(GROUP, values, feature=Value("string"))
        result[split] = chosen.select(keep)
        groups[split] = [values[row] for row in keep]
        report = {**split_report(rows), "missing files": sorted(absent.values())}
        report |= {"other classes": other_classes(reader, split, given[split])}
        for reason, items in report.items():
            add_to_report(result[split], dataset_name, split, reason, items)
    for split, fraction in fractions.items():
        if split not in result:
            result["train"], result[split], groups["train"] = hold_out(result["train"], groups["train"], fraction)
    return note_held_out(DatasetDict({split: result[split] for split in SPLITS}), how)


def _is_name(dataset: AnyDataset) -> bool:
    return isinstance(dataset, str | os.PathLike)


def split_names(dataset: AnyDataset, splits: Mapping[str, str] | None, name: str) -> dict[str, str]:
    """The source's own names of train and, where it has them, validation and test.

    Raises:
        ValueError: a named split is missing, or none is train.
    """
    if isinstance(dataset, Dataset | IterableDataset):
        dataset = {"train": dataset}
    if splits is None:
        splits = {ours: theirs for ours, names in ALIASES.items() for theirs in reversed(names) if theirs in dataset}
    wrong = [split for split in splits if split not in SPLITS] + [s for s in splits.values() if s not in dataset]
    if wrong or "train" not in splits:
        raise ValueError(
            f"Expected the splits train and, if there are, validation and test of '{name}', found {list(dataset)} and "
            f"splits={dict(splits)}. Pass splits such as {{'train': {next(iter(dataset))!r}}}; missing ones are held "
            "out of train."
        )
    return dict(splits)


def named_splits(dataset: AnyDataset, names: Mapping[str, str]) -> dict[str, Any]:
    """The splits of a source by our names, media undecoded; `names` are those of `split_names`."""
    if isinstance(dataset, Dataset | IterableDataset):
        return dict.fromkeys(names, undecoded(dataset))
    return {split: undecoded(dataset[theirs]) for split, theirs in names.items()}


def modality_columns(
    rows: Dataset, modalities: Mapping[str, str], types: Mapping[str, str], folders: Sequence[Path]
) -> Dataset:
    """One undecoded column per modality; the first of `folders` that holds a relative path counts.

    Raises:
        ValueError: `types` names another modality or an unknown type.
    """
    wrong = {modality: kind for modality, kind in types.items() if modality not in modalities or kind not in TYPES}
    if wrong:
        raise ValueError(
            f"Expected types {{modality: type}} with a modality out of {list(modalities)} and a type out of "
            f"{list(TYPES)}, found {wrong}. Correct types."
        )
    parts = []
    for modality, column in modalities.items():
        part = rows.with_format(None).select_columns([column])
        if column != modality:
            part = part.rename_column(column, modality)
        if modality in types and isinstance(part.features[modality], Value):  # media stay as they are
            paths = {modality: [_located(path, folders) if path else None for path in part[modality]]}
            part = Dataset.from_dict(paths, Features({modality: Value("string")}))
            part = part.cast_column(modality, TYPES[types[modality]])
        parts.append(part)
    return concatenate_datasets(parts, axis=1) if len(parts) > 1 else parts[0]


def _located(path: str, folders: Sequence[Path]) -> str:
    places = [str(folder.absolute() / path) for folder in folders]
    return next(filter(os.path.exists, places), places[0])


def absent_files(rows: Dataset, modalities: Sequence[str]) -> dict[int, str]:
    """Rows whose file does not exist, and the file; not those that name none."""
    return {
        row: value["path"]
        for modality in modalities
        for row, value in enumerate(rows[modality])
        if value is not None and value["bytes"] is None and not os.path.exists(value["path"])
    }


def hold_out(rows: Dataset, groups: Sequence[str], fraction: float) -> tuple[Dataset, Dataset, list[str]]:
    """Rows without the held-out groups, rows of these groups, and the groups of the former; see `held_out_groups`."""
    chosen = held_out_groups(groups, fraction)
    inside = [row for row, name in enumerate(groups) if name in chosen]
    outside = [row for row, name in enumerate(groups) if name not in chosen]
    held_out = rows.select(inside)
    held_out.info.description = ""  # the report of what is left out stays with train
    return rows.select(outside), held_out, [groups[row] for row in outside]
