"""The public entry point: names, dotted paths, options."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from hf_bml.data import catalogue, dataset_function, dataset_names, load_multimodal_dataset, loading

NAMES = dataset_names()


def tiny(size: int = 2, empty_test: bool = False) -> DatasetDict:
    features = Features({"text": Value("string"), "labels": ClassLabel(names=["no", "yes"])})

    def rows(count: int) -> Dataset:
        return Dataset.from_dict({"text": ["word"] * count, "labels": [1] * count}, features=features)

    return DatasetDict(train=rows(size), validation=rows(1), test=rows(0 if empty_test else 1))


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """Importable module `my_corpora.pets` with the functions `load` and `anything`."""
    (tmp_path / "my_corpora").mkdir()
    (tmp_path / "my_corpora" / "__init__.py").write_text("")
    source = inspect.getsource(tiny).replace("def tiny", "def load")
    (tmp_path / "my_corpora" / "pets.py").write_text(
        f"from datasets import ClassLabel, Dataset, DatasetDict, Features, Value\n\n{source}\n\n"
        "def anything(**options):\n    return load(options['rows'])\n"
    )
    (tmp_path / "my_corpora" / "needs_more.py").write_text("import surely_absent_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_names_are_those_of_the_catalogue():
    """A file there is a data set; beside them stands the one that reads columns of the user's own."""
    files = {path.stem for path in Path(catalogue.__file__).parent.glob("*.py")} - {"__init__"}
    assert sorted({*files, "from_columns"}) == NAMES
    assert {"digits", "cremad", "cmu_mosi"} < files


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_default_and_is_described(name):
    load = dataset_function(name)
    for option in inspect.signature(load).parameters.values():
        assert option.default is not option.empty
        assert re.search(rf"\n        (\w+, )*{option.name}(, \w+)*: ", load.__doc__), option.name


@pytest.mark.parametrize("name", ["digit", "Digits", "location", "cmu_mossi", ""])
def test_unknown_name_lists_known_ones(name):
    with pytest.raises(ValueError, match=", ".join(NAMES)) as error:
        load_multimodal_dataset(name)
    if name == "cmu_mossi":
        assert "Did you mean 'cmu_mosi'?" in str(error.value)


def test_a_data_set_beside_its_recipes_needs_them(monkeypatch):
    name = "music_avqa_generated"
    assert dataset_function(name).__module__ == "recipes.music_avqa_generated.questions"
    monkeypatch.setitem(loading.BESIDE_RECIPES, name, "no_such_folder.questions:load")
    with pytest.raises(ValueError, match="lies beside its recipes: run in the root of a clone"):
        load_multimodal_dataset(name)


def test_unknown_option_names_the_closest():
    with pytest.raises(ValueError, match=r"data set 'digits' has no option 'snr_bd'\. Did you mean 'snr_db'"):
        load_multimodal_dataset("digits", snr_bd=3.0)


@pytest.mark.parametrize("path", ["my_corpora.pets:load", "my_corpora.pets.load"])
def test_dotted_path_with_options(user_module, path):
    assert len(load_multimodal_dataset(path, size=5)["train"]) == 5
    with pytest.raises(ValueError, match=r"no option 'sise'\. Did you mean 'size'"):
        load_multimodal_dataset(path, sise=5)


def test_function_with_open_options_checks_its_own(user_module):
    assert len(load_multimodal_dataset("my_corpora.pets:anything", rows=3)["train"]) == 3


def test_result_of_a_users_function_is_checked(user_module):
    with pytest.raises(ValueError, match=r"'my_corpora.pets:load', found none in 'test'"):
        load_multimodal_dataset("my_corpora.pets:load", empty_test=True)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("my_corpora.pets:lode", "Did you mean 'load'"),
        ("my_corpora.dogs:load", "no module 'my_corpora.dogs'"),
        ("his_corpora.pets:load", "no module 'his_corpora'"),
        ("my_corpora.pets:", "package.module:Name"),
        (":load", "package.module:Name"),
        (".pets:load", "package.module:Name"),
    ],
)
def test_wrong_path_says_what_is_wrong(user_module, path, message):
    with pytest.raises(ValueError, match=message):
        load_multimodal_dataset(path)


def test_missing_dependency_of_a_users_module_is_not_hidden(user_module):
    with pytest.raises(ModuleNotFoundError, match="surely_absent_dependency"):
        load_multimodal_dataset("my_corpora.needs_more:load")
