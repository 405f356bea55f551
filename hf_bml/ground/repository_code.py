"""Code that came with a repository is saved beside what was loaded with it, so that it loads there as well.

With `trust_remote_code=True` and without hf_bml installed, the classes of this package are copies that transformers
took from the repository. transformers would save only the files that one class imports, not those of its pipeline, and
under other names than the pipeline's entry in `config.json` says.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from transformers.dynamic_module_utils import get_relative_imports
from transformers.utils import cached_file

COMMIT = re.compile(r"[0-9a-f]{40}")


@contextmanager
def own_code_only(kind: type) -> Iterator[bool]:
    """Within it, transformers does not copy the file of a class that came with a repository; yields whether it is
    such a class."""
    auto_class, kind._auto_class = kind._auto_class, None
    try:
        yield auto_class is not None
    finally:
        kind._auto_class = auto_class


def keep_code(kind: type, references: Iterable[str], source: str, folder: str | Path) -> None:
    """Copies code, and all that it imports by relative imports, from one repository into a folder, under its names.

    Args:
        kind: a class that came with the repository; its module's name tells the commit.
        references: as in `auto_map`, such as "hf_bml_code/modeling_multimodal.MultimodalForClassification".
        source: folder or Hub id that they belong to.
        folder: where the copies go.

    Warns:
        UserWarning: the code is no longer there.
    """
    revision = next((part for part in kind.__module__.split(".") if COMMIT.fullmatch(part)), None)
    pending, copied = {f"{reference.rpartition('.')[0]}.py" for reference in references}, set()
    try:
        while pending:
            name = pending.pop()
            path, target = Path(cached_file(source, name, revision=revision)), Path(folder) / name
            if not (target.exists() and target.samefile(path)):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            copied.add(name)
            imported = {
                PurePosixPath(name).with_name(f"{module}.py").as_posix() for module in get_relative_imports(path)
            }
            pending |= imported - copied
    except OSError as error:
        reason = str(error).splitlines()[0]
        warnings.warn(
            f"{folder} lacks a part of the code that came with {source}, so that it will not load there with "
            f"trust_remote_code: {reason} Copy the code's folder by hand.",
            stacklevel=3,
        )
