"""Spoken letters with lip images: 1000 words of one speaker, 25 classes (a to z without w).

Source: GRID audio-visual sentence corpus (Cooke et al., 2006), speaker s1, taken from `TVR28/LipNet` at 7cdd534. The
letter is cut out of each sentence by the corpus's word times.

Licence: GRID is on Zenodo (3625687), to our knowledge under CC BY 4.0 (not verified); the carrying repository has no
licence file.

Privacy: voice and mouth of one person.

Columns
    audio: `{"bytes", "path"}` of a wav file, 16 kHz, 16 bit, mono, 0.19 to 0.55 s, not decoded.
    visual: 6 RGB mouth crops, 72 x 48 pixels (width x height), spread evenly over the word.
    labels: index in "abcdefghijklmnopqrstuvxyz".

Splits: those of the file, by SHA-1 of the clip's name: train 700, validation 100, test 200.

Pitfalls: one speaker only, so nothing is learned about new voices or faces. The 100 validation rows cover 24 of the
25 letters (not e): macro-averaged scores must be restricted to present classes. With 40 words a letter, one test
word is half a point.

Reference (logistic regression trained on train + validation, test accuracy): audio .910, visual .560, both .890. The
concatenation is below audio alone.
"""

from __future__ import annotations

import os

import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Audio, ClassLabel, DatasetDict, Features, Image, List

from ..location import find_data_file
from ..parquet_columns import released_splits
from ..splits import cut_table

FILE = "grid/grid_s1_letter_words.parquet"
LETTERS = "abcdefghijklmnopqrstuvxyz"


def load(data_dir: str | os.PathLike | None = None) -> DatasetDict:
    """Spoken letters with lip images.

    Args:
        data_dir: folder that holds `grid/grid_s1_letter_words.parquet`; see `hf_bml.data.location`.

    Returns:
        splits train, validation and test with the columns `audio`, `visual` and `labels`.

    Raises:
        FileNotFoundError: the file is missing.
    """
    path = find_data_file(FILE, data_dir)
    table = pq.read_table(path)
    table = table.filter(pc.equal(table["task"], "letter"))
    row_splits = released_splits(table, path)
    features = Features(
        {
            "audio": Audio(sampling_rate=16000, decode=False),
            "visual": List(Image()),
            "labels": ClassLabel(names=list(LETTERS)),
        }
    )
    return cut_table(table.rename_columns({"frames": "visual", "label": "labels"}), row_splits, features)
