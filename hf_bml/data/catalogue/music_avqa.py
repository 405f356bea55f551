"""MUSIC-AVQA: 45,867 questions about 9,288 videos of musical performances, 42 answers.

Source: `GeWu-Lab/MUSIC-AVQA` (Li et al., 2022), folders `data/json` and `data/json_update` (the authors' corrections).

Licence: annotations MIT; the videos belong to their uploaders.

Privacy: people in YouTube videos; whether they agreed to this use is not known.

Layout of the folder (`data_dir`, or `music_avqa` below the data folder)
    json/avqa-train.json, avqa-val.json, avqa-test.json (json_update/... with `update`), also gzipped; and anywhere
    below `video_dir` the files `<video_id>.mp4`.

Columns
    text: the question, slots filled, without its question mark.
    audio: the video (its sound), undecoded; with features the file of the clip's array, which the processor `features`
        reads.
    visual: the video, undecoded; with features the file of the clip's array.
    labels: the answer. Names are those of train, sorted; answers that only occur elsewhere come after them, so that
        they count as errors, not as missing.
    question_type: one of nine, "Audio Counting" to "Audio-Visual Temporal".

Splits: the official ones, 32,087, 4,595 and 9,185 questions (with `update` validation 4,568, test 9,129).

Pitfalls: the splits are by question, not by video: 2,296 of the 3,815 videos of validation also have test questions.
The answer's key is spelled `anser`. Some questions end with a full-width question mark, some with a space.
Questions alone go a long way: compare with a model of `text` only.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, DatasetDict, Features, Value

from ..annotations import check_counts, class_index, find_annotation, read_json
from ..clips import VIDEO, VIDEO_SUFFIXES, clip_dataset, index_files
from ..data_report import shortened
from ..location import find_data_folder

logger = logging.getLogger(__name__)

FILES = {"train": "train", "validation": "val", "test": "test"}
RELEASED = {"train": 32087, "validation": 4595, "test": 9185}
RELEASED_UPDATE = {"validation": 4568, "test": 9129}
KINDS = {
    "Audio": ("Counting", "Comparative"),
    "Visual": ("Counting", "Location"),
    "Audio-Visual": ("Existential", "Location", "Counting", "Comparative", "Temporal"),
}
QUESTION_TYPES = [f"{modality} {kind}" for modality, kinds in KINDS.items() for kind in kinds]
SLOT = re.compile(r"<\w+>")


def load(
    update: bool = False,
    data_dir: str | os.PathLike | None = None,
    video_dir: str | os.PathLike = ".",
    audio_features: str | os.PathLike | None = None,
    visual_features: str | os.PathLike | None = None,
) -> DatasetDict:
    """Questions about musical performances.

    Args:
        update: read the corrected annotations.
        data_dir: folder of `json` or `json_update`, see the module.
        video_dir: folder of the videos, absolute or below `data_dir`.
        audio_features: folder of `<video_id>.npy`, (time, dim), such as VGGish per second, instead of the sound.
        visual_features: folder of `<video_id>.npy`, (time, dim) or (frames, positions, dim), such as ResNet-18 per
            second, instead of the video.

    Returns:
        splits train, validation and test with the columns `text`, `audio`, `visual`, `labels` and `question_type`.

    Raises:
        ValueError: an annotation file is malformed, or features have other axes, or not all the same.
        FileNotFoundError: the folder, an annotation file, or all clips of a split are missing.
    """
    folder = find_data_folder("music_avqa", data_dir)
    json_folder = folder / ("json_update" if update else "json")
    questions: dict[str, list[dict[str, Any]]] = {}
    for split, name in FILES.items():
        path = find_annotation(json_folder, [f"avqa-{name}.json"], "GeWu-Lab/MUSIC-AVQA, folder data")
        questions[split] = [read_question(entry, path, row) for row, entry in enumerate(read_json(path, list))]
        released = {split: ({**RELEASED, **RELEASED_UPDATE} if update else RELEASED)[split]}
        check_counts({split: len(questions[split])}, released, "MUSIC-AVQA", path)
    answers = answer_vocabulary(questions)
    rows = [{**question, "split": split} for split, part in questions.items() for question in part]
    videos = [row["video"] for row in rows]
    folders = {"audio": audio_features, "visual": visual_features}
    files, features = {}, Features({"text": Value("string")})
    for modality, feature_folder in folders.items():
        suffixes = frozenset({".npy"}) if feature_folder else VIDEO_SUFFIXES
        index = index_files(folder / (feature_folder or video_dir), suffixes)
        files[modality] = [index.get(video) for video in videos]
        features[modality] = VIDEO  # features, too: a file that `push_to_hub` embeds
        if feature_folder:
            check_arrays([path for path in dict.fromkeys(files[modality]) if path])
    features["labels"] = ClassLabel(names=answers)
    features["question_type"] = ClassLabel(names=QUESTION_TYPES)
    columns = {
        "text": [row["text"] for row in rows],
        "labels": [answers.index(row["answer"]) for row in rows],
        "question_type": [row["type"] for row in rows],
    }
    return clip_dataset("MUSIC-AVQA", videos, [row["split"] for row in rows], files, columns, features)


def read_question(entry: dict[str, Any], path: Path, row: int) -> dict[str, Any]:
    """Video, text, answer and type of one entry of an annotation file.

    Raises:
        ValueError: a key is missing, a value is not text, or the slots and their fillers do not agree; file and entry
            are named.
    """
    place = f"entry {row}"
    try:
        video, template, answer = entry["video_id"], entry["question_content"], entry["anser"]
        fillers, kind = json.loads(entry["templ_values"]), " ".join(json.loads(entry["type"]))
        video = str(video) if isinstance(video, int) else video
        if not all(isinstance(text, str) for text in (video, template, answer, *fillers)):
            raise TypeError("one of them is not text")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected video_id, question_content, anser, and JSON in templ_values and type in file '{path}', "
            f"{place}, found {entry} ({type(error).__name__}: {error}). Take the file of the release."
        ) from error
    if len(SLOT.findall(template)) != len(fillers):
        raise ValueError(
            f"Expected a filler for each slot in file '{path}', {place}, found {fillers} for {template!r}."
        )
    remaining = iter(fillers)
    text = SLOT.sub(lambda slot: next(remaining), template).strip().rstrip("?？")
    types = {name: number for number, name in enumerate(QUESTION_TYPES)}
    return {"video": video, "text": text, "answer": answer, "type": class_index(kind, types, path, place)}


def answer_vocabulary(questions: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Answers of train, sorted, then those that only occur in another split, which are logged."""
    known = {question["answer"] for question in questions["train"]}
    unknown = sorted({question["answer"] for part in questions.values() for question in part} - known)
    if unknown:
        logger.warning("MUSIC-AVQA: %d answers never occur in train: %s", len(unknown), shortened(unknown))
    return [*sorted(known), *unknown]


def check_arrays(paths: Sequence[str]) -> None:
    """Looks at the headers of feature files, so that a bad one is not found in the middle of a training.

    Raises:
        ValueError: one is not an array of numbers, is neither (time, dim) nor (frames, positions, dim), or differs
            from the first in more than its time.
    """
    common = None
    for path in paths:
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"Expected a .npy file of numbers in '{path}', found: {error}. Compute it again."
            ) from error
        if array.ndim not in (2, 3) or array.size == 0 or not np.issubdtype(array.dtype, np.number):
            raise ValueError(
                f"Expected features (time, dim) or (frames, positions, dim) in '{path}', found shape {array.shape} of "
                f"{array.dtype}. Reshape them."
            )
        common = array.shape[1:] if common is None else common
        if array.shape[1:] != common:
            expected = ("time", *common)
            raise ValueError(
                f"Expected features ({', '.join(map(str, expected))}) in '{path}', as in '{paths[0]}', found shape "
                f"{array.shape}. Compute all with one network."
            )
