"""What `hf-bml compare --robustness` measures of every finished run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from accelerate.utils import broadcast_object_list

from ..analysis.metric_names import MEASURED
from ..analysis.robustness import VALIDATION, probe_summary
from .after_run import AfterRun
from .corruption_choice import Chosen
from .finished_run import load_run, predict
from .json_file import read_json, write_json
from .progress import CompactProgressCallback
from .recipe import Recipe
from .robustness import add_probes, prefixed, robustness_path, robustness_run


def measure_robustness(
    splits: Sequence[str], corruptions: Sequence[Chosen] | None = None, seed: int = 0
) -> list[AfterRun]:
    """What `hf-bml compare` measures of every run beside its own metrics; on test also probes of its encoders, which
    are added to the results of runs that were measured without.

    Args:
        splits: `validation`, `test` or both.
        corruptions, seed: see `robustness_run`.
    """
    texts = "default" if corruptions is None else [one.text for one in corruptions]

    def measure_of(split: str) -> AfterRun:
        prefix = VALIDATION if split == "validation" else MEASURED

        def measure(recipe: Recipe, result: Mapping[str, Any]) -> dict[str, float]:
            found = robustness_run(recipe.training.output_dir, split, corruptions, seed, with_probes=split == "test")
            return prefixed(found["summary"], prefix)

        return AfterRun(json.dumps({"robustness": split, "corruptions": texts, "seed": seed}), measure)

    def measure_probes(recipe: Recipe, result: Mapping[str, Any]) -> dict[str, float]:
        found = probed_run(recipe, "test", corruptions, seed)
        return prefixed(probe_summary(found["probe"]["accuracy"], found["probe"]["weak"]), MEASURED)

    probes = [AfterRun(json.dumps({"probe": "test"}), measure_probes)] if "test" in splits else []
    return [*(measure_of(split) for split in splits), *probes]


def probed_run(recipe: Recipe, split: str, corruptions: Sequence[Chosen] | None, seed: int) -> dict[str, Any]:
    """What `robustness_<split>.json` holds, with probes; only these are measured if it has none."""
    folder = recipe.training.output_dir
    path = robustness_path(folder, split)
    known = [read_json(path) if path.is_file() else None]
    if recipe.training.world_size > 1:
        broadcast_object_list(known)  # the main process decides for all
    [found] = known
    if found is None:
        return robustness_run(folder, split, corruptions, seed)
    if "probe" not in found:
        run = load_run(folder)
        trainer = run.trainer()
        trainer.remove_callback(CompactProgressCallback)
        train, clean = (predict(trainer, run.dataset[name], with_features=True) for name in ("train", split))
        add_probes(found, trainer, train, clean)
        if trainer.is_world_process_zero():
            write_json(found, path)
    return found
