from __future__ import annotations

from hf_bml.cli import main
from hf_bml.study.recipe_file import packaged_recipes
from hf_bml.study.recipe_yaml import read_recipe


def test_the_list_has_a_line_about_each_recipe(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(packaged_recipes())
    assert max(map(len, lines)) <= 119 and all(len(line.split()) > 1 for line in lines)
    assert main(["recipes", "list", "robustness/digits"]) == 0
    assert "digits/bounded            digits/concat, every modality's vote is bounded" in capsys.readouterr().out
    assert main(["recipes", "list", "digit"]) == 2
    assert "There are av_digits, " in capsys.readouterr().err


def test_a_copy_can_be_changed_and_overwrites_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "show", "digits/opm"]) == 0
    shown = capsys.readouterr().out
    assert main(["recipes", "copy", "digits/opm"]) == 0
    assert "next: hf-bml train opm.yaml" in capsys.readouterr().out
    assert (tmp_path / "opm.yaml").read_text() == shown and read_recipe("opm.yaml") == read_recipe("digits/opm")
    assert main(["recipes", "copy", "digits/concat", "below/opm.yaml"]) == 0
    assert main(["recipes", "copy", "digits/concat", "opm.yaml"]) == 2
    assert "opm.yaml exists" in capsys.readouterr().err
    assert main(["recipes", "copy", "digits/concat", "opm.yaml", "--force"]) == 0
    assert read_recipe("opm.yaml") == read_recipe("below/opm.yaml") == read_recipe("digits/concat")
