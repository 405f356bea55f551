"""One process: however the batch of an optimizer step is cut or compiled, training ends in the same weights."""

from __future__ import annotations

import itertools
import math
import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_questions
import torch
from exactness import (
    BATCH,
    LABELS,
    MODALITIES,
    SAMPLES,
    SELDOM,
    ExactTrainer,
    Run,
    arguments,
    build_trainer,
    exact_dataset,
    exact_model,
    train,
)
from tiny_questions import tiny_question_dataset, tiny_question_model
from tiny_segments import ARCHITECTURES, tiny_segment_dataset, tiny_segment_model
from torch import nn
from transformers import Trainer

from hf_bml import MultimodalDataCollator
from hf_bml.modulation import discriminative_scores

NO_CLIPPING = {"max_grad_norm": 0}


@pytest.fixture(scope="module")
def outcome():
    """Trains each run once."""
    outcomes = {}

    def outcome(run):
        if repr(run) not in outcomes:
            outcomes[repr(run)] = train(run)
        return outcomes[repr(run)]

    return outcome


def assert_same(first, second, tolerance=1e-12):
    for name, value in first["weights"].items():
        torch.testing.assert_close(value, second["weights"][name], atol=tolerance, rtol=0)


@pytest.mark.parametrize("micro_batches", [2, 4, 8])
@pytest.mark.parametrize("modulations", ["none", "opm", "ogm", "opm+ogm_ge", "opm+rescored", "ogm_star"])
def test_accumulation(outcome, modulations, micro_batches):
    run = Run(modulations, micro_batches=micro_batches)
    assert_same(outcome(run.whole), outcome(run))
    assert outcome(run)["masks"] == outcome(run.whole)["masks"]


@pytest.mark.parametrize("micro_batches", [2, 4])
@pytest.mark.parametrize("options", [{}, SELDOM], ids=["every step", "seldom"])
def test_accumulation_in_balance(outcome, options, micro_batches):
    run = Run("opm+ogm_ge", balance=options, micro_batches=micro_batches)
    assert_same(outcome(run.whole), outcome(run))
    assert outcome(run)["masks"] == outcome(run.whole)["masks"]


def train_on_segments(architecture, run, folder):
    """As `train`, with a model that labels segments."""
    options = {"dropout": 0} if architecture == "psp" else {}
    model = tiny_segment_model(architecture, options=options).double()
    dataset = tiny_segment_dataset(SAMPLES, dtype=torch.float64).add_column("index", list(range(SAMPLES)))
    collator = MultimodalDataCollator(list(model.encoders), segments=True)
    trainer = ExactTrainer(
        model,
        arguments(run, str(folder), 1),
        train_dataset=dataset,
        data_collator=lambda rows: {**collator(rows), "index": torch.stack([row["index"] for row in rows])},
        own_draws=False,
    )
    trainer.train()
    return {"weights": model.state_dict(), "masks": trainer.masks}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_accumulation_over_clips_of_segments(architecture, tmp_path):
    run = Run("opm+ogm_ge", micro_batches=8)
    whole, cut = (train_on_segments(architecture, each, tmp_path) for each in (run.whole, run))
    assert_same(whole, cut)
    assert whole["masks"] == cut["masks"] and not all(all(kept) for kept in cut["masks"].values())


def train_on_questions(architecture, run, folder):
    """As `train`, with a model that answers questions."""
    model = tiny_question_model(architecture).double()
    dataset = tiny_question_dataset(samples=SAMPLES).add_column("index", list(range(SAMPLES)))
    collator = MultimodalDataCollator(list(model.encoders), passed_on=["question_type"])

    def collate(rows):
        ids = [{"input_ids": row["text"], "attention_mask": torch.ones_like(row["text"])} for row in rows]
        features = [{name: row[name].double() for name in ("audio", "visual")} for row in rows]
        batch = collator([{**row, **own, "text": text} for row, own, text in zip(rows, features, ids, strict=True)])
        return {**batch, "index": torch.stack([row["index"] for row in rows])}

    trainer = ExactTrainer(
        model, arguments(run, str(folder), 1), train_dataset=dataset, data_collator=collate, own_draws=False
    )
    trainer.train()
    return {"weights": model.state_dict(), "masks": trainer.masks}


@pytest.mark.parametrize("architecture", tiny_questions.ARCHITECTURES)
def test_accumulation_over_questions(architecture, tmp_path):
    run = Run("opm+ogm_ge", micro_batches=8)
    whole, cut = (train_on_questions(architecture, each, tmp_path) for each in (run.whole, run))
    assert_same(whole, cut)
    assert whole["masks"] == cut["masks"] and not all(all(kept) for kept in cut["masks"].values())


@pytest.mark.parametrize("micro_batches", [2, 4, 8])
def test_the_last_step_may_have_fewer_micro_batches(outcome, micro_batches):
    """36 samples: the fifth step of an epoch has 4, in full micro-batches."""
    run = Run("opm+ogm_ge", samples=36, micro_batches=micro_batches)
    assert_same(outcome(run.whole), outcome(run))


def coefficients(scores, alpha=0.8):
    """Paper Eq. 7 and 11 for the summed scores of the modalities."""
    ratios = [sum(s / other for j, other in enumerate(scores) if j != i) / 2 for i, s in enumerate(scores)]
    return [max(0.0, 1 - alpha * math.tanh(ratio - 1)) if ratio > 1 else 1.0 for ratio in ratios]


def reference(dataset, steps, placement):
    """OGM in plain PyTorch with momentum and without clipping.

    Args:
        dataset: of `exact_dataset`.
        steps: per optimizer step its micro-batches, each a list of sample numbers.
        placement: `"gradients"`: one coefficient per step; `"graph"`: one per micro-batch.
    """
    model, data = exact_model(), dataset[:]
    linear = model.head.classifier[-1]
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for micro_batches in steps:
        gradients = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        step_scores = [0.0] * 3
        for rows in micro_batches:
            labels = data["labels"][rows]
            features = [model.encoders[m](data[m][rows]) for m in MODALITIES]
            model.zero_grad()
            nn.functional.cross_entropy(linear(torch.cat(features, 1)), labels).backward()
            scores, start = [], 0
            for feature in features:
                part = feature @ linear.weight[:, start : start + feature.shape[1]].T + linear.bias / 3
                start += feature.shape[1]
                scores.append(sum(torch.softmax(part[i], 0)[label].item() for i, label in enumerate(labels)))
            step_scores = [a + b for a, b in zip(step_scores, scores, strict=True)]
            own = coefficients(scores) if placement == "graph" else [1.0] * 3
            for name, p in model.named_parameters():
                k = own[MODALITIES.index(name.split(".")[1])] if name.startswith("encoders") else 1.0
                gradients[name] += k * p.grad / len(micro_batches)
        whole = coefficients(step_scores) if placement == "gradients" else [1.0] * 3
        with torch.no_grad():
            for name, p in model.named_parameters():
                k = whole[MODALITIES.index(name.split(".")[1])] if name.startswith("encoders") else 1.0
                velocity[name] = 0.9 * velocity[name] + k * gradients[name]
                p -= 0.1 * velocity[name]
    return {"weights": dict(model.named_parameters())}


def steps_of(samples, micro_batch, steps=6):
    """Sequential epochs over the samples, cut into micro-batches, 8 samples a step."""
    epoch = [list(range(start, min(start + micro_batch, samples))) for start in range(0, samples, micro_batch)]
    per_step = BATCH // micro_batch
    epoch = [epoch[start : start + per_step] for start in range(0, len(epoch), per_step)]
    return list(itertools.islice(itertools.cycle(epoch), steps))


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
@pytest.mark.parametrize("samples", [SAMPLES, 35])
@pytest.mark.parametrize("modulations", ["ogm", "graph"])
def test_steps_are_those_of_an_independent_loop(outcome, modulations, samples, micro_batches):
    """In the graph, n micro-batches have n coefficients. With 35 samples the last step of an epoch has 3, for example
    as 2 + 1: the two micro-batches weigh the same in the gradient, the three samples in the scores."""
    placement = {"ogm": "gradients", "graph": "graph"}[modulations]
    run = Run(modulations, micro_batches=micro_batches, samples=samples, arguments=NO_CLIPPING)
    expected = reference(exact_dataset(run), steps_of(samples, BATCH // micro_batches), placement)
    assert_same(expected, outcome(run), 1e-10)


def distance(first, second):
    return max((value - second["weights"][name]).abs().max().item() for name, value in first["weights"].items())


@pytest.mark.parametrize("micro_batches", [2, 4])
@pytest.mark.parametrize("modulations", ["none", "opm+ogm_ge"])
def test_a_loss_divided_by_the_number_of_items_is_exact_at_ragged_ends(outcome, modulations, micro_batches):
    """37 samples: the fifth step of an epoch has 5, as 4 + 1 or 2 + 2 + 1. The model's own mean weighs these parts
    equally."""
    run = Run(modulations, samples=37, micro_batches=micro_batches, own_loss=True)
    assert_same(outcome(run.whole), outcome(run))
    mean = replace(run, own_loss=False)
    assert distance(outcome(mean), outcome(mean.whole)) > 1e-3


def test_a_ragged_end_is_the_plain_trainers(outcome, tmp_path):
    run = Run("none", samples=37, micro_batches=4)
    dataset = exact_dataset(run).remove_columns("index")
    collator = MultimodalDataCollator(list(MODALITIES), LABELS)
    plain = Trainer(exact_model(), arguments(run, str(tmp_path), 1), train_dataset=dataset, data_collator=collator)
    plain.train()
    assert_same(outcome(run), {"weights": plain.model.state_dict()}, 0)


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_samples_weigh_equally_in_the_scores_of_a_ragged_end(tmp_path, micro_batches):
    run = Run("ogm", samples=37, micro_batches=micro_batches, arguments={"max_steps": 5, "learning_rate": 0.0})
    trainer = build_trainer(run, str(tmp_path))
    trainer.train()
    rows = exact_dataset(run)[32:37]
    with torch.no_grad():
        unimodal_logits = exact_model()(**{name: rows[name] for name in MODALITIES}).unimodal_logits
    expected = discriminative_scores(unimodal_logits, rows["labels"])
    torch.testing.assert_close(trainer.monitor.scores, expected, atol=1e-12, rtol=0)


def test_what_is_not_promised(outcome):
    """Micro-batches of unequal size, or coefficients in the graph, are not the big batch."""
    unequal = Run("ogm", samples=35, micro_batches=4)
    assert distance(outcome(unequal), outcome(unequal.whole)) > 1e-3
    in_graph = Run("graph", micro_batches=4)
    assert distance(outcome(in_graph), outcome(in_graph.whole)) > 1e-3


# From here on trainings are compiled, and what compiling keeps is searched for garbage by every training after it.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"head": "deep"},
        {"head": "film"},
        {"absent": (0, 3, 5)},
        {"samples": 36},
        {"compiled": "aot_eager"},
        {"arguments": NO_CLIPPING},
    ],
    ids=["linear", "deep", "film", "absent", "smaller last batch", "compiled", "no clipping"],
)
@pytest.mark.parametrize("drops", ["", "opm+"])
def test_ogm_in_the_graph_is_ogm_on_the_gradients(outcome, drops, options):
    """Without accumulation."""
    in_graph = outcome(Run(f"{drops}graph", **options))
    on_gradients = outcome(Run(f"{drops}ogm", **options))
    assert_same(on_gradients, in_graph)
    assert in_graph["logs"] == pytest.approx(on_gradients["logs"], abs=1e-6)
    assert min(in_graph["logs"][f"ogm/coefficient_{m}"] for m in MODALITIES) < 0.95


@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, pytest.mark.system])]
)
@pytest.mark.parametrize("modulations", ["opm+ogm_ge", "opm+graph", "mmpareto", "lfm"])
def test_compiling(outcome, modulations, backend):
    can_compile = shutil.which("g++") and Path(sysconfig.get_path("include"), "Python.h").exists()
    if backend == "inductor" and not can_compile:
        pytest.skip("inductor compiles for the CPU with g++ and Python's headers, which are missing")
    run = Run(modulations, compiled=backend)
    compiled = outcome(run)
    assert compiled["kind"] == "OptimizedModule"
    assert_same(outcome(run.whole), compiled)
    assert compiled["masks"] == outcome(run.whole)["masks"]
    logs = outcome(run.whole)["logs"]
    assert compiled["logs"] == pytest.approx({key: logs[key] for key in compiled["logs"]}, abs=1e-6)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_compiling_with_a_smaller_last_batch(outcome, micro_batches):
    run = Run("opm+ogm_ge", samples=36, compiled="aot_eager", micro_batches=micro_batches)
    assert_same(outcome(run.whole), outcome(run))
