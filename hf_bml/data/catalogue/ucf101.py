"""UCF-101: 13,320 YouTube clips of 101 actions, RGB and optical flow (and RGB difference).

Source: Center for Research in Computer Vision, University of Central Florida (Soomro et al., 2012); TV-L1 flow by
Feichtenhofer et al., 2016 (`ucf101_tvl1_flow`).

Licence: none stated; for research. The videos belong to their uploaders.

Privacy: people in YouTube videos; whether they agreed to this use is not known.

Layout of the folder (`data_dir`, or `ucf101` below the data folder)
    ucfTrainTestlist/classInd.txt (`1 ApplyEyeMakeup`), trainlist01.txt
    (`ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`), testlist01.txt (no number),
    UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi, and, if there is flow,
    tvl1_flow/u/v_ApplyEyeMakeup_g08_c01/frame000001.jpg and tvl1_flow/v/...

Columns
    visual: the video, undecoded.
    flow: `{"u": folder, "v": folder}`, horizontal and vertical flow of each pair of frames as images; without the
        released flow the video, from which a processor computes it.
    difference: the video, from which a processor takes differences of neighbouring frames.
    labels: 0 to 100, the numbers of classInd.txt minus 1.

Splits: the official ones, 1 (train 9,537, test 3,783), 2 (9,586, 3,734) or 3 (9,624, 3,696). They have no validation
split: the clips of whole groups (`g08`: a group shares scene and people) are held out of train, in the order of the
SHA-1 of the group's number, until 10 % are reached; every class is among them.

Pitfalls: clips of a group look alike, so validation by clip would be far too easy. The lists write HandStandPushups
where folders write HandstandPushups; names are matched without case. `hub_id="mteb/UCF101-51VA"` has the 51 classes
with sound, split 1, without clip names: its validation shares groups with train.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from datasets import ClassLabel, DatasetDict, Features, Value

from ..annotations import check_counts, class_index, find_annotation, read_rows
from ..clips import VIDEO, VIDEO_SUFFIXES, clip_dataset, index_files, index_folders
from ..data_report import note_held_out
from ..from_columns import load_hub
from ..location import find_data_folder
from ..parquet_columns import chosen_modalities
from ..splits import with_held_out

MODALITIES = ("visual", "flow", "difference")
RELEASED = {
    1: {"train": 9537, "test": 3783},
    2: {"train": 9586, "test": 3734},
    3: {"train": 9624, "test": 3696},
}
GROUP = re.compile(r"_(g\d+)_c\d+$")
HUB = {"mteb/UCF101-51VA": {"revision": "866b006d84629d66d9927646db89bd43381925e7"}}


def load(
    split: int = 1,
    modalities: Sequence[str] = ("visual", "flow"),
    data_dir: str | os.PathLike | None = None,
    flow_dir: str | os.PathLike = "tvl1_flow",
    hub_id: str | None = None,
    revision: str | None = None,
) -> DatasetDict:
    """UCF-101 actions.

    Args:
        split: number of the official split, 1 to 3.
        modalities: which of "visual", "flow", "difference", in the order of the columns.
        data_dir: the release's folder, see the module.
        flow_dir: folder of `u` and `v`, absolute or below the release's. If it does not exist, flow is the video.
        hub_id: read this Hub data set (columns video and label) instead of the folder.
        revision: its commit; None takes the one this file knows, if any.

    Returns:
        splits train, validation and test with a column per modality and `labels`.

    Raises:
        ValueError: an option is unknown, or a list is malformed.
        FileNotFoundError: the folder, a list, or all clips of a split are missing.
    """
    if split not in RELEASED:
        raise ValueError(f"Expected split 1, 2 or 3, found {split!r}. Choose one of the official splits.")
    modalities = chosen_modalities(modalities, MODALITIES)
    if hub_id is not None:
        return load_hub(hub_id, HUB, revision, modalities=dict.fromkeys(modalities, "video"), label="label")
    folder = find_data_folder("ucf101", data_dir)
    classes, clips, labels, row_splits = official_rows(folder, split)
    groups = [GROUP.search(clip)[1] if GROUP.search(clip) else clip for clip in clips]
    videos = index_files(folder / "UCF-101", VIDEO_SUFFIXES, str.lower)
    files = {modality: [videos.get(clip.lower()) for clip in clips] for modality in modalities}
    features = Features(dict.fromkeys(modalities, VIDEO))
    if "flow" in modalities and (folder / flow_dir).is_dir():
        u, v = (index_folders(folder / flow_dir / axis, str.lower) for axis in "uv")
        keys = [clip.lower() for clip in clips]
        files["flow"] = [{"u": u[key], "v": v[key]} if key in u and key in v else None for key in keys]
        features["flow"] = {"u": Value("string"), "v": Value("string")}
    features["labels"] = ClassLabel(names=classes)
    dataset = clip_dataset("UCF-101", clips, with_held_out(row_splits, groups), files, {"labels": labels}, features)
    return note_held_out(dataset, "validation held out of train, grouped by scene and people")


def official_rows(folder: Path, split: int) -> tuple[list[str], list[str], list[int], list[str]]:
    """Class names, and of every clip its name, label and split ("train" or "test"), from the official lists.

    Raises:
        ValueError: a line is malformed, or names a class that classInd.txt lacks or numbers otherwise.
    """
    lists = folder / "ucfTrainTestlist"
    source = "the UCF-101 page of CRCV, 'Train/Test Splits for Action Recognition'"
    path = find_annotation(lists, ["classInd.txt"], source)
    numbers = {name: int(number) - 1 for number, name in read_rows(path, ("number", "class"), " ").values()}
    clips, labels, row_splits = [], [], []
    for part, released in RELEASED[split].items():
        path = find_annotation(lists, [f"{part}list{split:02d}.txt"], source)
        rows = read_rows(path, ("Class/clip.avi", "number")[: 2 if part == "train" else 1], " ")
        check_counts({part: len(rows)}, {part: released}, "UCF-101", path)
        for line, (clip, *number) in rows.items():
            label = class_index(clip.partition("/")[0], numbers, path, f"line {line}")
            if number and number[0] != str(label + 1):
                raise ValueError(
                    f"Expected the class number {label + 1} in file '{path}', line {line}, found {number[0]!r}. Take "
                    "the lists and classInd.txt from one release."
                )
            clips.append(Path(clip).stem)
            labels.append(label)
            row_splits.append(part)
    return sorted(numbers, key=numbers.get), clips, labels, row_splits
