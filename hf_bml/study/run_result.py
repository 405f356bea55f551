"""What a comparison knows of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..analysis.summary import median_after_warm_up


def flat_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """A run of a [`Row`](../analysis/row.py) from what `metrics.json` holds.

    Test metrics under their own names, `validation_<metric>`, `ratio_<modality>`, `seed`, `device`, `torch`, and the
    times (not of a run that resumed a checkpoint): `train_seconds` without `estimation_seconds`, and
    `epoch_seconds`, the median of the whole epochs after the first. Where there are such, `fold` and `protocol`, the
    number of `trainings` of a run that has parts, and versions and date.
    """
    estimation = sum((facts.get("estimation_seconds", 0.0) for facts in result.get("modulations", {}).values()), 0.0)
    times = {}
    if not result.get("resumed_from"):
        times["train_seconds"] = result["train_seconds"] - estimation
        if epoch := median_after_warm_up(result.get("epoch_seconds", [])):
            times["epoch_seconds"] = epoch
    further: dict[str, Any] = {}
    if protocol := result.get("protocol"):
        further |= {"protocol": protocol} | ({"fold": protocol["fold"]} if "fold" in protocol else {})
    if "trainings" in result:
        further["trainings"] = result["trainings"]
    return {
        "seed": result["seed"],
        **result["test"],
        **{f"ratio_{modality}": value for modality, value in result["final_ratios"].items()},
        **{f"validation_{name}": value for name, value in result["validation"].items()},
        **times,
        "estimation_seconds": estimation,
        "device": result["environment"]["device"],
        "torch": result["environment"]["torch"],
        **{
            name: result["environment"][name]
            for name in ("hf_bml", "transformers", "date")
            if name in result["environment"]
        },
        **further,
    }
