from __future__ import annotations

import pytest

from hf_bml.study.recipe_file import RECIPES, find_recipe, packaged_recipes
from hf_bml.study.recipe_yaml import read_recipe, standalone_text


def test_packaged_recipes_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits/opm", "digits/opm.yaml", "recipes/digits/opm.yaml"):
        assert find_recipe(name) == RECIPES / "digits" / "opm.yaml"
    assert "robustness/digits/bounded" in packaged_recipes()
    assert not any(name.startswith("accelerate_configs") for name in packaged_recipes())


def test_a_path_that_exists_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "opm").write_text("dataset: wiki\n")
    assert read_recipe("digits/opm") == {"dataset": "wiki"}
    (tmp_path / "digits" / "mine.yaml").write_text("extends: opm\nseed: 3\n")
    assert read_recipe("digits/mine.yaml") == {"dataset": "wiki", "seed": 3}


@pytest.mark.parametrize(
    "name, hint",
    [
        ("digits/omp", "Did you mean 'digits/opm'"),
        ("digits", "digits has digits/concat, "),
        ("nowhere.yaml", "a name that hf-bml recipes lists"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(name, hint):
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist.*{hint}"):
        find_recipe(name)


def test_a_recipe_of_ones_own_extends_a_packaged_one(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: digits/concat\nseed: 3\n")
    assert read_recipe(tmp_path / "mine.yaml") == {**read_recipe("digits/concat"), "seed": 3}


@pytest.mark.parametrize("name", ["digits/concat", "robustness/cmu_mosi_bert/augmented"])
def test_a_standalone_recipe_says_what_it_extends(tmp_path, name):
    text = standalone_text(name)
    (tmp_path / "copy.yaml").write_text(text)
    assert read_recipe(tmp_path / "copy.yaml") == read_recipe(name)
    assert text.startswith(f"# hf-bml train recipes/{name}.yaml\n") and "extends:" not in text
