from __future__ import annotations

import math
import re
from typing import ClassVar

import pytest
import torch
from accelerate.state import GradientState
from tiny import tiny_dataset, tiny_model
from torch import nn
from torch.utils.data import Dataset, IterableDataset
from transformers import TrainingArguments

from hf_bml import Modulation, MultimodalBalancedTrainer, MultimodalForClassification


def joint_loss(output, labels):
    return nn.functional.cross_entropy(output["logits"], labels, reduction="none"), torch.ones_like(labels).bool()


def audio_loss(output, labels):
    mask = output.get("modality_mask")
    counts = torch.ones_like(labels).bool() if mask is None else mask[:, 0]
    return nn.functional.cross_entropy(output["auxiliary_logits"]["audio"], labels, reduction="none"), counts


class Curious(Modulation):
    """Trains copies at some steps and does nothing with what it finds."""

    name = "curious"
    phase = "freeze"

    def __init__(self, steps=(), epochs=1.0, losses=None):
        super().__init__()
        self.steps, self.epochs = steps, epochs
        self.losses = losses or [{"joint": joint_loss}]
        self.found = []

    @property
    def held_out_fraction(self):
        return 0.25

    def attach(self, run):
        self.run = run

    def begin_step(self, step):
        if step.step in self.steps:
            self.found.append(self.run.train_copies(self.losses, self.epochs))


def train(args, modulation, model=None, dataset=None, **options):
    model = model if model is not None else tiny_model(auxiliary_loss_weight=0.0, head_dropout=0.3)
    trainer = MultimodalBalancedTrainer(
        model, args, modulations=[modulation], train_dataset=dataset or tiny_dataset(samples=44), **options
    )
    trainer.train()
    return trainer


class Counting(MultimodalForClassification):
    """Notes for every pass whether it was one of training."""

    passes: ClassVar[list[bool]]

    def forward(self, *arguments, **options):
        self.passes.append(self.training)
        return super().forward(*arguments, **options)


def counting_model():
    model = tiny_model(auxiliary_loss_weight=0.0)
    model.__class__, Counting.passes = Counting, []
    return model


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_run_does_not_notice(training_args, accumulation):
    """Bitwise, with random sampling and dropout, with momentum, a schedule and gradient accumulation."""
    options = {
        "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": 8 // accumulation,
        "lr_scheduler_type": "cosine",
        "max_steps": 9,
    }
    watched = train(training_args(**options), Curious(steps=(0, 3, 6)))
    alone = train(training_args(**options), Curious())
    assert len(watched.modulation.modulations[0].found) == 3
    for name, parameter in watched.model.named_parameters():
        assert torch.equal(parameter, alone.model.get_parameter(name)), name
    for first, second in zip(watched.state.log_history, alone.state.log_history, strict=True):
        keys = [key for key in first if "/" in key or key in ("loss", "grad_norm", "learning_rate", "step")]
        assert {key: first[key] for key in keys} == {key: second[key] for key in keys}


def test_it_is_silent_and_leaves_no_file(training_args, tmp_path, capfd):
    train(training_args(disable_tqdm=False, logging_strategy="no"), Curious(steps=(0,)))
    printed = capfd.readouterr()
    assert printed.out.count("train_runtime") == 1
    assert {int(steps) for steps in re.findall(r"/(\d+) \[", printed.err)} == {8}  # the run's own bar
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_a_mid_step_call_keeps_the_synchronisation_of_gradients(training_args):
    """At the first of two micro-batches gradients are not synchronised, whatever the side training does."""

    class Checked(Curious):
        def begin_step(self, state):
            before = GradientState().sync_gradients
            super().begin_step(state)
            assert before is GradientState().sync_gradients is False

    args = training_args(gradient_accumulation_steps=2, per_device_train_batch_size=4, max_steps=3)
    train(args, Checked(steps=(0, 1)), dataset=tiny_dataset(samples=64))


def test_losses_are_means_over_the_samples_that_count(training_args):
    """Batches of 8 do not divide the splits, the last is dropped in training, and samples lack audio."""
    dataset = tiny_dataset(samples=44)
    lacks_audio = set(range(1, 44, 3))
    dataset = dataset.add_column("row", list(range(44)))

    def collate(rows):
        batch = {key: torch.stack([torch.as_tensor(row[key]) for row in rows]) for key in rows[0] if key != "row"}
        mask = torch.tensor([[int(row["row"]) not in lacks_audio, True] for row in rows])
        return {**batch, "modality_mask": mask}

    args = training_args(dataloader_drop_last=True, max_steps=5)
    curious = Curious(steps=(0,), losses=[{"audio": audio_loss, "joint": joint_loss}])
    model = tiny_model(auxiliary_loss_weight=0.0)
    trainer = train(args, curious, model, dataset, data_collator=collate)
    (found,) = curious.found
    start = tiny_model(auxiliary_loss_weight=0.0).eval()
    for split, rows in (("train", trainer.train_dataset), ("held_out", trainer.held_out_dataset)):
        batch = collate([rows[index] for index in range(len(rows))])
        labels = batch.pop("labels")
        with torch.no_grad():
            output = start(**batch)
        values, counts = audio_loss(output, labels)
        assert 0 < counts.sum() < len(labels)
        expected = values[counts].mean().item()
        assert getattr(found["audio"], f"{split}_before") == pytest.approx(expected, rel=1e-6)
        assert getattr(found["joint"], f"{split}_before") == pytest.approx(joint_loss(output, labels)[0].mean().item())
        for name in found:
            assert getattr(found[name], f"{split}_after") < getattr(found[name], f"{split}_before")


def test_one_copy_with_two_losses_learns_what_two_copies_learn(training_args):
    """Separate encoders and heads: no loss touches what the other one trains."""

    def visual_loss(output, labels):
        return nn.functional.cross_entropy(output["auxiliary_logits"]["visual"], labels, reduction="none"), labels >= 0

    found = []
    for losses in ([{"audio": audio_loss, "visual": visual_loss}], [{"audio": audio_loss}, {"visual": visual_loss}]):
        curious = Curious(steps=(0,), losses=losses, epochs=3)
        train(training_args(max_grad_norm=0, max_steps=15), curious, tiny_model(auxiliary_loss_weight=0.0))
        found += curious.found
    assert found[0] == found[1]
    assert found[0]["audio"].train_after != found[0]["visual"].train_after


def test_passes_over_the_data(training_args):
    """Two copies: one pass per split before, and one per split and copy after; the optimizer's steps beside."""
    curious = Curious(steps=(0,), losses=[{"audio": audio_loss}, {"joint": joint_loss}])
    train(training_args(max_steps=5, per_device_eval_batch_size=64), curious, counting_model())
    assert Counting.passes.count(False) == 2 * (1 + 2)
    assert Counting.passes.count(True) == 5 + 2 * math.ceil(33 / 8)


def test_no_copy_is_trained_beyond_the_end_of_the_run(training_args):
    """A cosine would rise again. Two steps are left."""
    args = training_args(max_steps=8, lr_scheduler_type="cosine")
    train(args, Curious(steps=(6,), epochs=50), counting_model())
    assert Counting.passes.count(True) == 8 + 2


def test_the_learning_rate_is_the_runs(training_args):
    """A copy of the whole run's length ends where plain training ends, the schedule included."""
    curious = Curious(steps=(0,), epochs=None)
    args = training_args(lr_scheduler_type="linear", warmup_steps=3, max_steps=12)
    trainer = train(args, curious, tiny_model(auxiliary_loss_weight=0.0))
    rows = trainer.train_dataset[:]
    with torch.no_grad():
        logits = trainer.model.eval()(audio=rows["audio"], visual=rows["visual"]).logits
    expected = nn.functional.cross_entropy(logits, rows["labels"]).item()
    assert curious.found[0]["joint"].train_after == pytest.approx(expected, rel=1e-6)


def test_bf16_autocast(training_args):
    curious = Curious(steps=(0, 2))
    train(training_args(bf16=True, max_steps=4), curious)
    assert all(math.isfinite(found["joint"].held_out_after) for found in curious.found)


def test_plain_arguments_that_remove_columns(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, max_steps=2, optim="sgd", disable_tqdm=True)
    dataset = tiny_dataset(samples=44).add_column("speaker", ["x"] * 44)
    train(args, Curious(steps=(0,)), dataset=dataset)


def test_evaluation_data_is_never_touched(training_args):
    class Forbidden(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            raise AssertionError("the evaluation split was read")

    train(training_args(), Curious(steps=(0,)), eval_dataset=Forbidden())


def test_an_optimizer_of_its_own(training_args):
    model = tiny_model(auxiliary_loss_weight=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for optimizers in ((optimizer, scheduler), (optimizer, None)):
        with pytest.raises(ValueError, match=r"\['curious'\] train copies .* Pass optimizer_cls_and_kwargs"):
            MultimodalBalancedTrainer(model, training_args(), modulations=[Curious()], optimizers=optimizers)


def test_an_optimizer_class_of_its_own(training_args):
    """The copies learn with it, too."""
    found = []
    for options in ({"optim": "sgd", "learning_rate": 0.02}, {"optim": "adamw_torch"}):
        given = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9})}
        watched = Curious(steps=(0,))
        train(training_args(**options), watched, **(given if options["optim"] != "sgd" else {}))
        found.append(watched.found)
    assert found[0] == found[1]


def test_a_training_split_that_comes_later(training_args):
    """Each training holds its part out of the whole split."""
    curious = Curious(steps=(0,))
    trainer = MultimodalBalancedTrainer(tiny_model(), training_args(), modulations=[curious])
    trainer.train_dataset = tiny_dataset(samples=44)
    for _ in range(2):
        trainer.train()
        assert (len(trainer.train_dataset), len(trainer.held_out_dataset)) == (33, 11)
    assert len(curious.found) == 2


def test_copies_without_a_held_out_part(training_args, monkeypatch):
    monkeypatch.setattr(Curious, "held_out_fraction", 0.0)
    with pytest.raises(ValueError, match=r"needs a held-out part of the training split: .*held_out_fraction above 0"):
        train(training_args(), Curious(steps=(0,)))


def test_a_stream_has_no_part_to_hold_out(training_args):
    class Stream(IterableDataset):
        def __iter__(self):
            yield {}

    with pytest.raises(ValueError, match=r"found Stream\. Load the data without streaming"):
        MultimodalBalancedTrainer(tiny_model(), training_args(), modulations=[Curious()], train_dataset=Stream())
    stream = tiny_dataset().with_format(None).to_iterable_dataset()
    with pytest.raises(
        ValueError,
        match=r"curious holds 25% of the training split out, but the split is streamed\. Load the data without",
    ):
        MultimodalBalancedTrainer(tiny_model(), training_args(), modulations=[Curious()], train_dataset=stream)
