from __future__ import annotations

from hf_bml.figures.style import run_styles
from hf_bml.report.figure_folder import FigureFolder
from hf_bml.report.sections.training import balance_parts
from hf_bml.study.run_files import RunFiles
from hf_bml.study.run_groups import RunGroup

METHOD = """
from hf_bml.modulation import Modulation, Title

class Leaning(Modulation):
    name = "leaning"
    titles = {"angle": Title("angle of the gradients")}
"""


def own_method(folder, path):
    history = [{"epoch": 1.0, "leaning/angle_a": 0.25, "leaning/turns": 2.0, "balance/ratio_a": 1.0}]
    options = {"dataset": "digits", "modulations": {path: {}}}
    run = RunFiles(folder, options, {"seed": 0}, {"modality_order": ["a", "b"]}, history)
    return balance_parts([RunGroup("own", [run])], FigureFolder(folder, run_styles(["own"])))


def rows(parts):
    return [line[1] for part in parts if part.kind == "table" for line in part.rows]


def test_a_method_of_ones_own_is_shown_as_it_says(tmp_path, monkeypatch):
    assert rows(own_method(tmp_path, "no_such_module:Leaning")) == ["leaning, angle: a", "leaning, turns"]
    (tmp_path / "leaning_method.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    assert rows(own_method(tmp_path, "leaning_method:Leaning")) == [
        "Leaning, angle of the gradients: a",
        "Leaning, turns",
    ]
    assert (tmp_path / "modulation.png").is_file()
