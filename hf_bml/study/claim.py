"""Which of several processes on a shared folder does some work: the one that created the claim, a file.

Claims of a folder are numbered, `.claim-1.json`, `.claim-2.json`, ..., and the last one counts. Only one process can
create a file of a name, and it renews the file's time while it works. Once that time is too old, another process takes
over with the next number; nothing is ever deleted to take over, so two can't. A process that was suspended for so long
finds the higher number and stops. Times are compared on the file system's own clock, as those of the machines differ.
"""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

from transformers import TrainerCallback

from ..ground.disk import disk_errors_named

PATTERN = re.compile(r"\.claim-(\d+)\.json")
PAUSE = 0.5  # seconds
RENEWALS = 10  # within the time after which a claim is too old


class ClaimLost(OSError):
    """Another process has taken over, as this one had not renewed its claim for too long."""


class Claim:
    """What this process works on, renewed by a thread within a `with`.

    At the end of the `with` the claim is deleted; after an exception it stays, and the next process may take over at
    once.

    Attributes:
        path: the file.
        timeout: after so many seconds without renewal another process takes over.
        is_lost: whether one has.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self.is_lost = False
        self._ended = Event()
        self._thread = Thread(target=self._keep_renewing, daemon=True)

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None:
            for number in range(1, claim_number(self.path) + 1):
                claim_path(self.path.parent, number).unlink(missing_ok=True)
        else:
            with suppress(OSError):
                os.utime(self.path, (0, 0))

    def renew(self) -> None:
        """Sets the file's time to now, unless another process has taken over."""
        try:
            if newest_claim(self.path.parent) > claim_number(self.path):
                self.is_lost = True
            else:
                os.utime(self.path)
        except FileNotFoundError:  # the other one has even finished
            self.is_lost = True
        except OSError:  # of a busy file server; there are more renewals before the claim is too old
            pass

    def check(self) -> None:
        """Raises ClaimLost if another process has taken over."""
        if self.is_lost:
            raise ClaimLost(
                f"{self.path.parent}: another process has taken over, as this one had not renewed its claim for "
                f"{self.timeout:g} s. Start the command again, or raise --claim_timeout."
            )

    def _keep_renewing(self) -> None:
        while not self._ended.wait(self.timeout / RENEWALS):
            self.renew()


class ClaimCheck(TrainerCallback):
    """Ends a training whose folder another process has taken over."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.claim.check()

    on_prediction_step = on_step_begin


def try_claim(folder: Path, timeout: float) -> Claim | None:
    """Claims a folder, which is made if needed; None while another process has claimed it.

    Args:
        folder: what is worked on.
        timeout: the claim of another process counts until so many seconds after its last renewal.
    """
    with disk_errors_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        newest = newest_claim(folder)
        if newest and not is_too_old(claim_path(folder, newest), timeout):
            return None
        path = claim_path(folder, newest + 1)
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(json.dumps(owner) + "\n")
        except FileExistsError:
            return None
    return Claim(path, timeout)


def wait_for_claim(folder: Path, timeout: float) -> Claim:
    """`try_claim` until it succeeds, for work that takes others a moment."""
    while (claim := try_claim(folder, timeout)) is None:
        time.sleep(PAUSE)
    return claim


def newest_claim(folder: Path) -> int:
    """The number of the claim that counts; 0 without any."""
    names = os.listdir(folder) if folder.is_dir() else []
    return max((int(match[1]) for name in names if (match := PATTERN.fullmatch(name))), default=0)


def is_too_old(path: Path, timeout: float) -> bool:
    """Whether a claim was not renewed for `timeout` seconds; one that has just been deleted was."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".clock-") as clock:
        try:
            return os.stat(clock.name).st_mtime - path.stat().st_mtime > timeout
        except FileNotFoundError:
            return False


def claim_path(folder: Path, number: int) -> Path:
    """The file of a claim."""
    return folder / f".claim-{number}.json"


def claim_number(path: Path) -> int:
    """The number of a claim's file."""
    return int(PATTERN.fullmatch(path.name)[1])
