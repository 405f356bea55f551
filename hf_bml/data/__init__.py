"""Data sets for balanced multimodal training, and loaders for your own data.

Every data set has the splits train, validation and test, one column per modality, and `labels`. A new data set is a
new file in `catalogue` with a function `load(**options) -> datasets.DatasetDict`, or any function named by its dotted
path. There is no registry.
"""

from __future__ import annotations

from .data_report import data_report
from .from_columns import from_columns
from .loading import check_options, dataset_function, dataset_names, load_multimodal_dataset
from .location import find_data_file
from .validation import check_dataset_dict

__all__ = [
    "check_dataset_dict",
    "check_options",
    "data_report",
    "dataset_function",
    "dataset_names",
    "find_data_file",
    "from_columns",
    "load_multimodal_dataset",
]
