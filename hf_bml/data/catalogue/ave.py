"""AVE: audio-visual events in 4143 ten-second YouTube clips, 28 classes, labelled second by second.

Source: `YapengTian/AVE-ECCV18` (Tian et al., 2018): clips with annotations, and features (VGGish, VGG-19 pool5).

Licence: none stated; the clips are part of AudioSet and belong to their uploaders.

Privacy: people in YouTube videos; whether they agreed to this use is not known.

Layout of the folder (`data_dir`, or `ave` below the data folder)
    inputs="features": audio_feature.h5 (array `avadataset`, 4143 x 10 x 128), visual_feature.h5 (`avadataset`, 4143 x
        10 x 7 x 7 x 512), labels.h5 (`avadataset`, 4143 x 10 x 29, one-hot), train_order.h5, val_order.h5,
        test_order.h5 (`order`, row numbers).
    inputs="clips": AVE/<id>.mp4, trainSet.txt, valSet.txt, testSet.txt (`Church bell&RUhOCu3LNXM&good&0&10`).

Columns
    audio: (10, 128) features, or the video (its sound), undecoded.
    visual: (10, 512), the features' mean over positions; with `regions` (10, 7, 7, 512); or the video, undecoded.
    labels: class of each second, (10,), 28 for background, for `task: segment_classification`; with `labels="event"`
        the clip's event, 0 to 27, for `task: classification`.

Splits: the official ones, 3339, 402 and 402 clips.

Pitfalls: class names contain commas. 44 videos occur in two rows and one in three, with other events each. The names
of the classes of labels.h5 are taken to be in the order in which Annotations.txt first names them; if that file is
there, the two are compared. `hub_id="mteb/AVE-Dataset"` has 3,312 and 402 clips with `labels="event"`, classes in
alphabetical order.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Array2D, Array4D, ClassLabel, Dataset, DatasetDict, Features, List

from ...ground.suggestion import check_name
from ..annotations import check_counts, class_index, find_annotation, read_rows
from ..clips import audio_visual_files, clip_dataset
from ..from_columns import load_hub
from ..location import find_data_folder

logger = logging.getLogger(__name__)

CLASSES = [
    "Church bell",
    "Male speech, man speaking",
    "Bark",
    "Fixed-wing aircraft, airplane",
    "Race car, auto racing",
    "Female speech, woman speaking",
    "Helicopter",
    "Violin, fiddle",
    "Flute",
    "Ukulele",
    "Frying (food)",
    "Truck",
    "Shofar",
    "Motorcycle",
    "Acoustic guitar",
    "Train horn",
    "Clock",
    "Banjo",
    "Goat",
    "Baby cry, infant cry",
    "Bus",
    "Chainsaw",
    "Cat",
    "Horse",
    "Toilet flush",
    "Rodents, rats, mice",
    "Accordion",
    "Mandolin",
]
BACKGROUND = len(CLASSES)
SEGMENTS = 10
ARRAY = "avadataset"
FEATURES = {"audio": ("audio_feature.h5", (SEGMENTS, 128)), "visual": ("visual_feature.h5", (SEGMENTS, 7, 7, 512))}
FILES = {"train": "train", "validation": "val", "test": "test"}
RELEASED = {"train": 3339, "validation": 402, "test": 402}
FIELDS = ("Category", "VideoID", "Quality", "Start", "End")
SOURCE = "YapengTian/AVE-ECCV18"
HUB = {"mteb/AVE-Dataset": {"revision": "f6eb93b4e89456277a242583b5565b801bc1981d", "group": "youtube_id"}}


def load(
    inputs: str = "features",
    labels: str = "segments",
    regions: bool = False,
    data_dir: str | os.PathLike | None = None,
    hub_id: str | None = None,
    revision: str | None = None,
) -> DatasetDict:
    """Audio-visual events.

    Args:
        inputs: "features" or "clips", see the module.
        labels: "segments", or "event" for the classification of whole clips.
        regions: keep the 7 x 7 positions of the visual features: 4 GB in the cache of `datasets`.
        data_dir: the release's folder, see the module.
        hub_id: read this Hub data set (columns audio, video, label) instead of the folder; needs `labels="event"`.
        revision: its commit; None takes the one this file knows, if any.

    Returns:
        splits train, validation and test with the columns `audio`, `visual` and `labels`.

    Raises:
        ValueError: an option is unknown, or a file is malformed.
        FileNotFoundError: the folder, a file, or all clips of a split are missing.
        ImportError: h5py is missing, for features.
    """
    check_name("inputs", inputs, ("features", "clips"))
    check_name("labels", labels, ("segments", "event"))
    if hub_id is not None:
        if labels != "event":
            raise ValueError(f"Expected labels='event' for hub_id, found {labels!r}: that copy has no segments.")
        return load_hub(hub_id, HUB, revision, modalities={"audio": "audio", "visual": "video"}, label="label")
    folder = find_data_folder("ave", data_dir)
    if inputs == "features":
        return load_features(folder, labels, regions)
    videos, segments, row_splits = [], [], []
    for split, name in FILES.items():
        path = find_annotation(folder, [f"{name}Set.txt"], SOURCE)
        rows = read_segments(path)
        check_counts({split: len(rows)}, {split: RELEASED[split]}, "AVE", path)
        videos += [video for video, _ in rows]
        segments += [seconds for _, seconds in rows]
        row_splits += [split] * len(rows)
    files, features = audio_visual_files(videos, folder, "AVE")
    features["labels"] = label_feature(labels)
    return clip_dataset("AVE", videos, row_splits, files, {"labels": chosen_labels(segments, labels)}, features)


def read_segments(path: Path) -> list[tuple[str, list[int]]]:
    """Video and class of each second, 28 for background, of every row of an annotation file.

    Raises:
        ValueError: a row is malformed; file and line are named.
    """
    index = {name: number for number, name in enumerate(CLASSES)}
    segments = []
    for line, row in read_rows(path, FIELDS, "&", quoted=False).items():
        name, video, _, start, end = row
        if name == FIELDS[0]:  # some copies have a header
            continue
        label = class_index(name, index, path, f"line {line}")
        if not (start.isdecimal() and end.isdecimal() and 0 <= int(start) < int(end) <= SEGMENTS):
            raise ValueError(
                f"Expected 0 <= start < end <= {SEGMENTS} in file '{path}', line {line}, found {start} and {end}."
            )
        inside = range(int(start), int(end))
        segments.append((video, [label if second in inside else BACKGROUND for second in range(SEGMENTS)]))
    return segments


def label_feature(labels: str) -> Any:
    """Type of the label column."""
    names = ClassLabel(names=[*CLASSES, "Background"] if labels == "segments" else CLASSES)
    return List(names, length=SEGMENTS) if labels == "segments" else names


def chosen_labels(segments: list[list[int]], labels: str) -> list[Any]:
    """The classes of the seconds, or the one that is not background."""
    return segments if labels == "segments" else [min(seconds) for seconds in segments]


def load_features(folder: Path, labels: str, regions: bool) -> DatasetDict:
    """The released features; see `load`."""
    one_hot = read_h5(folder / "labels.h5", ARRAY)
    if one_hot.shape[1:] != (SEGMENTS, BACKGROUND + 1) or not (one_hot.sum(-1) == 1).all():
        raise ValueError(
            f"Expected one-hot rows (clips, {SEGMENTS}, {BACKGROUND + 1}) in '{folder / 'labels.h5'}', found "
            f"{one_hot.shape} with sums {np.unique(one_hot.sum(-1))[:3]}. Take the file of the release."
        )
    segments = one_hot.argmax(-1)
    for name, shape in FEATURES.values():
        check_shape(folder / name, (len(segments), *shape))
    if (folder / "Annotations.txt").is_file():
        annotated = [seconds for _, seconds in read_segments(folder / "Annotations.txt")]
        if not np.array_equal(segments, annotated):
            logger.warning("AVE: labels.h5 and Annotations.txt differ: the names of its classes may be others.")
    features = Features(
        {
            "audio": Array2D((SEGMENTS, 128), "float32"),
            "visual": Array4D((SEGMENTS, 7, 7, 512), "float32") if regions else Array2D((SEGMENTS, 512), "float32"),
            "labels": label_feature(labels),
        }
    )
    splits = {}
    for split, name in FILES.items():
        path = folder / f"{name}_order.h5"
        order = read_h5(path, "order").astype(int).ravel()
        if len(order) and not (order.min() >= 0 and order.max() < len(segments)):
            raise ValueError(
                f"Expected row numbers in [0, {len(segments)}) in '{path}', found {order.min()} to {order.max()}. "
                "Take all files from one release."
            )
        check_counts({split: len(order)}, {split: RELEASED[split]}, "AVE", path)
        splits[split] = Dataset.from_generator(
            feature_rows,
            features=features,
            gen_kwargs={
                "folder": str(folder),
                "order": tuple(order.tolist()),  # a list would be cut into shards, one for each row
                "labels": tuple(chosen_labels(segments[order].tolist(), labels)),
                "regions": regions,
                "states": tuple(file_state(folder / name) for name, _ in FEATURES.values()),
            },
        )
    return DatasetDict(splits)


def file_state(path: Path) -> tuple[int, int]:
    """Size and time of modification in ns: whether it is still the file that something was computed from."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def feature_rows(
    folder: str, order: tuple[int, ...], labels: tuple[Any, ...], regions: bool, states: tuple[tuple[int, int], ...]
) -> Iterator[dict[str, Any]]:
    """Rows of one split, read one at a time; `states` is there for the cache's key."""
    with ExitStack() as stack:
        audio, visual = (
            stack.enter_context(open_h5(Path(folder, name), ARRAY))[ARRAY] for name, _ in FEATURES.values()
        )
        for row, label in zip(order, labels, strict=True):
            positions = visual[row]
            yield {
                "audio": audio[row],
                "visual": positions if regions else positions.mean(axis=(1, 2)),
                "labels": label,
            }


def check_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Raises, besides what `open_h5` does, ValueError where the array `avadataset` of a file has another shape."""
    with open_h5(path, ARRAY) as file:
        found = file[ARRAY].shape
    if found != shape:
        raise ValueError(
            f"Expected the array '{ARRAY}' {shape} in '{path}', one row for each of labels.h5, found {found}. Take "
            "all files from one release."
        )


@contextmanager
def open_h5(path: Path, key: str) -> Iterator[Any]:
    """An open HDF5 file that holds an array.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no HDF5 file, or without this array.
        ImportError: h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError("AVE's features are HDF5 files: expected h5py. Install it with: pip install h5py") from error
    if not path.is_file():
        raise FileNotFoundError(f"Expected '{path}', found no such file. Get it from {SOURCE}.")
    try:
        file = h5py.File(path)
    except OSError as error:
        raise ValueError(f"Expected an HDF5 file with the array '{key}' in '{path}', found: {error}.") from error
    with file:
        if not isinstance(file.get(key), h5py.Dataset):
            raise ValueError(f"Expected an HDF5 file with the array '{key}' in '{path}', found {list(file)}.")
        yield file


def read_h5(path: Path, key: str) -> np.ndarray:
    """One array of an HDF5 file; raises what `open_h5` does."""
    with open_h5(path, key) as file:
        return file[key][:]
