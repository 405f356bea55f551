"""Fit the transforms that learn a state from data (`Transform.learns`), on the training split alone."""

from __future__ import annotations

from datasets import Dataset, Features
from torch import Tensor

from .cached_map import cached_map
from .failures import Failure, failure_reason
from .kept_files import remembered_state
from .processor_config import transforms_of
from .raw_columns import integer_columns, typed_batch, undecoded
from .stored_signals import StoredSignals
from .tensor_storage import encode_value, tensor_features


def fit_modality(split: Dataset, split_name: str, modality: str, config: str, num_proc: int | None = None) -> str:
    """Fit one modality's transform; found in the cache if the same was fitted on the same values before.

    Args:
        split: the training split, with a column `modality`.
        split_name: its name, for messages.
        modality: the column.
        config: `MultimodalProcessor.to_dict()` as JSON, of this modality alone: others do not matter to the cache.
            With `on_error` "mask" and "skip", values that cannot be used are left out.
        num_proc: worker processes that extract features.

    Returns:
        The name of the state, see `kept_files`.

    Raises:
        ValueError: A value cannot be used and `on_error` is "raise", or there are too few values to fit on.
    """
    transforms = transforms_of(config)
    values = undecoded(split.with_format(None).select_columns([modality]), [modality])
    try:
        extracted = cached_map(
            values,
            extract_batch,
            {"config": config, "name": modality, "integers": integer_columns(values.features, [modality])},
            Features({modality: tensor_features()}),
            [modality],
            num_proc,
            f"Extracting {modality} to fit on ({split_name})",
        )
    except ValueError as error:
        raise ValueError(f"split {split_name!r}, {error}") from error

    def fit() -> dict[str, Tensor]:
        present = [row for row, value in enumerate(extracted[modality]) if value is not None]
        stored = StoredSignals(extracted.select(present), modality, range(len(present)), len(present))
        try:
            return transforms.by_modality[modality].fit(stored)
        except Exception as error:  # also of linear algebra, and MemoryError
            raise ValueError(f"split {split_name!r}, modality {modality!r}: {failure_reason(error)}") from error

    return remembered_state(extracted._fingerprint, fit)


def extract_batch(
    batch: dict[str, list], rows: list[int], config: str, name: str, integers: dict[str, str]
) -> dict[str, list]:
    """`Dataset.map` function: encoded features of one modality, `None` for values that cannot be used."""
    failures: list[Failure] = []  # collected, not logged: the processing of the split reports them
    extracted = transforms_of(config).extract(name, typed_batch(batch, integers)[name], failures, rows)
    return {name: [encode_value(features) for features in extracted]}
