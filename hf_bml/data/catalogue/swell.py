"""SWELL-KW: stress at the desk, 3139 minutes of office work of 25 people under four conditions, four modalities.

Source: SWELL Knowledge Work data set (Koldijk et al., ICMI 2014), features a minute, taken from
`Nimeshs54/Sensor-Based-Human-Activity-Recognition-for-Intelligent` at da57e62.

Licence: for research to our knowledge (not verified); the carrying repository has no licence file.

Privacy: computer use, face, posture and heart of 25 people, as numbers without names.

Columns, each None in the minutes in which it was not measured
    computer: 18 values of keyboard, mouse and application use (1.0 % missing).
    facial: 41 values of facial expression (5.8 %).
    posture: 94 values of a skeleton tracker (12.7 %).
    physiology: heart rate, heart rate variability (RMSSD) and skin conductance level (16.2 %).
    labels: the condition: neutral, time pressure, interruptions, and relax unless `num_classes` is 3; or, with
        `target="heart_rate"`, beats a minute, a float32.
    group: the person, "1" to "25".

Splits: no person in two. Train 14 persons (1774 minutes), validation 3 (367), test 8 (998). With `num_classes=3`
1521, 313 and 854. With `target="heart_rate"` the minutes in which it was measured: 776, 129 and 585.

Pitfalls
    - Scales differ by four orders of magnitude: standardise (`features` with `standardize`).
    - A condition is one block of time, so minutes of one person must never be split at random.
    - Missing minutes are not missing at random: a sensor fails for a stretch, or for a person.
    - Heart rate and its variability were not measured in 1141 of the minutes that count as measured: there, too, the
      file holds the training medians, 71 beats and .0451. A model of physiology sees them; with `target="heart_rate"`
      these minutes are left out.
    - The majority class of test is .335, and a new person is hard: most of what is learned does not transfer.

Reference (logistic regression on at most 100 principal components, trained on train + validation, test accuracy, 4
classes; missing values set to the training median): computer .478, facial .311, posture .336, physiology .331, all
.449.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import DatasetDict, Value

from ...ground.suggestion import check_name
from ..parquet_columns import Column, chosen_modalities, fixed_lists, released_dataset, vectors
from ..validation import LABELS

FILE = "swell/swell.parquet"
SIZES = {"computer": 18, "facial": 41, "posture": 94, "physiology": 3}


def load(
    modalities: Sequence[str] | None = None,
    num_classes: int = 4,
    data_dir: str | os.PathLike | None = None,
    target: str = "condition",
) -> DatasetDict:
    """SWELL-KW.

    Args:
        modalities: which of "computer", "facial", "posture", "physiology", in the order of the columns; default all,
            for the heart rate all but physiology, which holds it.
        num_classes: 4 conditions, or 3: those of work, without the minutes of relaxing.
        data_dir: folder that holds `swell/swell.parquet`; see `hf_bml.data.location`.
        target: what the labels are: "condition", a class; or "heart_rate", a number (`task: regression`).

    Returns:
        splits train, validation and test with one column per modality, `labels` and `group`. Minutes that lack all of
        `modalities`, or the target, are left out.

    Raises:
        ValueError: an option is unknown, or the file's content is not as expected.
        FileNotFoundError: the file is missing.
    """
    check_name("target", target, ("condition", "heart_rate"))
    known = [name for name in SIZES if target == "condition" or name != "physiology"]
    modalities = known if modalities is None else chosen_modalities(modalities, known)
    if isinstance(num_classes, bool) or num_classes not in (3, 4):
        raise ValueError(f"Expected num_classes 3 or 4, found {num_classes!r}. Choose one of the two.")

    def measured(table: pa.Table, path: Path) -> dict[str, Column]:
        columns = {}
        for name in modalities:
            flag = table[f"has_{name}"]
            if not pa.types.is_boolean(flag.type) or flag.null_count:
                raise ValueError(
                    f"Expected true or false in every row of '{path}', column 'has_{name}', found the type "
                    f"{flag.type} and {flag.null_count} rows without a value."
                )
            columns[name] = fixed_lists(vectors(table, name, path, SIZES[name]), flag.to_numpy())
        if target == "heart_rate":
            columns[LABELS] = heart_rates(vectors(table, "physiology", path, 3), table["has_physiology"].to_numpy())
        return columns

    read = [*modalities, *(f"has_{name}" for name in modalities)]
    read += ["physiology", "has_physiology"] if target == "heart_rate" else []
    return released_dataset(FILE, data_dir, read, measured, "splits as released, grouped by person", num_classes)


def heart_rates(physiology: np.ndarray, present: np.ndarray) -> Column:
    """The heart rate of each minute, None where it was not measured: there stand the training medians of it and of its
    variability, a pair that no measurement repeats.

    Args:
        physiology: heart rate, its variability and skin conductance, `(minutes, 3)`.
        present: bool `(minutes,)`, whether any of the three was measured.
    """
    pairs, counts = np.unique(physiology[:, :2], axis=0, return_counts=True)
    filled = (physiology[:, :2] == pairs[counts.argmax()]).all(1)
    return pa.array(physiology[:, 0].astype(np.float32), mask=filled | ~present), Value("float32")
