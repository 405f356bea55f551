"""`Dataset.map` whose result is found again: by other processes, for tables in memory, until a file changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, Features
from datasets.fingerprint import Hasher

from .file_changes import file_states

MAP_BATCH_SIZE = 64
READING = 2  # part of every fingerprint: raise it when the same files give other tensors, or other failures


def cached_map(
    split: Dataset,
    function: Callable,
    fn_kwargs: dict[str, Any],
    features: Features,
    file_columns: list[str],
    num_proc: int | None = None,
    desc: str | None = None,
) -> Dataset:
    """`split.map` in batches with row numbers, from the cache where it was computed before.

    Args:
        split: rows. Of a table in memory the result is written to the cache folder of `datasets`, which `Dataset.map`
            would not do; of a table on disk beside it, as `Dataset.map` does. `datasets.disable_caching()` counts.
        function: of a module, called with the batch, the row numbers and `fn_kwargs`.
        fn_kwargs: JSON-able.
        features: columns of the result.
        file_columns: columns that may hold paths: a file of another size or time is processed again.
        num_proc: worker processes.
        desc: of the progress bar.
    """
    arguments = json.dumps(fn_kwargs, sort_keys=True)
    parts = [READING, split._fingerprint, function.__qualname__, arguments, file_states(split, file_columns)]
    fingerprint = Hasher.hash(parts)
    cache_file = None
    if not split.cache_files and datasets.is_caching_enabled():
        cache_file = str(Path(datasets.config.HF_DATASETS_CACHE) / "hf_bml" / f"{fingerprint}.arrow")
    return split.map(
        function,
        with_indices=True,
        batched=True,
        batch_size=MAP_BATCH_SIZE,
        writer_batch_size=MAP_BATCH_SIZE,
        features=features,
        fn_kwargs=fn_kwargs,
        num_proc=num_proc,
        cache_file_name=cache_file,
        new_fingerprint=fingerprint,
        desc=desc,
    )
