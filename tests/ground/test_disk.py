"""A full, read-only or failing disk, as Python, safetensors and torch tell of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from tiny import tiny_dataset, tiny_model
from transformers import TrainerState, modeling_utils

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer
from hf_bml.ground import disk
from hf_bml.ground.disk import DiskError, check_writable, disk_errors_named
from hf_bml.training.checkpoint import newest_complete_checkpoint

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# What torch.save raises on a full disk, for large and for small files.
FROM_TORCH = (
    "basic_ios::clear: iostream error",
    "[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598",
)
WRITERS = {  # who writes which file of a checkpoint
    "model.safetensors": (modeling_utils, "safe_save_file", lambda tensors, path, **_: path),
    "optimizer.pt": (torch, "save", lambda obj, path, *_: path),
    "rng_state.pth": (torch, "save", lambda obj, path, *_: path),
    "log_state.pt": (torch, "save", lambda obj, path, *_: path),
    "checkpoint_manifest.json": (Path, "write_text", lambda path, *_, **__: path),
    "trainer_state.json": (TrainerState, "save_to_json", lambda state, path: path),
}


def make(training_args):
    args = training_args(save_strategy="steps", save_steps=2, max_steps=6, save_total_limit=1)
    return MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset())


def fail_writing(monkeypatch, name: str, number: int) -> None:
    """The file `name` of checkpoint-4 is half written when the system refuses more, with the writer's own error."""
    owner, function, path_of = WRITERS[name]
    original = getattr(owner, function)

    def writing(*args, **kwargs):
        path = Path(path_of(*args, **kwargs))
        if path.name != name or path.parent.name != "checkpoint-4":
            return original(*args, **kwargs)
        path.write_bytes(b"half")
        monkeypatch.setattr(disk, "writing_refused", lambda folder: OSError(number, os.strerror(number)))
        if owner is torch:
            raise RuntimeError(FROM_TORCH[name == "optimizer.pt"])
        if owner is modeling_utils:
            raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(owner, function, writing)


@pytest.mark.parametrize(
    ("name", "number"),
    [*[(name, errno.ENOSPC) for name in WRITERS], ("model.safetensors", errno.EDQUOT), ("optimizer.pt", errno.EIO)],
)
def test_a_save_that_fails_names_the_disk_and_keeps_the_older_checkpoint(
    training_args, tmp_path, monkeypatch, name, number
):
    with monkeypatch.context() as patch:
        fail_writing(patch, name, number)
        with pytest.raises(DiskError, match="checkpoint-4 is not complete; earlier checkpoints are kept") as raised:
            make(training_args).train()
    assert str(raised.value).startswith(f"cannot write to '{tmp_path / 'run'}")
    assert os.strerror(number) in str(raised.value) and "\n" not in str(raised.value)
    with pytest.warns(UserWarning, match="skipped: checkpoint-4"):
        assert newest_complete_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "checkpoint-2")
        trainer = make(training_args)
        trainer.train(resume_from_checkpoint="auto")
    assert trainer.state.global_step == 6
    assert [folder.name for folder in (tmp_path / "run").iterdir()] == ["checkpoint-6"]


def test_saving_the_final_model_names_the_disk(training_args, tmp_path, monkeypatch):
    trainer = make(training_args)
    monkeypatch.setattr(trainer, "_save", lambda *_: (_ for _ in ()).throw(FULL))
    with pytest.raises(DiskError, match=rf"^cannot write to '{tmp_path}/run': No space left on device\. Make room\.$"):
        trainer.save_model()


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(training_args, tmp_path, monkeypatch):
    """Root may write anywhere, so the system's refusal is simulated; nothing is moved, either."""
    trainer = make(training_args)
    (tmp_path / "run" / "checkpoint-1").mkdir()

    def refuse(**options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{options['dir']}/.writable")

    monkeypatch.setattr(disk.tempfile, "mkstemp", refuse)
    with pytest.raises(DiskError, match=r"run': Permission denied\. Choose a folder that can be written"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-1"]


def test_an_output_dir_that_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link").symlink_to(tmp_path)
    for name, found in (("file", "a file"), ("file/run", "a file"), ("lost", "a link to nothing")):
        with pytest.raises(ValueError, match=rf"^output_dir '.*{name}': '.*' is {found}; expected a folder\.$"):
            BalancedTrainingArguments(str(tmp_path / name))
    for name in ("link", "link/new", "new/er"):
        BalancedTrainingArguments(str(tmp_path / name))


def test_a_writable_folder_is_left_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("CUDA"), FileNotFoundError(errno.ENOENT, "no", "data")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as raised, disk_errors_named("folder"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("entries", [1, 10**6])
def test_what_torch_raises_is_known(monkeypatch, entries):
    """On a device that is always full; a small file beside it would be accepted."""
    if not Path("/dev/full").is_char_device():
        pytest.skip("this system has no device that is always full")
    monkeypatch.setattr(disk, "writing_refused", lambda folder: FULL)
    with pytest.raises(DiskError, match="No space left"), disk_errors_named("/dev"):
        torch.save(torch.zeros(entries), "/dev/full")


def test_what_an_error_was_raised_from_counts():
    text = r"^cannot write to 'here': No space left on device\. All is kept\. Make room\.$"
    with pytest.raises(DiskError, match=text), disk_errors_named("here", "All is kept."):
        raise ValueError("not saved") from FULL
    with pytest.raises(DiskError, match=r"^cannot write to '/a/b': "), disk_errors_named("here"):
        raise OSError(errno.EROFS, "read-only", "/a/b")
