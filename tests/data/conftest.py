"""Access to the real data files: absent files skip a test on a developer's machine and fail it in CI."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_bml.data import find_data_file


@pytest.fixture
def require_data_file() -> Callable[[str], Path]:
    """Function from a path below the data folder to the file."""

    def require(relative_path: str) -> Path:
        try:
            return find_data_file(relative_path)
        except FileNotFoundError as error:
            if os.environ.get("CI", "").lower() == "true":
                pytest.fail(f"CI must provide this file. {error}")
            pytest.skip(str(error))

    return require
