"""No path of the machine that trained is shown."""

from __future__ import annotations

import pytest

from hf_bml.hub.hidden_paths import hide_paths, public_path


@pytest.mark.parametrize("path", ["/data/x", "~/x", "../x", "C:\\data", "file:///data/x"])
def test_paths_are_hidden(path):
    assert hide_paths({"options": [path, 1]}) == {"options": ["PATH", 1]}


def test_a_folder_is_shown_as_it_was_given_if_it_is_below_the_working_folder(tmp_path):
    assert public_path("runs/digits/opm") == "runs/digits/opm"
    assert public_path(tmp_path / "opm") == "opm"
