"""Kinetics-Sounds: 10 s YouTube clips of 31 actions that can be seen and heard.

Source: the clips are part of Kinetics-400 (Kay et al., 2017); the selection (Arandjelovic and Zisserman, 2017) in the
form of the OPM/OGM papers is `KS_train_val.json` of `GeWu-Lab/BML_TPAMI2024`, or `data/KineticSound/my_train.txt` and
`my_test.txt` of `GeWu-Lab/OGM-GE_CVPR2022`.

Licence: annotations of Kinetics CC BY 4.0; the videos belong to their uploaders.

Privacy: people in YouTube videos; whether they agreed to this use is not known.

Layout of the folder (`data_dir`, or `kinetics_sounds` below the data folder)
    annotation="json": KS_train_val.json (`{"labels": [...], "database": {"<id>_<start>_<end>": {"subset",
        "label"}}}`).
    annotation="txt": my_train.txt and my_test.txt (rows `--4-0ihtnBU_000058_000068,10,4`: clip, seconds, class).
    Anywhere below `video_dir` the files `<id>_<start>_<end>.mp4` or `<id>_<start>.mp4`, with or without leading zeros.

Columns
    audio: sound of the video, or the file in `audio_dir`, undecoded.
    visual: the video, undecoded; with `frames_dir` the list of a clip's extracted images.
    labels: 0 to 30, alphabetical.

Splits
    test="testing" (the papers' code): training 14,799, test 2,597, both from the training part of Kinetics; validation
        are the 1,320 clips of its validation part, which that code does not use.
    test="validation" (the division of Kinetics): test 1,320; train are the other 17,396, of which 10 % of the videos
        are held out for validation in the order of the SHA-1 of their ids.
    annotation="txt" with test="testing" (the papers' first code): the same 14,799 and 2,597 clips; these lists have no
        validation, so 10 % of the videos of train are held out as above: train 13,319, validation 1,480.

Pitfalls: videos disappear from YouTube; `data_report` lists what is missing, and results on other remains are not
comparable. Other lists of 32 to 34 classes go by the same name. `hub_id="mteb/kinetics-400"` has at most ten clips a
class: enough to try a recipe.
"""

from __future__ import annotations

import os
from pathlib import Path

from datasets import ClassLabel, DatasetDict

from ...ground.suggestion import check_name
from ..annotations import check_counts, class_index, find_annotation, read_json, read_rows
from ..clips import audio_visual_files, clip_dataset, youtube_key
from ..data_report import note_held_out
from ..from_columns import load_hub
from ..location import find_data_folder
from ..splits import with_held_out

CLASSES = [
    "blowing_nose",
    "blowing_out_candles",
    "bowling",
    "chopping_wood",
    "dribbling_basketball",
    "laughing",
    "mowing_lawn",
    "playing_accordion",
    "playing_bagpipes",
    "playing_bass_guitar",
    "playing_clarinet",
    "playing_drums",
    "playing_guitar",
    "playing_harmonica",
    "playing_keyboard",
    "playing_organ",
    "playing_piano",
    "playing_saxophone",
    "playing_trombone",
    "playing_trumpet",
    "playing_violin",
    "playing_xylophone",
    "ripping_paper",
    "shoveling_snow",
    "shuffling_cards",
    "singing",
    "stomping_grapes",
    "tap_dancing",
    "tapping_guitar",
    "tapping_pen",
    "tickling",
]
RELEASED = {"training": 14799, "testing": 2597, "validation": 1320}
SPLITS = {
    "testing": {"training": "train", "testing": "test", "validation": "validation"},
    "validation": {"training": "train", "testing": "train", "validation": "test"},
}
HUB = {"mteb/kinetics-400": {"revision": "e5b93b6eae80b8c9e9c88a381baae84d29b34fd2"}}
LISTS = {"training": "my_train.txt", "testing": "my_test.txt"}
ANNOTATIONS = ("json", "txt")


def load(
    test: str = "testing",
    data_dir: str | os.PathLike | None = None,
    video_dir: str | os.PathLike = ".",
    audio_dir: str | os.PathLike | None = None,
    frames_dir: str | os.PathLike | None = None,
    hub_id: str | None = None,
    revision: str | None = None,
    annotation: str = "json",
) -> DatasetDict:
    """Kinetics-Sounds.

    Args:
        test: "testing" or "validation", see the module.
        data_dir: folder of the annotation file, or files.
        video_dir: folder of the videos, absolute or below `data_dir`.
        audio_dir: folder of sound files, if the videos have none.
        frames_dir: folder with one folder of images per clip.
        hub_id: read this Hub data set (columns audio, video and label, classes of Kinetics) instead of the folder.
        revision: its commit; None takes the one this file knows, if any.
        annotation: "json" or "txt", see the module; "txt" knows no test="validation".

    Returns:
        splits train, validation and test with the columns `audio`, `visual` and `labels`.

    Raises:
        ValueError: `test` or `annotation` is unknown, they do not go together, or an annotation file is malformed.
        FileNotFoundError: the folder, the annotation file, or all clips of a split are missing.
    """
    check_name("test", test, SPLITS)
    if annotation not in ANNOTATIONS or (annotation == "txt" and test != "testing"):
        raise ValueError(
            f"Expected annotation out of {list(ANNOTATIONS)}, and with 'txt' test='testing', found {annotation!r} and "
            f"{test!r}."
        )
    if hub_id is not None:
        classes = [name.replace("_", " ") for name in CLASSES]
        modalities = {"audio": "audio", "visual": "video"}
        return load_hub(hub_id, HUB, revision, modalities=modalities, label="label", classes=classes)
    folder = find_data_folder("kinetics_sounds", data_dir)
    clips, labels, subsets = json_rows(folder) if annotation == "json" else list_rows(folder)
    row_splits = [SPLITS[test][subset] for subset in subsets]
    how = "splits as the data set gives them"
    if test == "validation" or annotation == "txt":
        how = "validation held out of train, grouped by video"
        row_splits = with_held_out(row_splits, [youtube_key(clip)[:11] for clip in clips])
    files, features = audio_visual_files(clips, folder, video_dir, audio_dir, frames_dir, youtube_key)
    features["labels"] = ClassLabel(names=CLASSES)
    return note_held_out(clip_dataset("Kinetics-Sounds", clips, row_splits, files, {"labels": labels}, features), how)


def json_rows(folder: Path) -> tuple[list[str], list[int], list[str]]:
    """Clip, class and subset ("training", "testing", "validation") of every entry of the JSON file."""
    path = find_annotation(folder, ["KS_train_val.json"], "GeWu-Lab/BML_TPAMI2024")
    index = {name: number for number, name in enumerate(CLASSES)}
    clips, labels, subsets = [], [], []
    for clip, entry in read_json(path, dict).get("database", {}).items():
        if set(entry) != {"subset", "label"} or entry["subset"] not in RELEASED:
            raise ValueError(
                f"Expected {{'subset': one of {list(RELEASED)}, 'label': ...}} in file '{path}', entry '{clip}', "
                f"found {entry}. Take the file of the release."
            )
        clips.append(clip)
        labels.append(class_index(entry["label"], index, path, f"entry '{clip}'"))
        subsets.append(entry["subset"])
    check_counts({part: subsets.count(part) for part in RELEASED}, RELEASED, "Kinetics-Sounds", path)
    return clips, labels, subsets


def list_rows(folder: Path) -> tuple[list[str], list[int], list[str]]:
    """Clip, class and subset ("training", "testing") of every row of the two lists."""
    clips, labels, subsets = [], [], []
    for subset, name in LISTS.items():
        path = find_annotation(folder, [name], "GeWu-Lab/OGM-GE_CVPR2022, folder data/KineticSound")
        rows = read_rows(path, ("clip", "seconds", "class"))
        check_counts({subset: len(rows)}, {subset: RELEASED[subset]}, "Kinetics-Sounds", path)
        for line, (clip, _, label) in rows.items():
            if not (label.isdecimal() and int(label) < len(CLASSES)):
                raise ValueError(
                    f"Expected a class in [0, {len(CLASSES)}) in file '{path}', line {line}, found {label!r}. Correct "
                    "the line."
                )
            clips.append(clip)
            labels.append(int(label))
            subsets.append(subset)
    return clips, labels, subsets
