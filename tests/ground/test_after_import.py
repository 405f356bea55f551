"""Callbacks after another package's import."""

from __future__ import annotations

import importlib
import sys

import pytest

from hf_bml.ground.after_import import FINDER, AfterImport, after_import


@pytest.fixture
def finder(tmp_path, monkeypatch):
    """A finder of its own, and the modules `watched` and `broken` to import."""
    (tmp_path / "watched.py").write_text("import sys\nvalue = 1\n")
    (tmp_path / "broken.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finder = AfterImport()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    yield finder
    sys.modules.pop("watched", None)


def test_it_is_called_once_when_the_module_is_whole(finder):
    seen = []
    finder.callbacks["watched"] = lambda: seen.append(sys.modules["watched"].value)
    module = importlib.import_module("watched")
    importlib.reload(module)
    assert seen == [1]
    assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == "SourceFileLoader"


def test_it_waits_for_imports_under_way(finder):
    seen = []
    finder.callbacks["watched"] = lambda: seen.append(1)
    finder.start()  # a module of this package, in this thread or another
    importlib.import_module("watched")
    assert not seen
    finder.finish()
    assert seen == [1]


def test_a_failing_callback_is_called_again(finder):
    calls = []

    def callback():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("no")

    finder.callbacks["watched"] = callback
    with pytest.raises(ValueError, match="no"):
        importlib.import_module("watched")
    importlib.import_module("watched")
    assert len(calls) == 2


def test_a_module_that_is_half_imported_by_another_thread(finder):
    seen = []

    def callback():
        if not seen:
            seen.append("half")
            finder.start()  # another thread imports
            raise ImportError("partially initialized module")
        seen.append("whole")

    finder.callbacks["watched"] = callback
    importlib.import_module("watched")
    finder.finish()
    assert seen == ["half", "whole"]


def test_a_module_that_cannot_be_imported(finder):
    finder.callbacks["broken"] = lambda: pytest.fail("called")
    with pytest.raises(RuntimeError, match="broken"):
        importlib.import_module("broken")
    assert finder.imports_under_way == 0


def test_what_is_there_already_is_called_at_once():
    seen = []
    after_import({"sys": lambda: seen.append(1)})
    assert seen == [1] and sys.meta_path.count(FINDER) == 1
