"""Trainings that test_resume.py kills and resumes, each in processes of its own.

The processes are forked by a server that has imported everything and trained nothing, so each starts in milliseconds.
Like a launcher, `run` ends the other processes when one dies.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import socket
import sys
from multiprocessing.connection import wait
from pathlib import Path

import datasets
import torch
from datasets import IterableDataset
from tiny import tiny_dataset, tiny_model
from transformers import TrainerCallback, TrainerState, modeling_utils

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer
from hf_bml.training.checkpoint import newest_complete_checkpoint

gc.freeze()  # a train() that collects garbage would copy the memory of the server
CONTEXT = multiprocessing.get_context("forkserver")
MODULATIONS = {"opm": {"q_base": 0.5, "lam": 0.5}, "ogm": {"alpha": 0.8, "noise": "entry_std"}}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillAt(TrainerCallback):
    """Ends the process at an event of the training (`step_end`, `substep_end`, `train_end`) once `step` is reached."""

    def __init__(self, event: str, step: int):
        setattr(self, f"on_{event}", lambda args, state, control, **_: die() if state.global_step == step else None)


def kill_while_writing(step: int, name: str) -> None:
    """Ends the process when half of the file `name` of `checkpoint-<step>` is written."""

    def check(path) -> None:
        path = Path(path)
        if path.name == name and path.parent.name == f"checkpoint-{step}":
            os.truncate(path, path.stat().st_size // 2)
            die()

    def patch(owner, function: str, path_of) -> None:
        original = getattr(owner, function)

        def writing(*args, **kwargs):
            result = original(*args, **kwargs)
            check(path_of(*args))
            return result

        setattr(owner, function, writing)

    patch(torch, "save", lambda obj, f, *_: f)
    patch(modeling_utils, "safe_save_file", lambda tensors, filename, *_: filename)
    patch(TrainerState, "save_to_json", lambda self, json_path: json_path)
    patch(Path, "write_text", lambda self, *_: self)


def kill_while_deleting(step: int, kept: str) -> None:
    """Ends the process when all files of `checkpoint-<step>` but those that match `kept` are deleted."""
    original = shutil.rmtree

    def rmtree(path, *args, **kwargs) -> None:
        if Path(path).name != f"checkpoint-{step}":
            return original(path, *args, **kwargs)
        for file in set(Path(path).iterdir()) - set(Path(path).glob(kept)):
            file.unlink()
        die()

    shutil.rmtree = rmtree


def tell_rank(rank: int, processes: int, port: int) -> None:
    """Sets what torchrun tells a process."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = (rank, rank, processes, processes, "127.0.0.1", port)
    os.environ.update({name: str(value) for name, value in zip(names, values, strict=True)})


def add_noise(rows: dict) -> dict:
    """Random augmentation, from the global torch stream."""
    return {
        name: column if name in ("labels", "number") else [torch.tensor(x) + 0.5 * torch.randn(len(x)) for x in column]
        for name, column in rows.items()
    }


def tiny_stream(samples: int, shards: int) -> IterableDataset:
    """The tiny dataset as a shuffled stream, whose rows have numbers."""
    rows = tiny_dataset(samples=samples)
    rows = rows.add_column("number", range(samples)).with_format("torch")
    return rows.to_iterable_dataset(num_shards=shards).shuffle(seed=0, buffer_size=8)


class NumberedTrainer(MultimodalBalancedTrainer):
    """Keeps the numbers of the rows that it trains on and predicts."""

    def __init__(self, *args, **kwargs):
        self.seen: list[int] = []
        self.predicted: list[list[int]] = []
        super().__init__(*args, **kwargs)

    def training_step(self, model, inputs, *args):
        self.seen += inputs.pop("number", torch.zeros(0)).tolist()
        return super().training_step(model, inputs, *args)

    def prediction_step(self, model, inputs, *args, **kwargs):
        numbers = self.gather_function(inputs.pop("number", torch.zeros(0)))
        self.predicted.append(numbers.tolist())
        return super().prediction_step(model, inputs, *args, **kwargs)


def train(
    folder: Path, kill: tuple | None = None, augment: bool = False, options: dict | None = None, shards: int = 0
) -> None:
    """One process of a training: goes on from the newest complete checkpoint, if there is one.

    Writes `outcome<rank>.pt` at the end.

    Args:
        folder: of the training; its checkpoints lie in `run`.
        kill: `(rank, what, *details)`, or None.
        augment: add noise to each row.
        options: of the training arguments.
        shards: of a stream; 0 for a dataset with a length.
    """
    torch.set_num_threads(1)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    args = BalancedTrainingArguments(
        **{
            "output_dir": str(folder / "run"),
            "use_cpu": True,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "learning_rate": 0.1,
            "lr_scheduler_type": "cosine",
            "per_device_train_batch_size": 4 // processes,
            "gradient_accumulation_steps": 2,
            "max_steps": 18,
            "logging_steps": 4,
            "save_strategy": "steps",
            "save_steps": 3,
            "disable_tqdm": True,
            "modulations": MODULATIONS,
            **(options or {}),
        }
    )
    dataset = tiny_dataset(samples=52)  # 7 optimizer steps an epoch, the last of a single micro-batch
    if shards:
        dataset = evaluated = tiny_stream(51, shards)
        dataset = dataset.map(add_noise, batched=True, batch_size=8) if augment else dataset
    elif augment:
        dataset = dataset.with_transform(add_noise)
    model = tiny_model(head_hidden_sizes=[6], head_dropout=0.2)
    trainer_class = NumberedTrainer if shards else MultimodalBalancedTrainer
    trainer = trainer_class(model, args, train_dataset=dataset, eval_dataset=evaluated if shards else dataset)
    rank = args.process_index
    if kill is not None and kill[0] == rank:
        _, what, *details = kill
        if what == "write":
            kill_while_writing(*details)
        elif what == "delete":
            kill_while_deleting(*details)
        else:
            trainer.add_callback(KillAt(what, *details))
    start = newest_complete_checkpoint(args.output_dir)
    trainer.train(resume_from_checkpoint="auto")
    outcome = {
        "start": 0 if start is None else int(start.split("-")[-1]),
        "weights": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "logs": trainer.state.log_history,
        "modulation": {"monitor": trainer.monitor.state_dict(), **trainer.modulation.state_dict()},
        "random": torch.get_rng_state(),
        "seen": getattr(trainer, "seen", []),
        "predicted": getattr(trainer, "predicted", []),
    }
    torch.save(outcome, folder / f"outcome{rank}.pt")
    if processes > 1:
        torch.distributed.destroy_process_group()


def forked(rank: int, processes: int, port: int, folder: Path, *arguments) -> None:
    """What a process of `run` does."""
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # 5 s at the end of every pass
    os.dup2(os.open(folder / f"output{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    if processes > 1:
        tell_rank(rank, processes, port)
    train(folder, *arguments)


def run(
    folder: Path, processes: int = 1, kill: tuple | None = None, augment: bool = False, shards: int = 0, **options
) -> list[dict] | None:
    """Trains in `folder`; returns each process's outcome, or None if it was killed.

    Raises:
        AssertionError: a process failed, or nothing killed it although `kill` is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [
        CONTEXT.Process(target=forked, args=(rank, processes, port, folder, kill, augment, options, shards))
        for rank in range(processes)
    ]
    for child in children:
        child.start()
    while running := [child for child in children if child.is_alive()]:
        assert wait([child.sentinel for child in running], timeout=250), "a training hangs"
        if any(child.exitcode for child in children):
            for child in children:
                child.kill()
    said = "".join(path.read_text()[-4000:] for path in sorted(folder.glob("output*.txt")))
    if kill is not None:
        assert children[kill[0]].exitcode == -signal.SIGKILL, said
        return None
    assert [child.exitcode for child in children] == [0] * processes, said
    return [torch.load(folder / f"outcome{rank}.pt", weights_only=True) for rank in range(processes)]


if __name__ == "__main__":  # under torchrun
    train(Path(sys.argv[1]), kill=(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), *sys.argv[5:]))
