"""Spoken and handwritten digits: 3000 pairs of a real recording and a real image, ten classes.

Source: Free Spoken Digit Dataset, `Jakobovski/free-spoken-digit-dataset` at 26eb9aa (6 speakers x 10 digits x 50
recordings), and the MNIST test images. Each image is used once, paired at random with a recording of the same digit:
the pairing is artificial, the data are real.

Licence: recordings CC BY-SA 4.0, MNIST CC BY-SA 3.0.

Privacy: voices of six people.

Columns
    audio: `{"bytes", "path"}` of a wav file, 8 kHz, 16 bit, mono, 0.14 to 2.3 s, not decoded.
    visual: grey image, 28 x 28.
    labels: the digit, 0 to 9.
    group: the speaker.

Splits
    "speaker": no speaker in two splits. Train 2000 (george, jackson, lucas, nicolas), validation 500 (theo),
        test 500 (yweweler).
    "official": the release's test recordings 0 to 4 of every speaker and digit. The release has no validation split;
        recordings 5 to 9 are held out of train. Train 2400, validation 300, test 300.

Pitfalls: "official" shares its speakers between all splits, so audio looks better there than on a new voice. The
writers of the images are not known, so neither split is disjoint in writers.

Reference (logistic regression trained on train + validation, test accuracy): "speaker" audio .872, visual .862, both
.960; "official" audio .967, visual .923, both .990.
"""

from __future__ import annotations

import os

import numpy as np
import pyarrow.parquet as pq
from datasets import Audio, ClassLabel, DatasetDict, Features, Image, Value

from ...ground.suggestion import check_name
from ..data_report import note_held_out
from ..location import find_data_file
from ..parquet_columns import released_splits
from ..splits import cut_table
from ..validation import GROUP

FILE = "avdigits/avdigits.parquet"
OFFICIAL_VALIDATION_RECORDINGS = range(5, 10)


def load(split: str = "speaker", data_dir: str | os.PathLike | None = None) -> DatasetDict:
    """Spoken and handwritten digits.

    Args:
        split: "speaker" or "official", see the module.
        data_dir: folder that holds `avdigits/avdigits.parquet`; see `hf_bml.data.location`.

    Returns:
        splits train, validation and test with the columns `audio`, `visual`, `labels` and `group`.

    Raises:
        ValueError: `split` is unknown.
        FileNotFoundError: the file is missing.
    """
    check_name("split", split, ("speaker", "official"))
    path = find_data_file(FILE, data_dir)
    table = pq.read_table(path)
    if split == "speaker":
        row_splits = released_splits(table, path, "split_speaker")
        how = "validation and test held out, grouped by speaker"
    else:
        row_splits = official_splits(table["split"].to_numpy(), table["recording"].to_numpy())
        how = "validation held out of train, recording by recording"
    features = Features(
        {
            "audio": Audio(sampling_rate=8000, decode=False),
            "visual": Image(),
            "labels": ClassLabel(names=[str(digit) for digit in range(10)]),
            GROUP: Value("string"),
        }
    )
    table = table.rename_columns({"image": "visual", "label": "labels", "speaker": GROUP})
    return note_held_out(cut_table(table, row_splits, features), how)


def official_splits(released: np.ndarray, recordings: np.ndarray) -> np.ndarray:
    """Split of every row: the released one, with recordings 5 to 9 of the training part as validation.

    Args:
        released: "train" or "test", shape (rows,).
        recordings: number of the recording within its speaker and digit, 0 to 49, shape (rows,).

    Returns:
        "train", "validation" or "test", shape (rows,).
    """
    held_out = (released == "train") & np.isin(recordings, OFFICIAL_VALIDATION_RECORDINGS)
    return np.where(held_out, "validation", released)
