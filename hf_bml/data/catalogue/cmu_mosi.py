"""CMU-MOSI: sentiment of 2199 utterances in 93 video monologues, three modalities, two classes.

Source: `declare-lab/multimodal-deep-learning` at 111b401, folder `bc-LSTM/data` (utterance features and transcripts);
standard folds from the CMU-MultimodalSDK.

Licence: the carrying repository is MIT; MOSI itself is for research use (CMU-MultimodalSDK).

Privacy: words, voice and face features of people in YouTube videos; whether they agreed to this use is not known.

Columns (utterance level, one vector each)
    text: 100 values of a text CNN; with `text="transcript"` the transcript, a string in upper case.
    audio: 73 openSMILE values.
    visual: 100 values of a 3D CNN, 32 of them constant 0.
    labels: 0 negative, 1 positive.
    group: the video. Standardised features and label-trained ones (see below) know the released split, so a new cut
        by groups is sound for `text="transcript"` and, with `standardize=False`, audio alone.

Splits
    "bc_lstm": 62 training and 31 test videos (test 752 utterances). The release has no validation split; whole
        videos are held out in the order of the SHA-1 of their names. `validation="train_videos"`: of train, until
        they hold 12 % of its utterances (train 1270 in 55 videos, validation 177 in 7 videos).
        `validation="test_videos"`: of test, until they hold 25 % (train 1447 in 62 videos; see below why).
    "cmu_sdk": standard folds, train 1284, validation 229, test 686.

Feature files (`features_file`), as the SDK's users and MMSA pass them on: a pickle
    `{"train" | "valid" | "test": {"vision" (N, 50, 20 or 35), "audio" (N, 50, 5 or 74), "text" (N, 50, 300 or 768),
    "labels" or "regression_labels" (N, ...) in [-3, 3], "raw_text", "id"}}`, or the same as .npz or parquet; see
    `hf_bml.data.feature_files`. Each modality becomes a sequence (time, dim): steps of zeros at both ends are padding
    and are cut off, -inf of the audio features becomes 0. Splits are those of the file.

Pitfalls
    - The text and visual features come from networks trained on the labels of the bc-LSTM training videos. Many of
      those are test videos of the standard folds, so these features leak labels there (logistic regression: text
      .934, visual .844). `load` refuses such combinations. The same networks saw the labels of all
      bc-LSTM training videos, so with `validation="train_videos"` the validation accuracy of any model with text is
      about .99 and selects nothing; the test split is sound. `validation="test_videos"` selects soundly, on videos
      whose labels those networks did not see, at the price of a smaller test split.
    - Audio and visual features identify the speaker, and most videos have one: never split videos.
    - Majority class of the bc-LSTM test split: .621.

Reference (logistic regression trained on train + validation, bc-LSTM test accuracy): text .757, audio .557, visual
.515, all .767; tf-idf of the transcript .688.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, DatasetDict, Features, List, Value

from ...ground.suggestion import check_name
from ..data_report import note_held_out
from ..feature_files import read_feature_file
from ..location import find_data_file
from ..parquet_columns import chosen_modalities, fixed_lists, group_column, released_splits, vectors
from ..splits import RELEASED_SPLITS, cut_table, held_out_groups
from ..validation import GROUP

FILE = "mosi/mosi.parquet"
MODALITIES = ("text", "audio", "visual")
FIELDS = {"visual": "vision"}
LABEL_FIELDS = ("regression_labels", "labels")
VALIDATION_FRACTIONS = {"train_videos": 0.12, "test_videos": 0.25}  # of the utterances of the released split


def load(
    modalities: Sequence[str] = MODALITIES,
    text: str = "feature",
    split: str = "bc_lstm",
    validation: str = "train_videos",
    standardize: bool = True,
    data_dir: str | os.PathLike | None = None,
    features_file: str | os.PathLike | None = None,
    neutral: str = "positive",
) -> DatasetDict:
    """CMU-MOSI sentiment.

    Args:
        modalities: which of "text", "audio", "visual", in the order of the columns.
        text: "feature" (vector) or "transcript" (string).
        split: "bc_lstm" or "cmu_sdk", see the module.
        validation: where the bc-LSTM validation videos come from, "train_videos" or "test_videos", see the module.
        standardize: subtract the training split's mean from each feature dimension and divide by its standard
            deviation; dimensions that are constant in train become 0.
        data_dir: folder that holds `mosi/mosi.parquet`; see `hf_bml.data.location`.
        features_file: read this file instead, see the module: a path, or one below the data folder. `split` and
            `validation` do not apply.
        neutral: what a score of 0 in `features_file` is: "positive", "negative", or "drop" to leave it out.

    Returns:
        splits train, validation and test with one column per modality, `labels` and, but of a `features_file`,
        `group`.

    Raises:
        ValueError: an option is unknown, the combination leaks labels, or a feature is not finite.
        FileNotFoundError: the file is missing.
    """
    check_name("neutral", neutral, ("positive", "negative", "drop"))
    check_options(modalities, text, split if features_file is None else "bc_lstm")
    if features_file is not None:
        path = Path(features_file)
        path = path if path.is_file() else find_data_file(str(path), data_dir)
        return load_features(path, modalities, text, standardize, neutral)
    check_name("validation", validation, VALIDATION_FRACTIONS)
    path = find_data_file(FILE, data_dir)
    table = pq.read_table(path)
    if split == "bc_lstm":
        row_splits = bc_lstm_splits(table["split"].to_pylist(), table["video_id"].to_pylist(), validation)
        how = f"validation held out of {validation.removesuffix('_videos')}, grouped by video"
    else:
        row_splits = np.array(released_splits(table, path, "split_cmu_sdk"))
        how = "splits as the data set gives them"
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    features = Features()
    for modality in modalities:
        if modality == "text" and text == "transcript":
            columns[modality] = table["text"]
            features[modality] = Value("string")
            continue
        values = vectors(table, f"{modality}_feature", path)
        if standardize:
            values = standardized(values, row_splits == "train")
        columns[modality], features[modality] = fixed_lists(values)
    columns["labels"] = table["label"]
    features["labels"] = ClassLabel(names=["negative", "positive"])
    columns[GROUP], features[GROUP] = group_column(table, "video_id", path), Value("string")
    return note_held_out(cut_table(pa.table(columns), row_splits, features), how)


def check_options(modalities: Sequence[str], text: str, split: str) -> None:
    """Raises ValueError for an unknown option of `load`, and for standard folds with features trained on their test
    labels."""
    chosen_modalities(modalities, MODALITIES)
    check_name("text", text, ("feature", "transcript"))
    check_name("split", split, ("bc_lstm", "cmu_sdk"))
    leaking = ["text feature"] if "text" in modalities and text == "feature" else []
    leaking += ["visual feature"] if "visual" in modalities else []
    if split == "cmu_sdk" and leaking:
        raise ValueError(
            f"Expected only label-free inputs with split='cmu_sdk', found the {' and the '.join(leaking)}: these come "
            "from networks trained on the labels of the bc-LSTM training videos, many of which are test videos here, "
            "so test labels leak. Use split='bc_lstm', or text='transcript' with modalities=['text', 'audio'] (or one "
            "of the two)."
        )


def bc_lstm_splits(released: Sequence[str], videos: Sequence[str], validation: str = "train_videos") -> np.ndarray:
    """Split of every utterance: the released one, with whole videos of one of its parts as validation.

    Args:
        released: "train" or "test" for every utterance, length (rows,).
        videos: video of every utterance, length (rows,).
        validation: "train_videos" or "test_videos".

    Returns:
        "train", "validation" or "test", shape (rows,).
    """
    source = validation.removesuffix("_videos")
    candidates = [video for video, part in zip(videos, released, strict=True) if part == source]
    held_out = held_out_groups(candidates, VALIDATION_FRACTIONS[validation])
    return np.array(
        ["validation" if video in held_out else part for video, part in zip(videos, released, strict=True)]
    )


def standardized(values: np.ndarray, is_train: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance per dimension, by the statistics of the training rows.

    Args:
        values: shape (rows, dim).
        is_train: rows that define the statistics, bool, shape (rows,).

    Returns:
        shape (rows, dim). Dimensions with equal values in all training rows are 0 everywhere.
    """
    train = values[is_train]
    constant = train.max(axis=0) == train.min(axis=0)
    deviation = np.where(constant, 1.0, train.std(axis=0))
    return np.where(constant, 0.0, (values - train.mean(axis=0)) / deviation)


def load_features(path: Path, modalities: Sequence[str], text: str, standardize: bool, neutral: str) -> DatasetDict:
    """CMU-MOSI from a feature file; see `load`.

    Raises:
        ValueError: a split or field is missing, or its values are not as expected; file, split and field are named.
    """
    transcript = "text" in modalities and text == "transcript"
    fields = {name: FIELDS.get(name, name) for name in modalities}
    if transcript:
        fields["text"] = "raw_text"
    arrays = read_feature_file(path, {*fields.values(), *LABEL_FIELDS})
    row_splits, scores = [], []
    for released, split in RELEASED_SPLITS.items():
        found = list(arrays.get(released, {}))
        label = next((name for name in LABEL_FIELDS if name in found), LABEL_FIELDS[0])
        missing = [name for name in [*fields.values(), label] if name not in found]
        if missing:
            raise ValueError(f"Expected the fields {missing} in '{path}', split '{released}', found {found}.")
        values = arrays[released][label].astype(np.float64).reshape(len(arrays[released][label]), -1)[:, 0]
        outside = np.flatnonzero(~(np.abs(values) <= 3))  # NaN, too
        if len(outside):
            raise ValueError(
                f"Expected {label} in [-3, 3] in '{path}', split '{released}', found {values[outside[0]]} in row "
                f"{outside[0]} ({len(outside)} such rows)."
            )
        row_splits += [None if neutral == "drop" and score == 0 else split for score in values]
        scores.append(values)
    scores = np.concatenate(scores)
    is_train = np.array(row_splits) == "train"
    columns: dict[str, Any] = {}
    features = Features()
    for modality, field in fields.items():
        parts = [arrays[released][field] for released in RELEASED_SPLITS]
        if modality == "text" and transcript:
            columns[modality] = [str(sentence) for part in parts for sentence in part]
            features[modality] = Value("string")
            continue
        sequences = [unpadded(row, modality) for part in parts for row in part]
        widths = {sequence.shape[1:] for sequence in sequences}
        steps = np.concatenate(sequences) if len(widths) == 1 else np.full((1, 1), np.nan)
        if not np.isfinite(steps).all():
            raise ValueError(
                f"Expected finite features of one width in '{path}', field '{field}', found the widths "
                f"{sorted(widths)} and {int((~np.isfinite(steps)).sum())} values that are not finite."
            )
        lengths = [len(sequence) for sequence in sequences]
        if standardize:
            steps = standardized(steps, np.repeat(is_train, lengths))
        vectors = pa.FixedSizeListArray.from_arrays(steps.astype(np.float32).ravel(), steps.shape[1])
        columns[modality] = pa.ListArray.from_arrays(np.cumsum([0, *lengths], dtype=np.int32), vectors)
        features[modality] = List(List(Value("float32"), length=steps.shape[1]))
    columns["labels"] = (scores > 0) | ((scores == 0) & (neutral == "positive"))
    columns["labels"] = columns["labels"].astype(np.int64)
    features["labels"] = ClassLabel(names=["negative", "positive"])
    return cut_table(pa.table(columns), row_splits, features)


def unpadded(sequence: np.ndarray, modality: str) -> np.ndarray:
    """Steps between the first and the last that is not all zero, at least one; -inf of audio becomes 0.

    Args:
        sequence: shape (time, dim), or (dim,) for a single step.
        modality: its name.

    Returns:
        shape (time, dim), float64.
    """
    sequence = np.atleast_2d(sequence.astype(np.float64))
    if modality == "audio":
        sequence = np.where(np.isneginf(sequence), 0.0, sequence)
    steps = np.flatnonzero(sequence.any(axis=1))
    return sequence[steps[0] : steps[-1] + 1] if len(steps) else sequence[:1]
