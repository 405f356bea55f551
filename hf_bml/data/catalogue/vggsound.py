"""VGGSound: 10 s YouTube clips of 309 sounds whose source is visible.

Source: `hche11/VGGSound` (Chen et al., 2020), `data/vggsound.csv`; `Loie/VGGSound` on the Hub has the clips as tar
archives.

Licence: annotations CC BY 4.0; the videos belong to their uploaders.

Privacy: people in YouTube videos; whether they agreed to this use is not known.

Layout of the folder (`data_dir`, or `vggsound` below the data folder)
    vggsound.csv without header (`---g-f_I2yQ,1,people marching,test`), and anywhere below `video_dir` the files
    `<id>_<start>.mp4`, with or without leading zeros.

Columns
    audio: sound of the video, or the file in `audio_dir`, undecoded.
    visual: the video, undecoded; with `frames_dir` the list of a clip's extracted images.
    labels: 0 to 308, alphabetical.

Splits: those of the csv, with 10 % of train held out for validation in the order of the SHA-1 of the clips' names. The
paper had 168,618 and 13,954 clips.

Pitfalls: labels contain commas. Videos disappear from YouTube; `data_report` lists what is missing.
`hub_id="mteb/VGGSound"` holds 9,888 clips of the official test part (at most 32 a class), cut at random here: enough
to try a recipe, but no benchmark.
"""

from __future__ import annotations

import os

from datasets import ClassLabel, DatasetDict

from ..annotations import check_counts, class_index, find_annotation, read_rows
from ..clips import audio_visual_files, clip_dataset, youtube_key
from ..data_report import note_held_out
from ..from_columns import load_hub
from ..location import find_data_folder
from ..splits import with_held_out

RELEASED = {"classes": 309, "test": 15446}
HUB = {"mteb/VGGSound": {"revision": "a994211ca0996558ff6cbd6977b4c1749f49c889", "splits": {"train": "test"}}}


def load(
    data_dir: str | os.PathLike | None = None,
    video_dir: str | os.PathLike = ".",
    audio_dir: str | os.PathLike | None = None,
    frames_dir: str | os.PathLike | None = None,
    hub_id: str | None = None,
    revision: str | None = None,
) -> DatasetDict:
    """VGGSound.

    Args:
        data_dir: folder of the annotation file.
        video_dir: folder of the videos, absolute or below `data_dir`.
        audio_dir: folder of sound files, if the videos have none.
        frames_dir: folder with one folder of images per clip.
        hub_id: read this Hub data set (columns audio, video and label) instead of the folder.
        revision: its commit; None takes the one this file knows, if any.

    Returns:
        splits train, validation and test with the columns `audio`, `visual` and `labels`.

    Raises:
        ValueError: the annotation file is malformed.
        FileNotFoundError: the folder, the annotation file, or all clips of a split are missing.
    """
    if hub_id is not None:
        return load_hub(hub_id, HUB, revision, modalities={"audio": "audio", "visual": "video"}, label="label")
    folder = find_data_folder("vggsound", data_dir)
    path = find_annotation(folder, ["vggsound.csv"], "hche11/VGGSound, folder data")
    rows = read_rows(path, ("YouTube id", "start second", "label", "train|test"))
    classes = sorted({label for _, _, label, _ in rows.values()})
    parts = {"train": 0, "test": 1}
    for line, (_, start, _, part) in rows.items():
        class_index(part, parts, path, f"line {line}")
        if not start.isdecimal():
            raise ValueError(f"Expected a start second in file '{path}', line {line}, found {start!r}. Correct it.")
    row_splits = [part for _, _, _, part in rows.values()]
    check_counts({"classes": len(classes), "test": row_splits.count("test")}, RELEASED, "VGGSound", path)
    clips = [f"{video}_{int(start):06d}" for video, start, _, _ in rows.values()]
    files, features = audio_visual_files(clips, folder, video_dir, audio_dir, frames_dir, youtube_key)
    index = {name: number for number, name in enumerate(classes)}
    labels = [index[label] for _, _, label, _ in rows.values()]
    features["labels"] = ClassLabel(names=classes)
    dataset = clip_dataset("VGGSound", clips, with_held_out(row_splits, clips), files, {"labels": labels}, features)
    return note_held_out(dataset, "validation held out of train, clip by clip")
