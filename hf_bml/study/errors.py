"""How a command ends: its text, or bad input as one line on stderr, from the main process only."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import NoReturn

BAD_INPUT = 2  # the exit status, as argparse's
NOBODY_READS = 141  # as a program's that SIGPIPE ends: `hf-bml options | head`


class OneLineErrors(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors, so that the command prints them like all others."""

    def error(self, message: str) -> NoReturn:
        """Raises ValueError instead of printing the usage and leaving."""
        raise ValueError(f"{message}. See {self.prog} --help.")


Function = Callable[[list[str]], str | None]


def command(
    name: str,
    *further: type[Exception],
    help_parser: Callable[[], argparse.ArgumentParser] | None = None,
    is_text_only: bool = False,
) -> Callable[[Function], Callable[..., int]]:
    """Makes the `main` of `hf-bml NAME` out of a function of its arguments: it returns 0, or 2 with one line on stderr
    for bad input. If the function returns a text, the processes end, and the main one prints it.

    Args:
        name: of the command.
        further: errors that are bad input, beside ValueError and OSError.
        help_parser: makes the parser whose help is printed, where that of the function takes seconds to make.
        is_text_only: only returns a text, so that no library is silenced, and no processes are ended.
    """

    def made(function: Function) -> Callable[..., int]:
        @wraps(function)
        def main(arguments: Sequence[str] | None = None) -> int:
            arguments = list(sys.argv[1:] if arguments is None else arguments)
            wants_help = not {"-h", "--help"}.isdisjoint(arguments)
            if wants_help and help_parser is not None:
                help_parser().print_help()
                return 0
            if not wants_help and not is_text_only:
                quiet_libraries()
            try:
                text = function(arguments)
                if text is not None and not is_text_only:
                    from .processes import end_processes  # slow to import

                    end_processes()
            except (ValueError, OSError, *further) as error:
                print_error(f"hf-bml {name}", error)
                return BAD_INPUT
            return print_text(text) if text is not None and is_main_process() else 0

        return main

    return made


def print_text(text: str) -> int:
    """Prints a command's text; returns its exit status, `NOBODY_READS` if that is so."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        unread = os.open(os.devnull, os.O_WRONLY)
        os.dup2(unread, sys.stdout.fileno())  # for what Python flushes at its end
        os.close(unread)
        return NOBODY_READS
    return 0


def quiet_libraries() -> None:
    """No bars for writing and loading weights, none at all in a log; no word about pinned memory where there is no
    accelerator."""
    from datasets import disable_progress_bars  # slow to import
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if not sys.stderr.isatty():
        disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


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
