"""Spoken sentences with the face of the speaker: 1000 clips of one person, and which words each has.

Source: GRID audio-visual sentence corpus (Cooke et al., 2006), speaker s1, taken from `TVR28/LipNet` at 7cdd534. A
sentence has six words, such as "bin blue at f two now"; three of them are told here, each out of four.

Licence: GRID is on Zenodo (3625687), to our knowledge under CC BY 4.0 (not verified); the carrying repository has no
licence file.

Privacy: voice and face of one person.

Columns
    audio, visual: `{"bytes", "path"}` of one mp4 file, not decoded: 3 s of sound, 16 kHz, mono; 74 or 75 frames of the
        face, 96 x 96, 25 a second.
    labels: the numbers of the words that the sentence has, out of twelve: a command (bin, lay, place, set), a
        preposition (at, by, in, with) and an adverb (again, now, please, soon). Always three, one of each kind; the
        task is `multi_label_classification` all the same, of twelve bits.

Splits: those of the file, by SHA-1 of the clip's name: train 700, validation 100, test 200.

Pitfalls: one speaker only, so nothing is learned about new voices or faces. To answer no to everything is right for
three bits out of four.
"""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
from datasets import Audio, ClassLabel, DatasetDict, Features, List, Video

from ..location import find_data_file
from ..parquet_columns import read_columns, released_splits
from ..splits import cut_table

FILES = tuple(f"grid/grid_s1_clips-{part}.parquet" for part in range(2))
WORDS = {
    "command": ("bin", "lay", "place", "set"),
    "preposition": ("at", "by", "in", "with"),
    "adverb": ("again", "now", "please", "soon"),
}


def load(data_dir: str | os.PathLike | None = None) -> DatasetDict:
    """Spoken sentences with the face of the speaker.

    Args:
        data_dir: folder that holds `grid/grid_s1_clips-0.parquet` and `-1`; see `hf_bml.data.location`.

    Returns:
        splits train, validation and test with the columns `audio`, `visual` and `labels`.

    Raises:
        ValueError: a word that the corpus does not have, or a file with other columns.
        FileNotFoundError: a file is missing.
    """
    paths = [find_data_file(file, data_dir) for file in FILES]
    parts = [read_columns(path, ["video", "split", *WORDS]) for path in paths]
    row_splits = [split for part, path in zip(parts, paths, strict=True) for split in released_splits(part, path)]
    table, names = pa.concat_tables(parts), [word for words in WORDS.values() for word in words]
    numbers = {name: number for number, name in enumerate(names)}
    rows = list(zip(*(table[kind].to_pylist() for kind in WORDS), strict=True))
    for row, words in enumerate(rows):
        if unknown := [word for word, known in zip(words, WORDS.values(), strict=True) if word not in known]:
            raise ValueError(f"Expected {list(WORDS)} out of {WORDS}, found {unknown} in row {row} of {FILES}.")
    labels = np.array([[numbers[word] for word in words] for words in rows], dtype=np.int64)
    lists = pa.ListArray.from_arrays(np.arange(len(rows) + 1) * labels.shape[1], labels.ravel())
    features = Features(
        {
            "audio": Audio(sampling_rate=16000, decode=False),
            "visual": Video(decode=False),
            "labels": List(ClassLabel(names=names)),
        }
    )
    columns = {"audio": table["video"], "visual": table["video"], "labels": lists}
    return cut_table(pa.table(columns), row_splits, features)
