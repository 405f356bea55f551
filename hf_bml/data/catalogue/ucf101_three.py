"""UCF-101-Three: UCF-101 with RGB, optical flow and RGB difference.

Source and licence, privacy, columns, splits and pitfalls: see `hf_bml.data.catalogue.ucf101`. The third column is the
video once more; a processor takes the differences of neighbouring frames at the video's own rate.

Licence: none stated; for research. The videos belong to their uploaders.

Privacy: people in YouTube videos; whether they agreed to this use is not known.
"""

from __future__ import annotations

import os

from datasets import DatasetDict

from . import ucf101


def load(
    split: int = 1,
    data_dir: str | os.PathLike | None = None,
    flow_dir: str | os.PathLike = "tvl1_flow",
    hub_id: str | None = None,
    revision: str | None = None,
) -> DatasetDict:
    """UCF-101 actions with three modalities.

    Args:
        split, data_dir, flow_dir, hub_id, revision: see `hf_bml.data.catalogue.ucf101.load`.

    Returns:
        splits train, validation and test with the columns `visual`, `flow`, `difference` and `labels`.

    Raises:
        ValueError, FileNotFoundError: see there.
    """
    return ucf101.load(split, ucf101.MODALITIES, data_dir, flow_dir, hub_id, revision)
