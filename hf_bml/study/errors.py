"""How a command reports bad input: one line on stderr, from the main process only."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import NoReturn

BAD_INPUT = 2  # the exit status, as argparse's


class OneLineErrors(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors, so that the command prints them like all others."""

    def error(self, message: str) -> NoReturn:
        """Raises ValueError instead of printing the usage and leaving."""
        raise ValueError(f"{message}. See {self.prog} --help.")


def is_main_process() -> bool:
    """Whether this is rank 0, from the launcher's environment; known before any argument is read."""
    ranks = [int(os.environ.get(name, -1)) for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")]
    return next((rank for rank in ranks if rank >= 0), 0) == 0


def print_error(command: str, error: Exception) -> None:
    """Prints `command: error` in one line."""
    if is_main_process():
        print(f"{command}: {one_line(error)}", file=sys.stderr)


def one_line(error: Exception) -> str:
    """The error's text in one line; of an error that carries a worker's traceback, what the worker said.

    Example:
        >>> one_line(ValueError("Caught ValueError in worker 0.\\nOriginal Traceback:\\n  ...\\nValueError: too long"))
        'too long'
    """
    text = str(error)
    if "Traceback" in text:
        text = re.sub(r"^[\w.]*(Error|Exception): ", "", text.strip().splitlines()[-1])
    return " ".join(text.split())
