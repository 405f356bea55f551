from __future__ import annotations

import math

import pytest
import torch
from tiny import tiny_config, tiny_dataset, tiny_model
from torch import nn
from transformers import Trainer, TrainingArguments

from hf_bml import OGM, OPM, MultimodalBalancedTrainer, MultimodalForClassification
from hf_bml.processing import MultimodalDataCollator
from hf_bml.training.checkpoint import MANIFEST_NAME
from hf_bml.training.keeping_state import MODULATION_STATE_NAME

BOTH = {"opm": {"q_base": 0.5, "lam": 0.5}, "ogm": {"alpha": 0.8, "noise": "entry_std"}}


def train(args, model=None, dataset=None, trainer_class=MultimodalBalancedTrainer, resume=None, **options):
    model = model if model is not None else tiny_model()
    trainer = trainer_class(model, args, train_dataset=dataset or tiny_dataset(), **options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def assert_equal_weights(first, second):
    for name, value in weights(first).items():
        assert torch.equal(value, second.model.get_parameter(name)), name


def assert_close_weights(first, second, **tolerance):
    for name, value in weights(first).items():
        torch.testing.assert_close(value, second.model.get_parameter(name).detach(), **tolerance)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_without_modulations_the_weights_are_those_of_the_plain_trainer(training_args, accumulation):
    options = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4}
    ours = train(training_args(modulations={}, **options))
    plain = train(training_args(**options), trainer_class=Trainer)
    assert_equal_weights(ours, plain)
    assert "balance/ratio_audio" in ours.state.log_history[0]  # yet the curve exists


def test_logged_keys(training_args):
    history = train(training_args(modulations=BOTH)).state.log_history
    expected = {
        f"{prefix}_{modality}"
        for prefix in (
            "balance/score",
            "balance/ratio",
            "unimodal/accuracy",
            "opm/drop_probability",
            "opm/drop_fraction",
            "ogm/coefficient",
        )
        for modality in ("audio", "visual")
    }
    assert expected <= set(history[0])
    assert all(isinstance(history[0][key], float) for key in expected)
    assert "balance/ratio_audio" not in history[-1]  # the closing summary has no step behind it


def reference_ogm(dataset, steps, batch, alpha, learning_rate, momentum):
    """OGM in plain PyTorch: an independent loop over the same batches."""
    model = tiny_model(dtype=torch.float64)
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    coefficients = []
    for step in range(steps):
        rows = dataset[step * batch : (step + 1) * batch]
        features = {m: model.encoders[m](rows[m]) for m in ("audio", "visual")}
        linear = model.head.classifier[-1]
        logits = torch.cat(list(features.values()), 1) @ linear.weight.T + linear.bias
        loss = nn.functional.cross_entropy(logits, rows["labels"])
        model.zero_grad()
        loss.backward()
        scores = {}
        for index, (m, feature) in enumerate(features.items()):
            part = feature @ linear.weight[:, 4 * index : 4 * index + 4].T + linear.bias / 2
            scores[m] = sum(torch.softmax(part[i], 0)[rows["labels"][i]].item() for i in range(batch))
        with torch.no_grad():
            for m, other in (("audio", "visual"), ("visual", "audio")):
                ratio = scores[m] / scores[other]
                k = max(0.0, 1 - alpha * math.tanh(ratio - 1)) if ratio > 1 else 1.0
                if m == "audio":
                    coefficients.append(k)
                for p in model.encoders[m].parameters():
                    p.grad *= k
            for name, p in model.named_parameters():
                velocity[name] = momentum * velocity[name] + p.grad
                p -= learning_rate * velocity[name]
    return model, coefficients


def test_ogm_equals_an_independent_loop(training_args):
    dataset = tiny_dataset(dtype=torch.float64, samples=32)
    args = training_args(
        modulations={"ogm": {"alpha": 0.8}},
        max_steps=4,
        logging_steps=1,
        train_sampling_strategy="sequential",
        max_grad_norm=0,
    )
    trainer = train(args, tiny_model(dtype=torch.float64), dataset)
    model, coefficients = reference_ogm(dataset, 4, 8, 0.8, 0.1, 0.9)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trainer.model.get_parameter(name), parameter, atol=1e-12, rtol=0)
    logged = [entry["ogm/coefficient_audio"] for entry in trainer.state.log_history[:4]]
    assert logged == pytest.approx(coefficients, abs=1e-6)
    assert min(coefficients) < 0.99


@pytest.mark.parametrize("modulations", [{}, {"ogm": {"alpha": 0.8}}, BOTH], ids=["none", "ogm", "opm+ogm_ge"])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_accumulation_gives_the_update_of_the_big_batch(training_args, modulations, batch):
    dataset = tiny_dataset(dtype=torch.float64)

    def run(size):
        args = training_args(
            modulations=modulations, per_device_train_batch_size=size, gradient_accumulation_steps=8 // size
        )
        return train(args, tiny_model(dtype=torch.float64), dataset)

    big, accumulated = run(8), run(batch)
    assert_close_weights(big, accumulated, atol=1e-10, rtol=0)
    for first, second in zip(big.state.log_history, accumulated.state.log_history, strict=True):
        for key in first:
            if key.startswith(("balance/", "ogm/", "opm/", "unimodal/")):
                assert first[key] == pytest.approx(second[key], abs=1e-6), key


def test_accumulation_with_a_model_that_takes_loss_keywords(training_args):
    """Its loss is a mean over the micro-batch all the same, which the Trainer alone would not divide."""

    class Own(MultimodalForClassification):
        accepts_loss_kwargs = True

        def forward(self, num_items_in_batch=None, **inputs):
            return super().forward(**inputs)

    def run(size):
        torch.manual_seed(0)
        args = training_args(per_device_train_batch_size=size, gradient_accumulation_steps=8 // size)
        return train(args, Own(tiny_config()).double(), tiny_dataset(dtype=torch.float64))

    assert_close_weights(run(8), run(2), atol=1e-10, rtol=0)


def test_ogm_scales_the_first_update_of_the_dominant_encoder_only(training_args):
    """One SGD step moves a parameter in proportion to its gradient."""
    options = {"max_steps": 1, "logging_steps": 1, "max_grad_norm": 0}
    plain = train(training_args(**options), tiny_model(dtype=torch.float64), tiny_dataset(dtype=torch.float64))
    ogm = train(
        training_args(modulations={"ogm": {"alpha": 0.8}}, **options),
        tiny_model(dtype=torch.float64),
        tiny_dataset(dtype=torch.float64),
    )
    logs = ogm.state.log_history[0]
    coefficients = {m: logs[f"ogm/coefficient_{m}"] for m in ("audio", "visual")}
    assert sorted(k < 1 for k in coefficients.values()) == [False, True]
    for name, start in tiny_model(dtype=torch.float64).named_parameters():
        expected = coefficients[name.split(".")[1]] if name.startswith("encoders") else 1
        moved, full = ogm.model.get_parameter(name) - start, plain.model.get_parameter(name) - start
        torch.testing.assert_close(moved, expected * full, atol=1e-8, rtol=1e-6)


def test_rescoring_after_the_drops_of_opm(training_args):
    """k of every step, computed from what the micro-batches' forward passes kept."""
    args = training_args(
        modulations={"opm": {"q_base": 0.6}, "ogm": {"alpha": 0.8, "rescore_after_drop": True}},
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_steps=5,
        logging_steps=1,
    )
    trainer = MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset())
    compute_loss, seen = trainer.compute_loss, []

    def recording(model, inputs, return_outputs=False, **options):
        loss, outputs = compute_loss(model, inputs, return_outputs=True, **options)
        seen.append((outputs["unimodal_logits"], outputs["keep_mask"], inputs["labels"]))
        return (loss, outputs) if return_outputs else loss

    trainer.compute_loss = recording
    trainer.train()
    dropped = 0
    for step in range(5):
        scores = {"audio": 0.0, "visual": 0.0}
        for logits, keep, labels in seen[2 * step : 2 * step + 2]:
            dropped += (~keep).sum().item()
            for column, m in enumerate(scores):
                for row, label in enumerate(labels):
                    scores[m] += torch.softmax(logits[m][row], 0)[label].item() * keep[row, column].item()
        for m, other in (("audio", "visual"), ("visual", "audio")):
            ratio = scores[m] / scores[other]
            expected = 1 - 0.8 * math.tanh(ratio - 1) if ratio > 1 else 1
            assert trainer.state.log_history[step][f"ogm/coefficient_{m}"] == pytest.approx(expected, abs=1e-5)
    assert dropped > 0


def test_clipping_sees_the_modulated_gradients(training_args):
    norms = {}
    for name, modulations in (("plain", {}), ("ogm", {"ogm": {"alpha": 0.8}})):
        trainer = train(training_args(modulations=modulations, max_steps=6, logging_steps=6, learning_rate=1e-9))
        norms[name] = trainer.state.log_history[0]["grad_norm"]
    assert norms["ogm"] < norms["plain"]


def test_evaluation_is_not_modulated(training_args):
    dataset = tiny_dataset()
    trainer = train(
        training_args(modulations={"opm": {"q_base": 0.9, "lam": 1.0}}), eval_dataset=dataset, dataset=dataset
    )
    ratios = trainer.monitor.ratios
    predictions, unimodal, keep = trainer.predict(dataset).predictions
    assert keep.all()
    with torch.no_grad():
        expected = trainer.model.eval()(audio=dataset["audio"][:], visual=dataset["visual"][:])
    torch.testing.assert_close(torch.tensor(predictions), expected.logits)
    torch.testing.assert_close(torch.tensor(unimodal["audio"]), expected.unimodal_logits["audio"])
    assert trainer.monitor.ratios is ratios  # evaluation does not move the ratios


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resuming_is_bitwise(training_args, tmp_path, accumulation):
    options = {
        "modulations": BOTH,
        "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": 4,
        "logging_steps": 3,
        "max_steps": 10,
        "lr_scheduler_type": "cosine",
    }
    whole = train(training_args(output_dir=str(tmp_path / "whole"), **options))
    train(training_args(output_dir=str(tmp_path / "cut"), save_strategy="steps", save_steps=5, **options))
    checkpoint = tmp_path / "cut" / "checkpoint-5"
    assert (checkpoint / MODULATION_STATE_NAME).is_file()
    resumed = train(
        training_args(output_dir=str(tmp_path / "cut"), **options), tiny_model(seed=9), resume=str(checkpoint)
    )
    assert_equal_weights(whole, resumed)
    for first, second in zip(whole.state.log_history, resumed.state.log_history, strict=True):
        keys = [key for key in first if "/" in key or key in ("grad_norm", "learning_rate", "epoch", "step")]
        assert {key: first[key] for key in keys} == {key: second[key] for key in keys}  # means over the cut included
    assert torch.equal(whole.monitor.ratios, resumed.monitor.ratios)


def test_a_checkpoint_without_modulation_state_loads_with_a_warning(training_args, tmp_path):
    train(training_args(save_strategy="steps", save_steps=4))
    checkpoint = tmp_path / "run" / "checkpoint-4"
    for name in (MODULATION_STATE_NAME, MANIFEST_NAME):  # as an earlier version left it
        (checkpoint / name).unlink()
    with pytest.warns(UserWarning, match="modulation_state.pt is missing"):
        train(training_args(), resume=str(checkpoint))


def test_training_again_starts_anew(training_args):
    """A second `train()` logs what a fresh trainer that starts from the same weights logs."""
    options = {"modulations": BOTH, "max_steps": 5, "logging_steps": 4, "train_sampling_strategy": "sequential"}
    trainer = train(training_args(**options))  # its last step stays unlogged
    fresh = tiny_model()
    fresh.load_state_dict(trainer.model.state_dict())
    trainer.optimizer = None
    trainer.train()
    expected = train(training_args(**options), fresh)
    for key, value in expected.state.log_history[0].items():
        if "/" in key:
            assert trainer.state.log_history[0][key] == value, key


def test_active_window_in_epochs(training_args):
    """32 samples in batches of 8 are 4 steps an epoch: epoch 0 is warm-up."""
    history = train(
        training_args(modulations={"ogm": {"start": 1, "end": 2}}, max_steps=12, logging_steps=4)
    ).state.log_history
    assert ["ogm/coefficient_audio" in entry for entry in history[:3]] == [False, True, False]


def test_modulation_objects_take_precedence(training_args):
    trainer = MultimodalBalancedTrainer(
        tiny_model(), training_args(modulations={"ogm": {}}), modulations=[OPM(q_base=0.3)]
    )
    assert [m.name for m in trainer.modulation.modulations] == ["opm"]


@pytest.mark.parametrize("modalities", [("audio",), ("audio", "visual"), ("audio", "visual", "text")])
def test_every_parameter_moves(training_args, modalities):
    model = tiny_model(modalities)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(training_args(modulations=BOTH), model, tiny_dataset(modalities))
    for name, parameter in model.named_parameters():
        assert not torch.equal(before[name], parameter), name
        assert torch.isfinite(parameter).all()


@pytest.mark.parametrize("optim", ["adamw_torch", "adagrad", "rmsprop", "adafactor"])
def test_optimizers_that_ignore_the_scale_warn_once(training_args, optim):
    args = training_args(modulations={"ogm": {}}, optim=optim, optim_args=None)
    trainer = MultimodalBalancedTrainer(tiny_model(), args)
    with pytest.warns(UserWarning, match="optim: sgd") as record:
        trainer.create_optimizer()
    assert len([w for w in record if "optim: sgd" in str(w.message)]) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("modulations", "optim"), [({"ogm": {}}, "sgd"), ({"opm": {}}, "adamw_torch")])
def test_no_warning_where_the_scale_counts_or_is_not_used(training_args, modulations, optim):
    args = training_args(modulations=modulations, optim=optim, optim_args=None)
    MultimodalBalancedTrainer(tiny_model(), args).create_optimizer()


@pytest.mark.parametrize(
    ("options", "logs"), [({}, 20), ({"max_steps": 7}, 7), ({"logging_steps": 10}, 4), ({"logging_strategy": "no"}, 0)]
)
def test_a_short_training_logs_its_balance_unless_told_otherwise(training_args, options, logs):
    options = {"logging_steps": 500, "max_steps": 40, **options}  # 500 is the Trainer's default
    history = train(training_args(modulations={}, **options)).state.log_history
    assert len([entry for entry in history if "balance/ratio_audio" in entry]) == logs


@pytest.mark.parametrize("accumulation", [1, 2])
def test_label_smoothing_and_an_own_loss_are_those_of_the_plain_trainer(training_args, accumulation):
    def loss(outputs, labels, num_items_in_batch=None):
        return nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch

    for arguments, options in (({"label_smoothing_factor": 0.2}, {}), ({}, {"compute_loss_func": loss})):
        arguments["gradient_accumulation_steps"] = accumulation
        ours = train(training_args(modulations={}, **arguments), **options)
        plain = train(training_args(**arguments), trainer_class=Trainer, **options)
        assert_equal_weights(ours, plain)


def test_label_smoothing_keeps_the_modulations_informed(training_args):
    options = {"modulations": {"opm": {"timing": "current", "q_base": 0.9}}, "label_smoothing_factor": 0.1}
    history = train(training_args(**options)).state.log_history
    assert max(history[0][f"opm/drop_probability_{m}"] for m in ("audio", "visual")) > 0.4


def test_bf16_autocast(training_args):
    history = train(training_args(modulations=BOTH, bf16=True)).state.log_history
    assert all(math.isfinite(entry["loss"]) for entry in history if "loss" in entry)


def test_missing_modality_samples_train(training_args):
    dataset = tiny_dataset()

    def collate(rows):
        batch = {key: torch.stack([torch.as_tensor(row[key]) for row in rows]) for key in rows[0]}
        mask = torch.ones(len(rows), 2, dtype=torch.bool)
        mask[::2, 0] = False
        return {**batch, "modality_mask": mask}

    trainer = train(training_args(modulations=BOTH), dataset=dataset, data_collator=collate)
    assert torch.isfinite(trainer.monitor.ratios).all()


@pytest.mark.parametrize("streamed", [False, True])
def test_workers_fill_a_modality_that_their_first_batch_lacks(training_args, streamed):
    """Of two workers, the second evaluates a batch without any audio."""
    dataset = tiny_dataset(samples=4)
    absent = dataset.map(lambda row, index: {"audio": None if index > 1 else row["audio"]}, with_indices=True)
    trainer = MultimodalBalancedTrainer(
        tiny_model(),
        training_args(per_device_eval_batch_size=2, dataloader_num_workers=2),
        train_dataset=dataset.with_format("torch").to_iterable_dataset() if streamed else dataset,
        data_collator=MultimodalDataCollator(["audio", "visual"]),
    )
    assert math.isfinite(trainer.evaluate(absent)["eval_loss"])


def test_a_modality_of_none_counts_in_no_score(training_args):
    """A batch without any visual input: its ratio is 1 and audio is not held back."""

    def collate(rows):
        batch = {key: torch.stack([torch.as_tensor(row[key]) for row in rows]) for key in rows[0]}
        return {**batch, "visual": None}

    trainer = train(training_args(modulations=BOTH, max_steps=2, logging_steps=2), data_collator=collate)
    assert trainer.monitor.observed.tolist() == [True, False]
    assert trainer.monitor.ratios.tolist() == [1.0, 1.0]
    logs = trainer.state.log_history[0]
    assert logs["ogm/coefficient_audio"] == 1 and logs["opm/drop_probability_audio"] == 0


@pytest.mark.parametrize(
    ("modulations", "std_calls"),
    [({"opm": {}, "ogm": {}}, 0), ({"opm": {"preset": "released", "start": 0}}, 0), (BOTH, 8 * 4)],
    ids=["opm+ogm", "released", "ogm_ge"],
)
def test_no_host_sync_between_logging_steps(training_args, modulations, std_calls):
    """`.item()` and friends are `_local_scalar_dense`; the Trainer's own are the same in both trainers.

    `torch.std` reads one scalar inside its CPU kernel (not on a GPU): once per encoder parameter and step.
    """
    from torch.profiler import ProfilerActivity, profile

    def count(trainer_class, **options):
        with profile(activities=[ProfilerActivity.CPU]) as record:
            train(training_args(logging_steps=100, **options), trainer_class=trainer_class)
        return sum(event.count for event in record.key_averages() if "_local_scalar_dense" in event.key)

    assert count(MultimodalBalancedTrainer, modulations=modulations) <= count(Trainer) + std_calls


def test_an_interrupted_accumulation_does_not_leak_into_the_next_training(training_args):
    args = training_args(
        modulations=BOTH,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=4,
        train_sampling_strategy="sequential",
    )
    trainer = MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset())
    step, calls = trainer.training_step, []

    def interrupted(*arguments, **options):
        calls.append(None)
        result = step(*arguments, **options)
        if len(calls) == 3:  # the first half of the second optimizer step
            raise KeyboardInterrupt
        return result

    trainer.training_step = interrupted
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.model.load_state_dict(tiny_model().state_dict())
    trainer.model.zero_grad()
    trainer.optimizer = None
    trainer.train()
    assert_equal_weights(trainer, train(args))


def test_plain_training_arguments_keep_the_modalities(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, max_steps=2, optim="sgd", disable_tqdm=True)
    dataset = tiny_dataset().add_column("speaker", list(range(32)))
    trainer = train(args, dataset=dataset, modulations=[OPM()])
    assert torch.isfinite(trainer.monitor.ratios).all()


def test_a_batch_without_labels_says_so(training_args):
    def collate(rows):
        return {name: torch.stack([row[name] for row in rows]) for name in ("audio", "visual")}

    with pytest.raises(ValueError, match=r"needs `labels`, found \['audio', 'visual'\]"):
        train(training_args(), data_collator=collate)


def test_shared_encoders_cannot_have_their_gradients_modulated(training_args):
    model = MultimodalForClassification(tiny_config())
    model.encoders["visual"] = model.encoders["audio"]
    with pytest.raises(ValueError, match="share parameters"):
        MultimodalBalancedTrainer(model, training_args(), modulations=[OGM()])
    MultimodalBalancedTrainer(model, training_args(), modulations=[OPM()])
