"""CREMA-D: acted emotions, 7442 clips of 91 actors saying twelve sentences, six classes.

Source: `CheyneyComputerScience/CREMA-D` (Cao et al., 2014). The split of the OPM/OGM papers is that of
`GeWu-Lab/OGM-GE_CVPR2022`, `data/CREMAD/train.csv` and `test.csv`.

Licence: Open Database License 1.0, contents under the Database Contents License.

Privacy: voices and faces of 91 actors.

Layout of the folder (`data_dir`, or `cremad` below the data folder)
    AudioWAV/1001_DFA_ANG_XX.wav, VideoFlash/1001_DFA_ANG_XX.flv, train.csv, test.csv (rows `1088_IOM_NEU_XX,NEU`)

Columns
    audio: wav, 16 kHz, about 2.5 s, undecoded.
    visual: the video, undecoded; with `frames_dir` the list of a clip's extracted images.
    labels: neutral, happy, sad, fear, disgust, anger (0 to 5).

Splits
    "official": the random split of the papers, 6698 and 744 clips. It has no validation split: 10 % of train are held
        out in the order of the SHA-1 of their names, train 6028, validation 670, test 744.
    "speaker": whole actors in the order of the SHA-1 of their numbers, 10 % each for validation and test; needs no
        csv.

Pitfalls: all actors are in both parts of the official split, so it says nothing about new people. One test clip is
0.13 points. The copies on the Hub have sound only; `hub_id="mteb/RAVDESS_AV"` is another corpus of acted emotions
(1440 clips of 24 actors, eight classes, one split, cut at random here) for trying a recipe without the files.
"""

from __future__ import annotations

import os
from pathlib import Path

from datasets import ClassLabel, DatasetDict

from ...ground.suggestion import check_name
from ..annotations import check_counts, class_index, find_annotation, read_rows
from ..clips import AUDIO_SUFFIXES, audio_visual_files, clip_dataset, index_files
from ..data_report import note_held_out
from ..from_columns import load_hub
from ..location import find_data_folder
from ..splits import with_held_out

CLASSES = {"NEU": "neutral", "HAP": "happy", "SAD": "sad", "FEA": "fear", "DIS": "disgust", "ANG": "anger"}
EMOTIONS = {name: index for index, name in enumerate(CLASSES)}
RELEASED = {"train": 6698, "test": 744}
SOURCE = "GeWu-Lab/OGM-GE_CVPR2022, folder data/CREMAD"
HUB = {
    "mteb/RAVDESS_AV": {
        "revision": "13af08387c3ce5e86c179a3718eb158669268d65",
        "label": "emotion",
        "splits": {"train": "test"},
    }
}


def load(
    split: str = "official",
    data_dir: str | os.PathLike | None = None,
    frames_dir: str | os.PathLike | None = None,
    hub_id: str | None = None,
    revision: str | None = None,
) -> DatasetDict:
    """CREMA-D emotions.

    Args:
        split: "official" or "speaker", see the module.
        data_dir: the release's folder, see the module.
        frames_dir: folder with one folder of images per clip, absolute or below the release's.
        hub_id: read this Hub data set (columns audio, video and a label) instead of the folder.
        revision: its commit; None takes the one this file knows, if any.

    Returns:
        splits train, validation and test with the columns `audio`, `visual` and `labels`.

    Raises:
        ValueError: `split` is unknown, or a csv is malformed.
        FileNotFoundError: the folder, a csv, or all clips of a split are missing.
    """
    check_name("split", split, ("official", "speaker"))
    if hub_id is not None:
        return load_hub(hub_id, HUB, revision, modalities={"audio": "audio", "visual": "video"})
    folder = find_data_folder("cremad", data_dir)
    if split == "official":
        clips, labels, row_splits = official_rows(folder)
        how = "validation held out of train, clip by clip"
    else:
        sounds = folder / "AudioWAV"
        found = index_files(sounds, AUDIO_SUFFIXES)
        clips = sorted(found)
        if not clips:
            raise FileNotFoundError(f"Expected sound files in '{sounds}', found none. Check data_dir.")
        actors, labels = zip(*(actor_and_emotion(Path(found[clip])) for clip in clips), strict=True)
        row_splits = with_held_out(with_held_out(["train"] * len(clips), actors, "test"), actors)
        how = "validation and test held out, grouped by actor"
    files, features = audio_visual_files(clips, folder, "VideoFlash", "AudioWAV", frames_dir)
    features["labels"] = ClassLabel(names=list(CLASSES.values()))
    return note_held_out(clip_dataset("CREMA-D", clips, row_splits, files, {"labels": labels}, features), how)


def actor_and_emotion(path: Path) -> tuple[str, int]:
    """What the name of a file tells, such as that of `1001_DFA_ANG_XX.wav`.

    Raises:
        ValueError: the name is another one; the file is named.
    """
    parts = path.stem.split("_")
    if len(parts) != 4:
        raise ValueError(
            f"Expected files <actor>_<sentence>_<emotion>_<level>, such as 1001_DFA_ANG_XX.wav, found '{path}'. Move "
            "it elsewhere."
        )
    return parts[0], class_index(parts[2], EMOTIONS, path, "its name")


def official_rows(folder: Path) -> tuple[list[str], list[int], list[str]]:
    """Clips, labels and splits of train.csv and test.csv, with 10 % of train held out."""
    clips, labels, row_splits = [], [], []
    for part, released in RELEASED.items():
        path = find_annotation(folder, [f"{part}.csv"], SOURCE)
        rows = read_rows(path, ("clip", "emotion"))
        check_counts({part: len(rows)}, {part: released}, "CREMA-D", path)
        for line, (clip, emotion) in rows.items():
            clips.append(clip)
            labels.append(class_index(emotion, EMOTIONS, path, f"line {line}"))
            row_splits.append(part)
    return clips, labels, with_held_out(row_splits, clips)
