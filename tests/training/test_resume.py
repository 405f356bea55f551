"""A training that is killed at any point and goes on from its newest complete checkpoint ends as if never stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import resume_worker
import torch
from resume_worker import run

pytestmark = pytest.mark.slow
WORKER = Path(resume_worker.__file__)
OF_THE_CALL = ("_runtime", "_per_second", "train_loss")  # log entries that tell of one call of train()


@pytest.fixture(scope="module", autouse=True)
def preloaded_server():
    """Processes are forked by a server that has imported all of this."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    resume_worker.CONTEXT.set_forkserver_preload(["resume_worker"])
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Outcomes of uninterrupted trainings, by number of processes and options."""
    outcomes = {}

    def whole(processes=1, **options):
        key = (processes, *sorted(options.items()))
        if key not in outcomes:
            outcomes[key] = run(tmp_path_factory.mktemp("whole"), processes, **options)
        return outcomes[key]

    return whole


def assert_same(first, second, where="outcome") -> None:
    """Bitwise equality of nested containers."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}[{key!r}]")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert first == second, where


def assert_same_outcomes(whole, resumed, start) -> None:
    """All but the log entries of one call; the logs of the main process, which alone keeps them."""
    assert [outcome["start"] for outcome in resumed] == [start] * len(whole)
    for first, second in zip(whole, resumed, strict=True):
        for key in ("weights", "optimizer", "random"):
            assert_same(first[key], second[key], key)
    assert_same(whole[0]["modulation"], resumed[0]["modulation"], "modulation")
    logs = [
        [{key: value for key, value in entry.items() if not key.endswith(OF_THE_CALL)} for entry in outcome["logs"]]
        for outcome in (whole[0], resumed[0])
    ]
    assert_same(*logs, "logs")


KILLS = {
    **{f"before the save of step {step}": (("step_end", step), (step - 1) // 3 * 3) for step in range(1, 19)},
    "inside the first accumulation after a save": (("substep_end", 9), 9),
    "inside a later accumulation": (("substep_end", 10), 9),
    **{
        f"while writing {name}": (("write", 9, name), 6)
        for name in (
            "model.safetensors",
            "training_args.bin",
            "optimizer.pt",
            "scheduler.pt",
            "modulation_state.pt",
            "rng_state.pth",
            "checkpoint_manifest.json",
            "trainer_state.json",
        )
    },
    "while deleting an older checkpoint": (("delete", 3, "*.pt"), 9),
}


@pytest.mark.parametrize(("kill", "start"), KILLS.values(), ids=KILLS)
def test_killed(tmp_path, whole, kill, start):
    assert run(tmp_path, kill=(0, *kill), save_total_limit=2) is None
    assert_same_outcomes(whole(), run(tmp_path, save_total_limit=2), start)


def test_killed_again_and_again(tmp_path, whole):
    """Also while the half-written folder of the process before is removed."""
    for kill in (("write", 6, "optimizer.pt"), ("delete", 6, "*"), ("substep_end", 8), ("write", 9, "rng_state.pth")):
        run(tmp_path, kill=(0, *kill), save_total_limit=1)
    run(tmp_path, kill=(0, "delete", 6, "[!ct]*"), save_total_limit=1)  # now as an older checkpoint
    run(tmp_path, kill=(0, "step_end", 17), save_total_limit=1)
    assert_same_outcomes(whole(), run(tmp_path, save_total_limit=1), 15)
    assert [folder.name for folder in (tmp_path / "run").iterdir()] == ["checkpoint-18"]


def test_killed_after_the_last_checkpoint(tmp_path, whole):
    """No step is taken beyond the last, although it lies inside an epoch."""
    run(tmp_path, kill=(0, "train_end", 18))
    [resumed] = run(tmp_path)
    resumed["random"] = whole()[0]["random"]  # nothing was drawn
    assert_same_outcomes(whole(), [resumed], 18)


@pytest.mark.parametrize(
    ("kill", "start"),
    [
        ((1, "step_end", 11), 9),
        ((0, "substep_end", 10), 9),
        ((0, "write", 9, "optimizer.pt"), 6),
        ((1, "write", 9, "rng_state_1.pth"), 6),
        ((0, "write", 9, "checkpoint_manifest.json"), 6),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_two_ranks_killed(tmp_path, whole, kill, start):
    run(tmp_path, 2, kill)
    assert_same_outcomes(whole(2), run(tmp_path, 2), start)


EPOCHS = {"logging_strategy": "epoch", "eval_strategy": "epoch", "max_steps": -1, "num_train_epochs": 3}


@pytest.mark.parametrize(
    ("kill", "start"), [(("substep_end", 7), 7), (("write", 14, "optimizer.pt"), 7), (("train_end", 21), 21)]
)
def test_logs_and_evaluations_at_the_end_of_an_epoch_are_kept(tmp_path, whole, kill, start):
    """Every seventh step is the last of an epoch; the evaluation draws from the random stream."""
    options = {**EPOCHS, "save_steps": 7}
    run(tmp_path, kill=(0, *kill), **options)
    outcomes = whole(**options)
    assert ["eval_loss" in entry for entry in outcomes[0]["logs"]].count(True) == 3
    resumed = run(tmp_path, **options)
    if start == 21:
        resumed[0]["random"] = outcomes[0]["random"]  # nothing was drawn
    assert_same_outcomes(outcomes, resumed, start)


def test_best_model(tmp_path, whole):
    options = {**EPOCHS, "save_strategy": "epoch", "load_best_model_at_end": True, "save_total_limit": 1}
    run(tmp_path, kill=(0, "step_end", 16), **options)
    assert_same_outcomes(whole(**options), run(tmp_path, **options), 14)


WORKERS = {"dataloader_num_workers": 2, "dataloader_multiprocessing_context": "fork"}


@pytest.mark.parametrize("options", [{}, WORKERS], ids=["no workers", "workers"])
def test_augmentation_and_workers(tmp_path, whole, options):
    """Rows are loaded ahead of the checkpoint, in this process or in others."""
    run(tmp_path, kill=(0, "step_end", 11), augment=True, **options)
    assert_same_outcomes(whole(augment=True), run(tmp_path, augment=True, **options), 9)


def test_augmentation_of_two_ranks(tmp_path, whole):
    run(tmp_path, 2, kill=(0, "step_end", 11), augment=True)
    assert_same_outcomes(whole(2, augment=True), run(tmp_path, 2, augment=True), 9)


@pytest.mark.parametrize(
    ("processes", "shards", "options"),
    [(1, 4, {"eval_strategy": "steps", "eval_steps": 4}), (1, 4, WORKERS), (2, 4, {}), (2, 3, WORKERS)],
)
def test_streams(tmp_path, whole, processes, shards, options):
    """The rows after the checkpoint are those of the uninterrupted training, in their order, over several passes."""
    run(tmp_path, processes, kill=(0, "step_end", 17), augment=True, shards=shards, **options)
    outcomes = whole(processes, augment=True, shards=shards, **options)
    resumed = run(tmp_path, processes, augment=True, shards=shards, **options)
    assert_same_outcomes(outcomes, resumed, 15)
    for first, second in zip(outcomes, resumed, strict=True):
        assert len(first["seen"]) == 18 * 8 // processes
        assert second["seen"] == first["seen"][-3 * 8 // processes :]


def test_torchrun_ends_the_other_rank(tmp_path, whole):
    """Rank 0 waits for the half-written file of rank 1, and writes nothing that would make the checkpoint complete."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(WORKER)]
    done = subprocess.run(
        [*command, str(tmp_path), "1", "write", "9", "rng_state_1.pth"],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode != 0 and "Signal 9 (SIGKILL)" in done.stderr, done.stderr[-4000:]
    names = {path.name for path in (tmp_path / "run" / "checkpoint-9").iterdir()}
    assert {"optimizer.pt", "rng_state_0.pth", "rng_state_1.pth"} < names
    assert not {"checkpoint_manifest.json", "trainer_state.json"} & names
    assert_same_outcomes(whole(2), run(tmp_path, 2), 6)
