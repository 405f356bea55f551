"""What is in the wheel works from a folder that has nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hf_bml.study.recipe_file import RECIPES, packaged_recipes

ROOT = Path(__file__).parents[1]


def test_the_recipes_travel_in_the_wheel(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="the build backend is not installed")
    [built] = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        names = [name for name in archive.namelist() if name.startswith("hf_bml/recipes/")]
        archive.extractall(tmp_path / "site")
    modules = RECIPES.joinpath("music_avqa_generated").glob("*.py")
    expected = [*packaged_recipes().values(), *modules]
    assert sorted(names) == sorted(f"hf_bml/recipes/{path.relative_to(RECIPES).as_posix()}" for path in expected)

    empty = tmp_path / "empty"
    empty.mkdir()
    run = "import sys; from hf_bml.cli import main; sys.exit(main(['recipes', 'list', 'digits']))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", run], cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert listed == [name for name in packaged_recipes() if name.startswith("digits/")]
