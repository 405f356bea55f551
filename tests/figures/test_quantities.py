from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest

import hf_bml
from hf_bml.figures import curves, overlaid_curves
from hf_bml.figures.quantities import quantities
from hf_bml.modulation import MODULATIONS, Modulation, Title


class Clipped(Modulation):
    name = "clipped_norms"
    titles: ClassVar = {"norm": Title("gradient norm", 0)}


HISTORY = [{"epoch": e, "loss": 1.0, "clipped_norms/norm_a": 3.0, "clipped_norms/left_out": 2.0} for e in (1.0, 2.0)]


def test_a_method_of_ones_own_has_its_titles(tmp_path, drawn):
    overlaid_curves.plot_modulations({"run": [HISTORY]}, ["a"], tmp_path / "modulation.png")
    first, second = drawn[0].axes
    assert (first.get_title(), first.get_ylabel(), first.get_ylim()[0]) == (
        "Clipped, gradient norm: a",
        "gradient norm",
        0,
    )
    assert (second.get_title(), second.get_ylabel()) == ("Clipped, left out", "left out")
    curves.plot_curves(HISTORY, ["a"], tmp_path / "curves.png")
    panel = drawn[1].axes[-1]
    [line] = panel.get_lines()
    assert (panel.get_title(), panel.get_ylabel(), line.get_label()) == ("Clipped", "gradient norm", "a")
    assert line.get_ydata().tolist() == [3, 3]


def test_what_nobody_knows_is_readable_and_times_are_left_out():
    keys = [
        "loss",
        "balance/ratio_a",
        "unknown/some_thing_visual_b",
        "unknown/estimation_seconds",
        "opm/drop_fraction_b",
    ]
    found = quantities(keys, ["b", "visual_b"])
    assert [str(quantity) for quantity in found] == ["unknown, some thing: visual_b", "OPM, dropped share: b"]
    assert [quantity.is_named for quantity in found] == [False, True]


@pytest.mark.parametrize("room", ["figures", "analysis", "hub", "report"])
def test_no_method_is_named_outside_of_its_file(room):
    """In code, that is; an example may, and the paper's tables are about its methods."""
    names = "|".join(MODULATIONS)
    for path in (Path(hf_bml.__file__).parent / room).rglob("*.py"):
        if path.name != "paper_results.py":
            code = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.S)
            assert not re.search(rf"[\"']({names})\b", code), path
