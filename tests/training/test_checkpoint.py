from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_dataset, tiny_model
from transformers import Trainer

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer
from hf_bml.training.checkpoint import (
    MANIFEST_NAME,
    SET_ASIDE,
    check_checkpoint,
    find_damage,
    is_complete,
    newest_complete_checkpoint,
    remove_checkpoint,
    resume_request,
    seal_checkpoint,
    set_checkpoints_aside,
)


def save(folder, trainer_class, **options) -> Path:
    args = BalancedTrainingArguments(
        str(folder), use_cpu=True, max_steps=1, save_strategy="steps", disable_tqdm=True, optim="sgd", **options
    )
    trainer_class(tiny_model(), args, train_dataset=tiny_dataset()).train()
    return folder / "checkpoint-1"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    return save(tmp_path_factory.mktemp("sealed"), MultimodalBalancedTrainer)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save(tmp_path_factory.mktemp("plain"), Trainer)


def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SAVED = {
    "checkpoint_manifest.json",
    "config.json",
    "log_state.pt",
    "model.safetensors",
    "modulation_state.pt",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
    "training_args.bin",
}


def test_a_trainers_checkpoint_is_complete(sealed):
    assert {path.name for path in sealed.iterdir()} == SAVED
    unlisted = {MANIFEST_NAME, "training_args.bin"}
    assert set(json.loads((sealed / MANIFEST_NAME).read_text())) == SAVED - unlisted
    assert find_damage(sealed) == [] and is_complete(sealed)
    check_checkpoint(sealed)


@pytest.mark.parametrize("name", sorted(SAVED - {MANIFEST_NAME, "training_args.bin"}))
def test_each_missing_or_halved_file_is_found(sealed, tmp_path, name):
    halved = copy(sealed, tmp_path)
    size = (halved / name).stat().st_size
    halve(halved / name)
    assert f"{name} has {size // 2} bytes instead of {size}" in find_damage(halved)
    (halved / name).unlink()
    assert find_damage(halved) == [f"{name} is missing"]
    with pytest.raises(ValueError, match=f"not a complete checkpoint: {name} is missing.*delete its {MANIFEST_NAME}"):
        check_checkpoint(halved)


@pytest.mark.parametrize("name", sorted(SAVED - {MANIFEST_NAME, "training_args.bin"}))
def test_a_flipped_bit_is_found(sealed, tmp_path, name):
    """In a hundred places of each file, first and last byte included."""
    content = (copy(sealed, tmp_path) / name).read_bytes()
    path = tmp_path / "copy" / name
    for place in {*range(0, len(content), len(content) // 100 + 1), len(content) - 1}:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert f"{name} has changed since it was written" in find_damage(tmp_path / "copy")
    path.write_bytes(content)
    assert is_complete(tmp_path / "copy")


MANIFESTS = ("[]", "{}", "null", "3", '{"model.safetensors": null}', '{"a": {"size": "x"}}', '{"mod', "\x00\x01")


@pytest.mark.parametrize("content", MANIFESTS)
def test_a_damaged_manifest_is_found(sealed, tmp_path, content):
    damaged = copy(sealed, tmp_path)
    (damaged / MANIFEST_NAME).write_text(content)
    [damage] = find_damage(damaged)
    assert damage in (f"{MANIFEST_NAME} is damaged", f"{MANIFEST_NAME} lists no files")


@pytest.mark.parametrize("edition", ["sizes", "plain"])
@pytest.mark.parametrize("name", sorted(name for name in SAVED if name.endswith((".pt", ".pth"))))
def test_garbage_in_a_state_is_found_without_hashes(sealed, tmp_path, edition, name):
    """As in checkpoints of a plain Trainer, and with manifests that list sizes only, which stay accepted."""
    damaged = copy(sealed, tmp_path)
    manifest = damaged / MANIFEST_NAME
    if edition == "sizes":
        manifest.write_text(
            json.dumps({key: entry["size"] for key, entry in json.loads(manifest.read_text()).items()})
        )
    else:
        manifest.unlink()
    assert find_damage(damaged) == []
    size = (damaged / name).stat().st_size
    for garbage in (b"\x00" * size, b"garbage " * (size // 8) + b"garbage "[: size % 8]):
        (damaged / name).write_bytes(garbage)
        assert find_damage(damaged) == [f"{name} is damaged"]


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"global_step": null}', '{"global_step": 1, "x": 2}', '"a'])
def test_a_damaged_trainer_state_is_found(plain, tmp_path, content):
    damaged = copy(plain, tmp_path)
    (damaged / "trainer_state.json").write_text(content)
    assert find_damage(damaged) == ["trainer_state.json is damaged"]


def test_files_in_subfolders_are_listed(tmp_path):
    (tmp_path / "optimizer_0").mkdir()
    (tmp_path / "optimizer_0" / "__0_0.distcp").write_bytes(b"1234")
    seal_checkpoint(tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"global_step": 1}')
    assert is_complete(tmp_path)
    (tmp_path / "optimizer_0" / "__0_0.distcp").write_bytes(b"123")
    assert find_damage(tmp_path) == ["optimizer_0/__0_0.distcp has 3 bytes instead of 4"]


def test_a_plain_trainers_checkpoint_is_complete(plain):
    assert not (plain / MANIFEST_NAME).exists()
    assert find_damage(plain) == []


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("model.safetensors", "no weights"),
        ("optimizer.pt", "no optimizer state"),
        ("scheduler.pt", "no scheduler state"),
        ("trainer_state.json", "trainer_state.json is missing"),
    ],
)
def test_without_manifest_the_parts_are_checked(plain, tmp_path, name, missing):
    halved = copy(plain, tmp_path)
    halve(halved / name)
    assert find_damage(halved) == [f"{name} is damaged"]
    (halved / name).unlink()
    assert find_damage(halved) == [missing]


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_cut_anywhere_is_seen(plain, tmp_path, name, kept):
    cut = copy(plain, tmp_path)
    content = (cut / name).read_bytes()
    (cut / name).write_bytes(content[: int(kept * (len(content) - 2))])  # the last bytes of JSON are `}` and a newline
    assert find_damage(cut) == [f"{name} is damaged"]


def test_a_checkpoint_without_optimizer_is_none_to_go_on_from(tmp_path):
    folder = save(tmp_path, MultimodalBalancedTrainer, save_only_model=True)
    assert find_damage(folder) == ["no optimizer state", "no scheduler state"]
    with pytest.raises(ValueError, match="without save_only_model"):
        check_checkpoint(folder)


def test_weights_in_several_files(plain, tmp_path):
    folder = copy(plain, tmp_path)
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{index}-of-00002.safetensors" for index in (1, 2)]
    for name in names:
        save_file({name: torch.zeros(3)}, folder / name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {name: name for name in names}}))
    assert is_complete(folder)
    (folder / names[1]).unlink()
    assert find_damage(folder) == [f"{names[1]} is missing"]
    halve(index)
    assert find_damage(folder) == ["model.safetensors.index.json is damaged"]


@pytest.mark.parametrize(
    "files",
    [
        ["pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp", "scheduler.pt"],
        ["latest", "global_step7/mp_rank_00_model_states.pt"],
        ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt"],
    ],
    ids=["fsdp", "deepspeed", "peft"],
)
def test_sharded_and_adapter_checkpoints(plain, tmp_path, files):
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        source = plain / path.name.replace("adapter_", "")
        path.write_bytes(source.read_bytes() if source.exists() else b"1")
    assert find_damage(tmp_path) == ["trainer_state.json is missing"]
    shutil.copy(plain / "trainer_state.json", tmp_path)
    assert is_complete(tmp_path)


def test_no_folder(tmp_path):
    assert find_damage(tmp_path / "nowhere") == ["there is no such folder"]


def test_the_newest_complete_checkpoint(sealed, tmp_path):
    """By number, not by name or time; other folders and files do not count."""
    assert newest_complete_checkpoint(tmp_path / "nowhere") is None
    assert newest_complete_checkpoint(tmp_path) is None
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-100", "checkpoint-best", "checkpoint-11-old"):
        shutil.copytree(sealed, tmp_path / name)
    (tmp_path / "checkpoint-200").write_text("a file")
    (tmp_path / "checkpoint-100" / "optimizer.pt").unlink()
    (tmp_path / "checkpoint-12").mkdir()
    skipped = (
        r"skipped: checkpoint-100 \(optimizer\.pt is missing\), checkpoint-12 \(no weights.* and 1 more\); .*-10\."
    )
    with pytest.warns(UserWarning, match=skipped) as warned:
        assert newest_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert len(warned) == 1
    remove_checkpoint(tmp_path / "checkpoint-100")
    remove_checkpoint(tmp_path / "checkpoint-12")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert newest_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_removing_makes_incomplete_first(sealed, tmp_path, monkeypatch):
    folder = copy(sealed, tmp_path)
    monkeypatch.setattr(shutil, "rmtree", lambda path: None)  # cut off before its first file
    remove_checkpoint(folder)
    assert find_damage(folder) == ["trainer_state.json is missing"]
    monkeypatch.undo()
    remove_checkpoint(folder)
    assert not folder.exists()
    remove_checkpoint(folder)


def test_a_training_that_starts_anew_sets_earlier_checkpoints_aside(tmp_path):
    for step in (7, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-notes").mkdir()  # no checkpoint of a training
    with pytest.warns(UserWarning, match=r"held 2 checkpoints of an earlier training, .*earlier_training"):
        set_checkpoints_aside(tmp_path)
    assert {path.name for path in (tmp_path / SET_ASIDE).iterdir()} == {"checkpoint-7", "checkpoint-12"}
    assert {path.name for path in tmp_path.iterdir()} == {SET_ASIDE, "checkpoint-notes"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_checkpoints_aside(tmp_path)  # nothing to do, and what was set aside stays
    for number in (2, 3):
        (tmp_path / "checkpoint-7").mkdir()
        with pytest.warns(UserWarning, match=f"held 1 checkpoints.*earlier_training_{number}:"):
            set_checkpoints_aside(tmp_path)
        assert [path.name for path in (tmp_path / f"{SET_ASIDE}_{number}").iterdir()] == ["checkpoint-7"]
    assert len(list((tmp_path / SET_ASIDE).iterdir())) == 2


@pytest.mark.parametrize(
    ("value", "request_"),
    [(None, None), (False, None), ("off", None), (True, "last"), ("Last", "last"), ("AUTO", "auto"), ("a/b", "a/b")],
)
def test_what_resume_from_checkpoint_asks_for(value, request_):
    assert resume_request(value) == request_
