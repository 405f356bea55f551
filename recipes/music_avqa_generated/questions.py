"""MUSIC-AVQA's real questions about generated sound and picture: 13,780 questions about 7,918 videos, 41 answers.

The videos of MUSIC-AVQA are not redistributable. This data set keeps the annotation as it is, questions, answers,
types and which questions share a video, and generates features in the layout of the release's: for each video it
searches a scene that agrees with the annotated answers (see `music_scene`) and renders what is heard and what is seen,
through a fixed random projection and with noise. It exercises the whole path at the annotation's size; accuracies on
it say nothing about the real videos, but for those of a model that reads the questions alone.

Source: the annotation of `GeWu-Lab/MUSIC-AVQA` (Li et al., 2022); the features are generated.

Licence: annotation MIT.

Privacy: questions about people in YouTube videos; no person is seen or heard.

Layout of the folder (`data_dir`, or `music_avqa` below the data folder)
    json/avqa-val.json, avqa-test.json, or json_avqa-val.json, json_avqa-test.json; also gzipped.

Columns
    text: the question, slots filled, without its question mark.
    audio: (10, audio_size), what is heard every sixth second of a minute.
    visual: (10, visual_size), what is seen.
    labels: the answer. Names are those of train, sorted; answers that only occur elsewhere come after them.
    question_type: one of nine, as in `music_avqa`.
    agrees: whether the generated scene gives the annotated answer (98 %; some contradict each other).

Splits: by video, 70, 10 and 20 % of the questions, by the SHA-1 of the video's name. The official splits cut by
question and share videos, which generated features would give away; and the official validation and test files suffice
where the large training file is missing.

Pitfalls: unmentioned instruments are rare in the scenes, so hearing or seeing one hints at the question. Not all
answers follow from the features: sound has no places and pictures have no times, so with several players of one
instrument it can stay open which of them is heard, first or louder. No model reaches 100 %, least in comparisons.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_bml.data.annotations import find_annotation, read_json
from hf_bml.data.catalogue.music_avqa import QUESTION_TYPES, answer_vocabulary, read_question
from hf_bml.data.location import find_data_folder
from hf_bml.data.splits import SPLITS, held_out_groups

from .music_scene import ANSWERS, PICTURE_SIZE, SOUND_SIZE, Fact, Scene, find_scene, picture, sound

VERSION = 4  # of the generated features, part of the cache's key
PARTS = ("train", "val", "test")


def load(
    parts: Sequence[str] = ("val", "test"),
    audio_size: int = 128,
    visual_size: int = 512,
    noise: float = 0.3,
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
) -> DatasetDict:
    """Real questions about generated music videos. Generating takes two minutes; the result is cached.

    Args:
        parts: annotation files to take questions from, out of train, val and test.
        audio_size: dimension of the features of the sound, at least 67.
        visual_size: dimension of those of the picture, at least 90.
        noise: standard deviation of the noise on every entry, where the signal's directions have unit length.
        seed: of scenes, projections and noise; the splits do not depend on it.
        data_dir: folder of the annotation, see the module.

    Returns:
        splits train, validation and test with the columns `text`, `audio`, `visual`, `labels`, `question_type` and
        `agrees`.

    Raises:
        ValueError: an option is out of range, or an annotation file is malformed.
        FileNotFoundError: the folder or an annotation file is missing.
    """
    for name, size, least in (("audio_size", audio_size, SOUND_SIZE), ("visual_size", visual_size, PICTURE_SIZE)):
        if size < least:
            raise ValueError(f"Expected {name} >= {least}, so that nothing is lost, found {size}. Raise it.")
    if noise < 0:
        raise ValueError(f"Expected noise >= 0, found {noise}.")
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(f"Expected parts out of {list(PARTS)}, found {list(parts)}.")
    questions = [question for part in parts for question in read_part(part, data_dir)]
    splits = split_videos([question["video"] for question in questions])
    by_split = {split: [q for q in questions if splits[q["video"]] == split] for split in SPLITS}
    answers = answer_vocabulary(by_split)
    features = Features(
        {
            "text": Value("string"),
            "audio": List(List(Value("float32"))),
            "visual": List(List(Value("float32"))),
            "labels": ClassLabel(names=answers),
            "question_type": ClassLabel(names=QUESTION_TYPES),
            "agrees": Value("bool"),
        }
    )
    options = {"sizes": (audio_size, visual_size), "noise": noise, "seed": seed, "version": VERSION}
    return DatasetDict(
        {
            split: Dataset.from_generator(
                generate_rows,
                features=features,
                gen_kwargs={"questions": tuple(by_split[split]), **options},  # a list would be cut into shards
            )
            for split in SPLITS
        }
    )


def read_part(part: str, data_dir: str | os.PathLike | None) -> list[dict[str, Any]]:
    """Questions of an annotation file, with what `read_question` gives, and the `template` and its `fillers`."""
    folder = find_data_folder("music_avqa", data_dir)
    names = [f"json/avqa-{part}.json", f"json_avqa-{part}.json"]
    path = find_annotation(folder, names, "GeWu-Lab/MUSIC-AVQA, folder data")
    questions = []
    for row, entry in enumerate(read_json(path, list)):
        question = read_question(entry, path, row)
        template = entry["question_content"].strip().rstrip("?？").strip()
        if template not in ANSWERS:
            raise ValueError(
                f"Expected one of the {len(ANSWERS)} question templates in file '{path}', entry {row}, found "
                f"{template!r}. Take the file of the release."
            )
        questions.append({**question, "template": template, "fillers": json.loads(entry["templ_values"])})
    return questions


def split_videos(videos: Sequence[str]) -> dict[str, str]:
    """Split of every video: 20 % of the questions to test, then 10 % of all to validation, whole videos."""
    test = held_out_groups(videos, 0.2)
    rest = [video for video in videos if video not in test]
    validation = held_out_groups(rest, 0.125)
    return {video: "test" if video in test else "validation" if video in validation else "train" for video in videos}


def generate_rows(
    questions: Sequence[dict[str, Any]], sizes: tuple[int, int], noise: float, seed: int, version: int
) -> Iterator[dict[str, Any]]:
    """Rows with features, in the order of the questions; what is generated depends on the video's questions only."""
    projections = [
        projection(given, size, seed + 1) for given, size in zip((SOUND_SIZE, PICTURE_SIZE), sizes, strict=True)
    ]
    by_video = defaultdict(list)
    for question in questions:
        by_video[question["video"]].append(Fact(question["template"], tuple(question["fillers"]), question["answer"]))
    scenes: dict[str, tuple[Scene, Iterator[bool]]] = {}
    for question in questions:
        video = question["video"]
        own_seed = video_seed(video, seed)
        if video not in scenes:
            scene, agrees = find_scene(by_video[video], own_seed)
            scenes[video] = scene, iter(agrees)
        scene, agrees = scenes[video]
        chance = np.random.default_rng(own_seed)
        audio, visual = (
            render(values, matrix, noise, chance)
            for values, matrix in zip((sound(scene), picture(scene)), projections, strict=True)
        )
        yield {
            "text": question["text"],
            "audio": audio,
            "visual": visual,
            "labels": question["answer"],
            "question_type": question["type"],
            "agrees": next(agrees),
        }


def video_seed(video: str, seed: int) -> int:
    """A number that depends on the video's name and the seed alone."""
    return int(hashlib.sha1(f"{seed} {video}".encode()).hexdigest()[:12], 16)


def projection(given: int, size: int, seed: int) -> np.ndarray:
    """A matrix `(given, size)` with orthonormal rows."""
    random = np.random.default_rng(seed).standard_normal((size, given))
    return np.linalg.qr(random)[0].T.astype(np.float32)


def render(values: np.ndarray, matrix: np.ndarray, noise: float, chance: np.random.Generator) -> np.ndarray:
    """Features `(steps, size)` of what is heard or seen, `(steps, given)`."""
    features = values @ matrix
    return features + noise * chance.standard_normal(features.shape, dtype=np.float32)
