"""A full, read-only or failing disk is named in one line, with the folder."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_ERRORS = (
    *NO_ROOM,
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE),
    *(errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),  # a folder that cannot be made
)
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors tells it
TORCH_WRITER = re.compile(r"inline_container\.cc|iostream error")  # torch.save does not tell it


class DiskError(OSError):
    """A file could not be written; the message names folder, cause and remedy."""


def disk_errno(error: BaseException, folder: str | Path) -> int | None:
    """The system's number of the error, if the disk is to blame.

    Args:
        error: as Python, safetensors or torch raise it; what it was raised from counts as well.
        folder: where torch was writing: it does not say why it failed, so a small file is tried there.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
            return cause.errno
        if match := SYSTEM_ERROR.search(str(cause)):
            return int(match[1])
        if TORCH_WRITER.search(str(cause)):
            refused = writing_refused(folder)
            return None if refused is None else refused.errno
        cause = cause.__cause__
    return None


def writing_refused(folder: str | Path) -> OSError | None:
    """The error with which the system refuses a small file in a folder that exists; None if it takes it."""
    try:
        file, path = tempfile.mkstemp(dir=folder, prefix=".writable-")
    except OSError as error:
        return error
    try:
        os.write(file, b"\0" * 4096)
        os.fsync(file)
    except OSError as error:
        return error
    finally:
        os.close(file)
        os.unlink(path)
    return None


def check_output_dir(folder: str | Path) -> None:
    """Raises ValueError if the path, or one above it, is not a folder."""
    for path in (Path(folder), *Path(folder).parents):
        if os.path.lexists(path):
            if not path.is_dir():
                kind = "a link to nothing" if path.is_symlink() and not path.exists() else "a file"
                raise ValueError(f"output_dir {str(folder)!r}: {str(path)!r} is {kind}; expected a folder.")
            return


@contextmanager
def disk_errors_named(folder: str | Path, consequence: str = "") -> Iterator[None]:
    """Raises errors of the disk as DiskError; others pass.

    Args:
        folder: what is written, or where.
        consequence: a sentence on what is kept.
    """
    try:
        yield
    except Exception as error:  # safetensors' own derives from nothing else
        number = disk_errno(error, folder)
        if number is None:
            raise
        named = error.filename if isinstance(error, OSError) and error.filename else folder
        remedy = "Make room" if number in NO_ROOM else "Choose a folder that can be written"
        text = f"cannot write to {os.fspath(named)!r}: {os.strerror(number)}. {consequence} {remedy}."
        raise DiskError(" ".join(text.split())) from error


def check_writable(folder: str | Path) -> None:
    """Makes the folder if needed and writes a small file there.

    Raises:
        DiskError: it cannot be made or written.
    """
    with disk_errors_named(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        if (refused := writing_refused(folder)) is not None:
            refused.filename = None  # of the small file
            raise refused
