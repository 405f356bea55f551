from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from datasets import DatasetDict
from tiny import tiny_dataset, tiny_model
from transformers import Trainer

from hf_bml import MultimodalBalancedTrainer
from hf_bml.processing import MultimodalProcessor
from hf_bml.training.checkpoint import is_complete, seal_checkpoint
from hf_bml.training.epochs import rows_of
from hf_bml.training.resumable import LOG_STATE_NAME
from hf_bml.training.seeded_rows import SeededRows


def make(args, trainer_class=MultimodalBalancedTrainer):
    return trainer_class(tiny_model(), args, train_dataset=tiny_dataset())


def losses(trainer):
    return {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}


@pytest.fixture
def args(training_args):
    """Six steps, saved after the second and the fourth, logged after the third and the sixth."""

    def make(**options):
        defaults = {"max_steps": 6, "logging_steps": 3, "save_strategy": "steps", "save_steps": 2}
        return training_args(**{**defaults, **options})

    return make


@pytest.fixture
def each_loss(args, tmp_path):
    """The loss of each step, from 1 on."""
    trainer = make(args(logging_steps=1, output_dir=str(tmp_path / "each")))
    trainer.train()
    return losses(trainer)


def test_the_newest_checkpoint_may_be_incomplete(args, tmp_path):
    make(args()).train()
    (tmp_path / "run" / "checkpoint-6" / "trainer_state.json").unlink()
    (tmp_path / "run" / "checkpoint-4" / "optimizer.pt").unlink()
    trainer = make(args())
    with pytest.warns(UserWarning, match=r"skipped: checkpoint-6 \(trai.*, checkpoint-4 \(opti.*; .* checkpoint-2"):
        trainer.train(resume_from_checkpoint=True)
    assert trainer.state.log_history[0]["step"] == 3  # after checkpoint-2
    make(args()).train(resume_from_checkpoint=True)  # both are complete again


def test_an_earlier_trainings_checkpoints_are_not_gone_on_from(args, tmp_path):
    make(args()).train()  # leaves checkpoint-6
    with pytest.warns(UserWarning, match="checkpoints of an earlier training"):
        make(args(max_steps=3)).train()  # leaves checkpoint-2 and 3
    trainer = make(args())
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 6
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [3, 6]
    assert (tmp_path / "run" / "earlier_training" / "checkpoint-6" / "trainer_state.json").is_file()


def test_without_a_complete_checkpoint_there_is_nothing_to_resume(args, tmp_path):
    with pytest.raises(ValueError, match=r"expected a complete checkpoint-STEP, found none in .*run\. Use .*=auto"):
        make(args()).train(resume_from_checkpoint=True)
    make(args(max_steps=2)).train()
    (tmp_path / "run" / "checkpoint-2" / "model.safetensors").unlink()
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(ValueError, match="found none"):
        make(args()).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match=r"checkpoint-2' is not a complete checkpoint: model\.safetensors"):
        make(args()).train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))


def test_auto_is_both_first_start_and_restart(args):
    """On `train` and in the arguments; `last` and the rest, too, may stand there."""
    trainer = make(args(max_steps=4, resume_from_checkpoint="auto"))
    trainer.train()
    assert trainer.state.log_history[0]["step"] == 3
    for options, value in (({"resume_from_checkpoint": "auto"}, None), ({}, "auto"), ({}, "last")):
        trainer = make(args(max_steps=6, **options))
        trainer.train(resume_from_checkpoint=value)
        assert trainer.state.log_history[-1]["step"] == 6
        assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [3, 6]
    with pytest.warns(UserWarning, match="of an earlier training"):
        make(args(resume_from_checkpoint="auto")).train(resume_from_checkpoint=False)


STATE_GARBAGE = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "modulation_state.pt", "log_state.pt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *[(name, None) for name in (*STATE_GARBAGE, "model.safetensors", "config.json")],
        *[("trainer_state.json", text) for text in ("{}", "[]", "null")],
        ("checkpoint_manifest.json", "[]"),
    ],
)
def test_garbage_falls_back_to_the_older_checkpoint_with_one_message(args, tmp_path, name, content):
    """By `auto`, `last` and True; a checkpoint that is named is refused."""
    make(args()).train()
    path = tmp_path / "run" / "checkpoint-6" / name
    path.write_bytes(b"\x00" * path.stat().st_size if content is None else content.encode())
    for value in ("auto", "last", True):
        with pytest.warns(UserWarning, match=rf"skipped: checkpoint-6 \({name} .*; .* is checkpoint-4\.$") as warned:
            trainer = make(args(save_strategy="no"))
            trainer.train(resume_from_checkpoint=value)
        assert len([w for w in warned if "skipped" in str(w.message)]) == 1
        assert losses(trainer).keys() == {3, 6}
    with pytest.raises(ValueError, match=rf"^resume_from_checkpoint: .*checkpoint-6' is not a complete .*: {name} "):
        make(args()).train(resume_from_checkpoint=str(path.parent))


def test_training_arguments_are_never_read_again(args, tmp_path):
    make(args()).train()
    (tmp_path / "run" / "checkpoint-6" / "training_args.bin").write_bytes(b"garbage")
    make(args(max_steps=7)).train(resume_from_checkpoint=True)


def test_nothing_of_earlier_trainings_is_deleted(args, tmp_path):
    """Three trainings that start anew in one folder, as a job that is requeued without the option."""
    weights = []
    for steps in (6, 4, 2):
        if weights:
            with pytest.warns(UserWarning, match="of an earlier training"):
                make(args(max_steps=steps)).train()
        else:
            make(args(max_steps=steps)).train()
        weights.append((tmp_path / "run" / f"checkpoint-{steps}" / "model.safetensors").read_bytes())
    places = ("earlier_training/checkpoint-6", "earlier_training_2/checkpoint-4", "checkpoint-2")
    assert [(tmp_path / "run" / place / "model.safetensors").read_bytes() for place in places] == weights
    assert all(is_complete(tmp_path / "run" / place) for place in places)


@pytest.mark.parametrize("value", [None, False])
def test_not_resuming(args, value):
    trainer = make(args())
    trainer.train(resume_from_checkpoint=value)
    assert list(losses(trainer)) == [3, 6]


def test_a_plain_trainers_checkpoint_loads_with_a_warning(args, each_loss):
    """Its loss of step 2 is not known, so the next logged loss is that of step 3 alone."""
    make(args(), Trainer).train()
    trainer = make(args())
    with pytest.warns(UserWarning, match=r"modulation_state\.pt is missing"):
        trainer.train(resume_from_checkpoint=str(Path(trainer.args.output_dir) / "checkpoint-2"))
    assert losses(trainer)[3] == pytest.approx(each_loss[3], abs=1e-6)


def test_losses_are_means_since_the_last_log_and_of_the_call(args, each_loss):
    trainer = make(args(logging_steps=5, save_steps=3))
    trainer.train()
    resumed = make(args(logging_steps=5, save_steps=3))
    output = resumed.train(resume_from_checkpoint=str(Path(trainer.args.output_dir) / "checkpoint-3"))
    expected = sum(each_loss[step] for step in (1, 2, 3, 4, 5)) / 5
    assert losses(resumed)[5] == losses(trainer)[5] == pytest.approx(expected, abs=1e-6)
    of_the_call = sum(each_loss[step] for step in (4, 5, 6)) / 3
    assert output.training_loss == pytest.approx(of_the_call, abs=1e-6)


def test_another_number_of_processes_goes_on_from_their_mean_loss(args, each_loss, tmp_path):
    make(args()).train()
    checkpoint = tmp_path / "run" / "checkpoint-4"
    state = torch.load(checkpoint / LOG_STATE_NAME, weights_only=True)
    assert state["last_logged_step"] == 3
    assert state["loss_sums"].tolist() == pytest.approx([each_loss[4]], abs=1e-6)
    torch.save({**state, "loss_sums": torch.tensor([1.0, 4.0])}, checkpoint / LOG_STATE_NAME)
    seal_checkpoint(checkpoint)
    resumed = make(args())
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert losses(resumed)[6] == pytest.approx((2.5 + each_loss[5] + each_loss[6]) / 3, abs=1e-6)


def test_a_checkpoint_replaces_what_lay_in_its_folder(args, tmp_path):
    folder = tmp_path / "run" / "checkpoint-2"
    folder.mkdir(parents=True)
    (folder / "rng_state_7.pth").write_bytes(b"half")
    make(args()).train()
    assert not (folder / "rng_state_7.pth").exists()


def test_an_older_checkpoint_is_deleted_only_when_the_new_one_is_complete(args, tmp_path, monkeypatch):
    seen = []
    rotate = transformers.trainer.rotate_checkpoints

    def watching(output_dir, **options):
        seen.append([is_complete(folder) for folder in sorted(Path(output_dir).iterdir())])
        rotate(output_dir, **options)

    monkeypatch.setattr(transformers.trainer, "rotate_checkpoints", watching)
    make(args(save_total_limit=1)).train()
    assert seen == [[True], [True, True], [True, True]]
    assert [folder.name for folder in (tmp_path / "run").iterdir()] == ["checkpoint-6"]


@pytest.mark.parametrize(("save_steps", "saved"), [(4, [4, 8]), (3, [3, 6, 8])])
def test_a_save_at_the_end_of_an_epoch_comes_after_its_log(training_args, tmp_path, save_steps, saved):
    """Four steps an epoch."""
    options = {"num_train_epochs": 2, "max_steps": -1, "logging_strategy": "epoch"}
    trainer = make(training_args(save_strategy="steps", save_steps=save_steps, **options))
    trainer.train()
    folders = sorted((tmp_path / "run").iterdir())
    assert [folder.name for folder in folders] == [f"checkpoint-{step}" for step in saved]
    for step, folder in zip(saved, folders, strict=True):
        assert len(json.loads((folder / "trainer_state.json").read_text())["log_history"]) == step // 4


def test_transformed_rows_are_seeded_for_training_only(args):
    dataset = tiny_dataset().with_transform(lambda rows: {**rows, "audio": torch.rand(len(rows["labels"]), 5)})
    trainer = MultimodalBalancedTrainer(tiny_model(), args(seed=5), train_dataset=dataset, eval_dataset=dataset)
    first, again = ([batch["audio"] for batch in trainer.get_train_dataloader()] for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    first, again = ([batch["audio"] for batch in trainer.get_eval_dataloader()] for _ in range(2))
    assert not any(torch.equal(*pair) for pair in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("options", "seeded"),
    [({}, False), ({"augment": {"feature_noise": {"scale": [0, 2]}}}, True)],
    ids=["fixed", "augmented"],
)
def test_rows_that_no_transform_draws_are_read_a_batch_at_once(args, options, seeded):
    """Reading row by row costs a small model a third of its step; what is augmented has to be."""
    rows = DatasetDict(train=tiny_dataset())
    processor = MultimodalProcessor(
        {"audio": {"type": "features", "input_size": 5, **options}, "visual": {"type": "features", "input_size": 7}}
    )
    trainer = MultimodalBalancedTrainer(tiny_model(), args(), train_dataset=processor.apply(rows)["train"])
    loader = trainer.get_train_dataloader()
    assert isinstance(rows_of(loader), SeededRows) is seeded
    audio = torch.cat([batch["audio"] for batch in loader])
    assert audio.shape == (len(rows["train"]), 5)


def test_augmentation_does_not_depend_on_the_batch_size(training_args):
    """The update of one big batch and of accumulated small ones, of augmented rows, in two epochs."""

    def augment(rows):
        return {
            name: column if name == "labels" else [torch.as_tensor(x) + torch.randn(len(x)).double() for x in column]
            for name, column in rows.items()
        }

    def train(batch):
        dataset = tiny_dataset(dtype=torch.float64).with_transform(augment)
        options = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 8 // batch}
        trainer = MultimodalBalancedTrainer(
            tiny_model(dtype=torch.float64), training_args(**options), train_dataset=dataset
        )
        trainer.train()
        return dict(trainer.model.named_parameters())

    big, small = train(8), train(2)
    for name, value in big.items():
        torch.testing.assert_close(value, small[name], atol=1e-10, rtol=0)
