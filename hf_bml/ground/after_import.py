"""Runs something right after another package has been imported, without importing it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = __name__.partition(".")[0]


class AfterImport(MetaPathFinder):
    """Finds what the other finders find, and notices when the import of a watched module is finished.

    A callback imports modules of this package, so it has to wait while one of them is being imported, in any thread:
    it runs after the last of the imports under way.
    """

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[], None]] = {}
        self.imports_under_way = 0
        self.counting = threading.Lock()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec if its import is to be noticed, else None."""
        if name not in self.callbacks and not (self.callbacks and name.startswith(f"{PACKAGE}.")):
            return None
        for finder in [finder for finder in sys.meta_path if finder is not self]:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:  # there is none of a folder without __init__.py
                    spec.loader = NoticedLoader(spec.loader, self)
                return spec
        return None

    def start(self) -> None:
        """An import begins."""
        with self.counting:
            self.imports_under_way += 1

    def finish(self, failed: str | None = None) -> None:
        """An import ends; `failed` is the name of the module if it could not be imported."""
        with self.counting:
            self.imports_under_way -= 1
        self.run_callbacks(failed)

    def run_callbacks(self, failed: str | None = None) -> None:
        """Calls what waits for a module that is there, unless imports are under way; each callback once."""
        for name in list(self.callbacks):
            if self.imports_under_way or name not in sys.modules or name == failed:
                continue
            callback = self.callbacks.pop(name, None)
            if callback is None:  # another thread was faster
                continue
            try:
                callback()
            except Exception as error:
                self.callbacks[name] = callback
                # another thread's module may have been half imported; that thread calls when it is done
                if not isinstance(error, (ImportError, AttributeError)) or not self.imports_under_way:
                    raise


class NoticedLoader(Loader):
    """A module's own loader, which tells the finder when the module is executed, and then takes its place."""

    def __init__(self, loader: Any, finder: AfterImport):
        self.loader, self.finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # such as get_code, for python -m

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The module, None for an ordinary one."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Executes the module; from then on it looks as if imported without this class."""
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.finder.start()
        try:
            self.loader.exec_module(module)
        except BaseException:
            self.finder.finish(failed=module.__name__)
            raise
        self.finder.finish()


FINDER = AfterImport()


def after_import(callbacks: Mapping[str, Callable[[], None]]) -> None:
    """Calls each function once its module has been imported, at once if it has been already.

    Args:
        callbacks: by the module's full name; they replace earlier ones of the same module.
    """
    FINDER.callbacks.update(callbacks)
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
    FINDER.run_callbacks()
