"""Folders of clips: which file belongs to which clip, and the data set of those that are there.

Sound comes from files of its own or from the video's track; pictures from the video or from extracted frames, one
folder per clip. Files stay where they are: the columns hold `{"bytes": None, "path": ...}`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Audio, DatasetDict, Features, Image, List, Video

from .data_report import add_to_report, shortened
from .splits import cut_table

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".m4a"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".flv", ".mkv", ".webm", ".mpg", ".mov"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
YOUTUBE_CLIP = re.compile(r"(.{11})_(\d+)(?:_\d+)?")

AUDIO, VIDEO, FRAMES = Audio(decode=False), Video(decode=False), List(Image(decode=False))
Files = str | list[str] | dict[str, str] | None  # a file, frames in order, or folders of flow


def youtube_key(stem: str) -> str:
    """Name of a YouTube clip in any spelling: id and first second of `<id>_<start>[_<end>]`, zeros or not.

    Example:
        >>> youtube_key("-239HZbaZ0M_000164_000174"), youtube_key("-3Mwkq-7TV4_2")
        ('-239HZbaZ0M_164', '-3Mwkq-7TV4_2')
    """
    match = YOUTUBE_CLIP.fullmatch(stem)
    return f"{match[1]}_{int(match[2])}" if match else stem


def index_files(folder: Path, suffixes: frozenset[str], key: Callable[[str], str] = str) -> dict[str, str]:
    """Files anywhere below a folder by the key of their stem; of several with one key, the first by path."""
    found = sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)
    return {key(Path(path).stem): path for path in reversed(found) if Path(path).suffix.lower() in suffixes}


def index_frames(folder: Path, key: Callable[[str], str] = str) -> dict[str, list[str]]:
    """Images of every folder below a folder in `natural_order`, by the key of the folder's name.

    Of several folders with one key, the first by path.
    """
    frames = {}
    for path, _, names in sorted(os.walk(folder)):
        images = [name for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
        if images:
            found = [os.path.join(path, name) for name in sorted(images, key=natural_order)]
            frames.setdefault(key(os.path.basename(path)), found)
    return frames


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sorts names by the value of the numbers in them, padded or not.

    Example:
        >>> sorted(["frame_10.jpg", "frame_2.jpg", "frame_01.jpg"], key=natural_order)
        ['frame_01.jpg', 'frame_2.jpg', 'frame_10.jpg']
    """
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def index_folders(folder: Path, key: Callable[[str], str] = str) -> dict[str, str]:
    """Folders in a folder by the key of their name, without a look into them; none if it does not exist."""
    return {key(path.name): str(path) for path in sorted(folder.glob("*/"), reverse=True)}


def audio_visual_files(
    clips: Sequence[str],
    folder: Path,
    video_dir: str | os.PathLike = ".",
    audio_dir: str | os.PathLike | None = None,
    frames_dir: str | os.PathLike | None = None,
    key: Callable[[str], str] = str,
) -> tuple[dict[str, list[Files]], Features]:
    """Sound and pictures of every clip.

    Args:
        clips: names of the clips.
        folder: of the release; the other folders are absolute or below it.
        video_dir: folder of the video files.
        audio_dir: folder of sound files; None takes the sound of the video.
        frames_dir: folder with one folder of images per clip; None takes the video.
        key: from a clip's name, or a file's stem, to what both have in common.

    Returns:
        `{"audio", "visual"}`: the files of each clip, None where there is none; and the types of these columns.
    """
    videos = {} if audio_dir and frames_dir else index_files(folder / video_dir, VIDEO_SUFFIXES, key)
    audio = index_files(folder / audio_dir, AUDIO_SUFFIXES, key) if audio_dir else videos
    visual = index_frames(folder / frames_dir, key) if frames_dir else videos
    keys = [key(clip) for clip in clips]
    files = {"audio": [audio.get(name) for name in keys], "visual": [visual.get(name) for name in keys]}
    return files, Features({"audio": AUDIO, "visual": FRAMES if frames_dir else VIDEO})


def clip_dataset(
    name: str,
    clips: Sequence[str],
    row_splits: Sequence[str | None],
    files: Mapping[str, Sequence[Files]],
    columns: Mapping[str, Sequence[Any]],
    features: Features,
) -> DatasetDict:
    """The clips whose files are all there; the others are logged and listed by `data_report`.

    Args:
        name: name of the data set.
        clips: name of each clip, length (clips,).
        row_splits: "train", "validation", "test" or None (left out), length (clips,).
        files: files of each clip per modality, length (clips,).
        columns: other columns, such as labels, length (clips,).
        features: types of all columns, in order.

    Raises:
        FileNotFoundError: a split has no clip left.
    """
    wanted = [row for row, split in enumerate(row_splits) if split is not None]
    present = [row for row in wanted if all(values[row] for values in files.values())]
    columns = {column: [values[row] for row in present] for column, values in columns.items()}
    media = {modality: file_array([values[row] for row in present]) for modality, values in files.items()}
    dataset = cut_table(pa.table({**media, **columns}), [row_splits[row] for row in present], features)
    missing: dict[str, dict[str, None]] = {split: {} for split in dataset}
    for row in sorted(set(wanted) - set(present)):
        missing[row_splits[row]][clips[row]] = None  # once, though questions may share it
    for split, rows in dataset.items():
        absent = list(missing[split])
        if absent and not len(rows):
            raise FileNotFoundError(
                f"Expected the files of {name}'s {split} clips, found none of {len(absent)}: {shortened(absent)}. "
                "Check data_dir and the folders' names."
            )
        add_to_report(rows, name, split, "missing files", absent)
    return dataset


def file_array(files: Sequence[Files]) -> pa.Array:
    """How a column keeps files: `{"bytes": None, "path"}`, or lists of them, or folders by name; none is None."""
    if files and isinstance(files[0], dict):
        return pa.array(files)
    if files and isinstance(files[0], list):
        offsets = np.cumsum([0, *map(len, files)], dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, file_array([path for paths in files for path in paths]))
    paths = pa.array(files, type=pa.string())
    return pa.StructArray.from_arrays([pa.nulls(len(files), pa.binary()), paths], names=["bytes", "path"])
