"""UTD-MHAD: 27 actions of 8 people, measured by a wrist or thigh sensor, a skeleton tracker and a depth camera.

Source: UTD Multimodal Human Action Dataset (Chen, Jafari, Kehtarnavaz, ICIP 2015), 861 sequences, taken from
`woo-chia-wei/kinect-sequence-classification` at 65e9b13: resampled in time, pictures of 48 x 48 pixels.

Licence: free for research to our knowledge (not verified); the carrying repository has no licence file.

Privacy: bodies of eight people in depth pictures of 48 x 48 pixels, without faces or names.

Columns
    inertial: (64, 6), acceleration (3) and angular velocity (3) over the whole action; with `inertial="raw"` as it was
        measured, (107 to 326, 6) at 50 Hz.
    skeleton: (32, 60), the positions (3) of 20 joints, relative to the hip of the same frame, whose own three values
        are therefore 0.
    depth: 8 grey pictures, 48 x 48, in the order of time, not decoded.
    labels: the action, 0 to 26.
    group: the person, "1" to "8".

Splits: cross-subject, as is usual: train persons 1, 3, 5 (323 sequences), validation 7 (108), test 2, 4, 6, 8 (430).

Pitfalls: one person is a validation split of 108 rows, so one row is nearly a point. The sensor is on the wrist for
actions 1 to 21 and on the thigh for 22 to 27.

Reference (logistic regression on at most 100 principal components, trained on train + validation, test accuracy):
inertial .712, skeleton .728, depth .660, all .858.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import DatasetDict, Image, List, Value

from ...ground.suggestion import check_name
from ..parquet_columns import Column, chosen_modalities, fixed_lists, released_dataset, vectors

FILE = "utd_mhad/utd_mhad.parquet"
MODALITIES = ("inertial", "skeleton", "depth")
SIGNALS, JOINTS, HIP = 6, 20, 3


def load(
    modalities: Sequence[str] = MODALITIES, inertial: str = "resampled", data_dir: str | os.PathLike | None = None
) -> DatasetDict:
    """UTD-MHAD.

    Args:
        modalities: which of "inertial", "skeleton", "depth", in the order of the columns.
        inertial: "resampled" to 64 steps, or "raw": as many as were measured.
        data_dir: folder that holds `utd_mhad/utd_mhad.parquet`; see `hf_bml.data.location`.

    Returns:
        splits train, validation and test with one column per modality, `labels` and `group`.

    Raises:
        ValueError: an option is unknown, or the file's content is not as expected.
        FileNotFoundError: the file is missing.
    """
    modalities = chosen_modalities(modalities, MODALITIES)
    check_name("inertial", inertial, ("resampled", "raw"))
    sources = {name: f"{name}_raw" if (name, inertial) == ("inertial", "raw") else name for name in modalities}
    return released_dataset(
        FILE,
        data_dir,
        list(sources.values()),
        lambda table, path: {name: sensor_column(table, source, path) for name, source in sources.items()},
        "splits as released, grouped by person",
    )


def sensor_column(table: pa.Table, source: str, path: Path) -> Column:
    """One sensor's column of the file as a column of the data set, and its type."""
    if source == "depth":
        return table[source], List(Image(decode=False), length=8)
    if source == "inertial_raw":
        return raw_sequences(table[source], str(path)), List(List(Value("float32"), length=SIGNALS))
    if source == "inertial":
        return fixed_lists(vectors(table, source, path, 64 * SIGNALS).reshape(-1, 64, SIGNALS))
    joints = relative_to_hip(vectors(table, source, path, 32 * JOINTS * 3).reshape(-1, 32, JOINTS, 3))
    return fixed_lists(joints.reshape(len(joints), 32, -1))


def relative_to_hip(joints: np.ndarray) -> np.ndarray:
    """Positions of joints, shape (..., joints, 3), less that of the hip in the same frame."""
    return joints - joints[..., HIP : HIP + 1, :]


def raw_sequences(column: pa.ChunkedArray, path: str) -> pa.Array:
    """Flat lists of variable length as sequences of SIGNALS values; ValueError unless they are finite and fit.

    Args:
        column: a list of numbers in every row.
        path: the table's file, shown in errors.
    """
    rows = column.combine_chunks()
    offsets = rows.offsets.to_numpy() - rows.offsets[0].as_py()
    values = rows.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    lengths = np.diff(offsets)
    wrong = np.flatnonzero((lengths == 0) | (lengths % SIGNALS > 0))
    if len(wrong) or not np.isfinite(values).all():
        where = f"{lengths[wrong[0]]} values in row {wrong[0]}" if len(wrong) else "values that are not finite"
        raise ValueError(
            f"Expected finite samples of {SIGNALS} values in '{path}', column 'inertial_raw', found {where}."
        )
    samples = pa.FixedSizeListArray.from_arrays(pa.array(values), SIGNALS)
    return pa.ListArray.from_arrays(pa.array((offsets // SIGNALS).astype(np.int32)), samples)
