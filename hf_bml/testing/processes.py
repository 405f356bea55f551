"""Two processes on this machine, for the properties that need them; run as a module, one of them."""

from __future__ import annotations

import gc
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ..ground.suggestion import import_named
from .training import Setting, Subject, arguments_of, train

BF16 = (("bf16", True),)
SETTINGS = {
    "2 x 4": Setting(),
    "2 x (2 x 2)": Setting(micro_batches=2),
    "fsdp2": Setting(fsdp2=True),
    "own loss": Setting(own_loss=True, steps=3),
    "bf16": Setting(dtype=torch.float32, arguments=BF16, steps=3),
}
TIMEOUT = 280

Found = dict[str, Any]  # by setting the weights and logs, or what was raised

_known: dict[str, list[Found]] = {}


def two_processes(subject: Subject) -> list[Found]:
    """What each of two processes found, started now unless `launch` has done so before."""
    if subject.key not in _known:
        run([subject])
    return _known[subject.key]


def run_once(subjects: Iterable[Subject], folder: Path) -> None:
    """As `run`, once for all processes that name the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "two_processes.pt"
    with FileLock(folder / "lock"):
        if file.is_file():
            _known.update(torch.load(file, weights_only=True))
        run(subjects)
        torch.save(_known, file)


def run(subjects: Iterable[Subject]) -> None:
    """Trains with every subject in all of SETTINGS, on two processes that are started once for all of them.

    Raises:
        AssertionError: a process ended with an error, or did not end.
        TypeError: a method that cannot be imported by its path.
    """
    subjects = [subject for subject in subjects if subject.key not in _known]
    if not subjects:
        return
    for subject in subjects:
        check_importable(subject)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [(subject.path, dict(subject.options)) for subject in subjects]
        (folder / "cases.pickle").write_bytes(pickle.dumps(cases))
        children = [start(folder, rank) for rank in range(2)]
        try:
            for child in children:
                child.wait(timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"Two processes did not end within {TIMEOUT} s.") from error
        finally:
            for child in children:
                child.kill()
        if any(child.returncode for child in children):
            said = [(folder / f"said{rank}.txt").read_text()[-4000:] for rank in range(2)]
            raise AssertionError("\n".join(said))
        ranks = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for number, subject in enumerate(subjects):
        _known[subject.key] = [found[number] for found in ranks]


def check_importable(subject: Subject) -> None:
    """Raises TypeError unless another process can import the method."""
    module = subject.method.__module__
    if module == "__main__" or "." in subject.method.__qualname__:
        raise TypeError(
            f"Two processes import the method by its path, but {subject.path} has none: expected a class at the top "
            "of a module. Move it there."
        )


def start(folder: Path, rank: int) -> subprocess.Popen:
    """One process, which gets what a launcher would tell it."""
    port_file = folder / "port"
    if not port_file.exists():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port_file.write_text(str(free.getsockname()[1]))
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
    environment = {
        **os.environ,
        **{name: str(value) for name, value in told.items()},
        "MASTER_PORT": port_file.read_text(),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-m", __name__, str(folder)]
    with open(folder / f"said{rank}.txt", "w") as said:
        return subprocess.Popen(command, env=environment, stdout=said, stderr=said)


def outcome(subject: Subject, setting: Setting) -> Mapping[str, Any]:
    """Weights and logs, or the message of a refusal."""
    try:
        found = train(subject, setting)
    except ValueError as error:
        return {"refused": str(error)}
    return {each.name: vars(found)[each.name] for each in fields(found) if each.name != "start"}


def main(folder: Path) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    arguments_of(Setting(), str(folder))  # starts the process group
    cases = pickle.loads((folder / "cases.pickle").read_bytes())
    gc.freeze()  # every training collects garbage, which takes a second with all that was imported
    subjects = [Subject(import_named(path), options) for path, options in cases]
    found = [{name: outcome(subject, setting) for name, setting in SETTINGS.items()} for subject in subjects]
    torch.save(found, folder / f"rank{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
