"""When a training logs, evaluates and saves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

RHYTHM = ("logging_strategy", "logging_steps", "eval_strategy", "save_strategy", "save_steps")  # None: not given
MOST_SAVES = 10  # of a training that does not say when it saves


def default_rhythm(chosen: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """When a recipe logs, evaluates and saves that does not say so.

    All three after every epoch; in a training of more than ten epochs it saves ten times, so that a probe has a course
    to draw and the disk is not filled. A training of `max_steps` evaluates ten times, and logs and saves as the
    training arguments have it. With `load_best_model_at_end`, which the Trainer ties to `save_strategy`, the recipe
    must say when it evaluates and saves.

    Args:
        chosen: the options.
        given: which of RHYTHM the recipe gives.
    """
    has_epochs, keeps_best = chosen["max_steps"] <= 0, chosen["load_best_model_at_end"]
    rhythm: dict[str, Any] = {}
    if has_epochs and not {"logging_strategy", "logging_steps"} & set(given):
        rhythm["logging_strategy"] = "epoch"
    if has_epochs and not keeps_best and not {"save_strategy", "save_steps"} & set(given):
        is_short = chosen["num_train_epochs"] <= MOST_SAVES
        rhythm |= {"save_strategy": "epoch"} if is_short else {"save_steps": 1 / MOST_SAVES}
    if keeps_best or "eval_strategy" in given:
        return rhythm
    if chosen["eval_steps"] is not None:
        return rhythm | {"eval_strategy": "steps"}
    return rhythm | ({"eval_strategy": "epoch"} if has_epochs else {"eval_strategy": "steps", "eval_steps": 0.1})
