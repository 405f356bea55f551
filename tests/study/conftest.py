from __future__ import annotations

import pytest
from recipe_parts import DIGITS

from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe

YAML = (
    DIGITS
    + """optim: sgd
use_cpu: true
"""
)


@pytest.fixture
def parse(tmp_path):
    """Parses a recipe for the digits, with the arguments of a command line."""

    def parse(*arguments):
        path = tmp_path / "mine.yaml"
        path.write_text(YAML)
        return parse_recipe(train_parser(), path, [str(path), f"--output_dir={tmp_path / 'out'}", *arguments])

    return parse
