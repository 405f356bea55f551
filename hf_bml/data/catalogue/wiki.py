"""Wikipedia's featured articles: 2866 pictures with a paragraph each, ten categories, as features.

Source: features of Rasiwasia et al. (ACM Multimedia 2010), taken from `wxhfy/Multi-view` at 6ff0763.

Licence: not stated with the features; the carrying repository has no licence file. Articles and pictures are
Wikipedia's.

Privacy: counts of words and picture patches of encyclopedia articles.

Columns
    image: 128 values, the frequencies of visual words (SIFT).
    text: 10 values, the topics of the paragraph (LDA).
    labels: the category, 0 to 9; the source gives no names.
    group: ten pictures stand in two articles each, which have one group.

Splits: those of the file, a picture's articles in one: train 2011, validation 285, test 570.

Pitfalls: the text is by far the better modality and the picture adds little: a case in which fusion is below text
alone, and holding text back costs.

Reference (logistic regression, trained on train + validation, test accuracy): image .275, text .733, both .661;
majority class .156.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from datasets import DatasetDict

from ..parquet_columns import chosen_modalities, fixed_lists, released_dataset, vectors

FILE = "wiki/wiki.parquet"
SIZES = {"image": 128, "text": 10}


def load(modalities: Sequence[str] = tuple(SIZES), data_dir: str | os.PathLike | None = None) -> DatasetDict:
    """Wikipedia's featured articles.

    Args:
        modalities: which of "image", "text", in the order of the columns.
        data_dir: folder that holds `wiki/wiki.parquet`; see `hf_bml.data.location`.

    Returns:
        splits train, validation and test with one column per modality, `labels` and `group`.

    Raises:
        ValueError: a modality is unknown, or the file's content is not as expected.
        FileNotFoundError: the file is missing.
    """
    modalities = chosen_modalities(modalities, tuple(SIZES))
    return released_dataset(
        FILE,
        data_dir,
        modalities,
        lambda table, path: {name: fixed_lists(vectors(table, name, path, SIZES[name])) for name in modalities},
        "splits as released, rows that share a picture together",
    )
