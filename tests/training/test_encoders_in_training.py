"""Encoders with frozen, one-dimensional or shifted layers under the trainer's modulations."""

from __future__ import annotations

import copy
import warnings

import datasets
import pytest
import torch
from torch import nn

from hf_bml import MultimodalBalancedTrainer, MultimodalConfig, MultimodalForClassification
from hf_bml.processing import MultimodalDataCollator

THIN = {
    "type": "timm",
    "architecture": "resnet10t",
    "model_args": {"channels": [8, 8, 8, 8], "stem_width": 4, "zero_init_last": False},
}
ENCODERS = {
    "xvector": ({"type": "xvector", "num_bins": 4, "hidden_size": 6, "pooled_size": 5}, (1, 4, 20)),
    "mlp": ({"type": "mlp", "input_size": 3, "hidden_sizes": [6]}, (3,)),
    "tsn": ({**THIN, "partial_batch_norm": True, "dropout": 0.5}, (3, 3, 16, 16)),
    "tsm": ({**THIN, "temporal_shift": True}, (3, 3, 16, 16)),
    "multi_window": ({**THIN, "type": "multi_window", "num_windows": 2}, (2, 16, 16)),
}
OGM = {"alpha": 0.8, "noise": "entry_std"}


def model(first, second="mlp", **options):
    torch.manual_seed(0)
    modalities = {"first": ENCODERS[first][0], "second": ENCODERS[second][0]}
    return MultimodalForClassification(MultimodalConfig(modalities=modalities, num_labels=2, **options))


def inputs(first, second="mlp", samples=8):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % 2
    strong = labels.view(-1, *[1] * len(ENCODERS[first][1])) * 3.0
    return {
        "first": torch.randn(samples, *ENCODERS[first][1], generator=generator) + strong,
        "second": torch.randn(samples, *ENCODERS[second][1], generator=generator),
        "labels": labels,
    }


def trainer(training_args, trained, first, **options):
    columns = {name: values.numpy() for name, values in inputs(first).items()}
    rows = datasets.Dataset.from_dict(columns).with_format("torch")
    return MultimodalBalancedTrainer(
        trained,
        training_args(**options),
        train_dataset=rows,
        data_collator=MultimodalDataCollator(["first", "second"], num_labels=2),
    )


@pytest.mark.parametrize("first", list(ENCODERS))
def test_every_trainable_parameter_moves_and_frozen_ones_stay(training_args, first):
    trained = model(first)
    before = copy.deepcopy(trained.state_dict())
    run = trainer(training_args, trained, first, modulations={"opm": {}, "ogm": OGM}, max_steps=4)
    run.train()
    frozen = {name for name, parameter in trained.named_parameters() if not parameter.requires_grad}
    assert bool(frozen) == (first == "tsn")
    for name, parameter in trained.named_parameters():
        assert parameter.isfinite().all()
        assert torch.equal(parameter, before[name]) == (name in frozen), name
    norms = [m for m in trained.encoders["first"].modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    counts = [int(norm.num_batches_tracked) for norm in norms]
    assert counts == ([4] + [0] * (len(norms) - 1) if first == "tsn" else [4] * len(norms))
    assert any("ogm/coefficient_first" in entry for entry in run.state.log_history)


@pytest.mark.parametrize("first", ["xvector", "mlp", "tsn"])
def test_ogm_scales_the_dominant_encoders_step(training_args, first):
    """One SGD step: k times that of plain training, for every parameter of the encoder with a gradient."""
    steps = {}
    for name, modulations in {"plain": None, "ogm": {"ogm": {"alpha": 0.5}}}.items():
        trained = model(first)
        before = {key: value.detach().clone() for key, value in trained.named_parameters()}
        options = {"optim_args": "momentum=0.0", "learning_rate": 0.01, "max_steps": 1, "logging_steps": 1}
        run = trainer(training_args, trained, first, modulations=modulations, max_grad_norm=0.0, **options)
        run.train()
        steps[name] = {key: value.detach() - before[key] for key, value in trained.named_parameters()}
    log = next(entry for entry in run.state.log_history if "ogm/coefficient_first" in entry)
    coefficients = {m: log[f"ogm/coefficient_{m}"] for m in ("first", "second")}
    assert min(coefficients.values()) < 0.999
    for name, step in steps["ogm"].items():
        modality = name.split(".")[1] if name.startswith("encoders") else None
        expected = steps["plain"][name] * coefficients.get(modality, 1.0)
        torch.testing.assert_close(step, expected, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("first", ["xvector", "mlp"])
def test_convolutions_of_images_only_leave_these_encoders_alone(training_args, first):
    """`parameters: conv` are weights of four dimensions, as in the authors' code: none here."""
    run = trainer(training_args, model(first), first, modulations={"ogm": {"parameters": "conv"}}, max_steps=1)
    with pytest.warns(UserWarning, match="touches no parameter of the 'first' encoder.*parameters: all or matrix"):
        run.train()
    run = trainer(training_args, model("xvector"), "xvector", modulations={"ogm": {"parameters": "matrix"}})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*touches no parameter")
        run.train()


def test_a_compiled_model_of_clips_predicts_the_same():
    """The clips' length and padding are told to the shifts, and must not be compiled in."""
    eager = model("tsm").eval()
    compiled = torch.compile(copy.deepcopy(eager), backend="aot_eager")
    batch = inputs("tsm")
    torch.testing.assert_close(compiled(**batch).logits, eager(**batch).logits, atol=1e-5, rtol=1e-4)
    mask = torch.tensor([[True] * 4, *[[True, True, True, False]] * 7])
    batch["first"] = {"values": torch.randn(8, 4, 3, 16, 16), "mask": mask}
    torch.testing.assert_close(compiled(**batch).logits, eager(**batch).logits, atol=1e-5, rtol=1e-4)


def test_the_factor_of_a_learning_rate(training_args):
    options = {"optim_args": "momentum=0.0", "learning_rate": 0.01, "max_steps": 1, "max_grad_norm": 0.0}
    steps = []
    for multipliers in (None, {"encoders.first.model.conv1.0": 5}):
        trained = model("tsm")
        before = copy.deepcopy(dict(trained.named_parameters()))
        trainer(training_args, trained, "tsm", lr_multipliers=multipliers, **options).train()
        steps.append({name: p.detach() - before[name].detach() for name, p in trained.named_parameters()})
    for name, step in steps[0].items():
        factor = 5 if name == "encoders.first.model.conv1.0.weight" else 1
        torch.testing.assert_close(steps[1][name], factor * step, atol=1e-6, rtol=1e-3)
