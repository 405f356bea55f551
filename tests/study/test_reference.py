"""What `hf-bml options` says of everything that a recipe can name, and recipes/REFERENCE.md."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from transformers import BertConfig, BertModel, TrainingArguments, Wav2Vec2FeatureExtractor

from hf_bml.cli import main
from hf_bml.data import check_options, dataset_function
from hf_bml.ground.declared import REQUIRED
from hf_bml.models import ENCODERS, FUSIONS
from hf_bml.modulation import MODULATIONS, build_modulations
from hf_bml.processing import CORRUPTIONS, PROCESSORS, MultimodalProcessor
from hf_bml.processing.transforms.text import word_tokenizer
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe_yaml import read_recipe
from hf_bml.study.reference.kinds import KINDS, found_parts, parts
from hf_bml.study.reference.pages import example_yaml, markdown
from hf_bml.study.tasks import TASKS
from hf_bml.training.training_args import BalancedTrainingArguments

ROOT = Path(__file__).parents[2]
PARTS = [(kind, part) for kind in KINDS for part in parts(kind)]
STAND_INS = {  # for the modalities of an example that is of something else
    "classification": {name: {"type": "conv"} for name in ("audio", "visual")},
    "question_answering": {"text": {"type": "lstm", "vocab_size": 9}, "audio": {"type": "sequence", "input_size": 4}},
    "segment_classification": {name: {"type": "features", "input_size": 4} for name in ("audio", "visual")},
}
HUB_ID, SPEECH_ID = "google-bert/bert-base-uncased", "facebook/wav2vec2-base"  # of the examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a tiny model with a tokenizer, and a feature extractor, lie under the Hub ids of the examples."""
    folder = tmp_path_factory.mktemp("examples")
    config = BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertModel(config).save_pretrained(folder / HUB_ID)
    word_tokenizer(["one", "two"]).save_pretrained(folder / HUB_ID)
    Wav2Vec2FeatureExtractor().save_pretrained(folder / SPEECH_ID)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_has_type_default_and_meaning(kind):
    for part in parts(kind):
        assert part.purpose and not part.purpose.startswith("See ")
        for option in [*part.options, *part.further]:
            assert option.type and option.default, (part.name, option)
            assert option.meaning and not option.meaning.startswith("see `"), (part.name, option)


@pytest.mark.parametrize("kind", KINDS)
def test_every_example_is_a_recipe_that_can_be_built(kind, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    for part in parts(kind):
        (tmp_path / "recipe.yaml").write_text(example_yaml(part))
        recipe = read_recipe(tmp_path / "recipe.yaml")
        assert part.name in repr(recipe) or kind in ("tasks", "recipe")
        build(recipe)


def build(recipe):
    """Model, processors, modulations of a part of a recipe, and whether the data set's function takes the options."""
    name = recipe.get("task", "classification")
    modalities = recipe.get("modalities") or STAND_INS[name]
    options = {option: value for option, value in recipe.items() if option in TASKS[name].options}
    config = TASKS[name].config_class(**{**options, "modalities": modalities}, num_labels=3)
    TASKS[name].model_class(config)
    if recipe.get("processors"):
        MultimodalProcessor(recipe["processors"])
    build_modulations(recipe.get("modulations"))
    if "dataset" in recipe:
        load, options = dataset_function(recipe["dataset"]), recipe.get("dataset_options", {})
        check_options(load, options, recipe["dataset"])
        inspect.signature(load).bind(**options)


@pytest.mark.parametrize(
    ("kind", "registry"),
    [("encoders", ENCODERS), ("processors", PROCESSORS), ("corruptions", CORRUPTIONS), ("fusions", FUSIONS)],
)
def test_nothing_is_left_out(kind, registry):
    assert {name for name in registry if ":" not in name} <= {part.name for part in parts(kind)}


@pytest.mark.parametrize("name", MODULATIONS)
def test_each_option_of_a_modulation_is_shown(name):
    ((_, part),) = found_parts(["modulations", name])
    declared = {each.name: each.default for each in fields(MODULATIONS[name].config_class)}
    assert {option.name: yaml.safe_load(option.default) for option in part.options} == declared


def test_training_shows_what_transformers_declares():
    ((_, part),) = found_parts(["training"])
    shown = [*part.options, *part.further]
    assert {option.name for option in shown} == {each.name for each in fields(BalancedTrainingArguments)}
    assert not {option.name for option in part.options} & {each.name for each in fields(TrainingArguments)}
    assert "momentum=0.9" in next(option.meaning for option in shown if option.name == "optim_args")


def test_a_head_shows_the_options_that_it_reads():
    ((_, part),) = found_parts(["bounded"])
    assert [option.name for option in part.options if "head_" not in option.name] == ["logit_bound"]
    ((_, part),) = found_parts(["film"])
    assert "conditioning" in [option.name for option in part.options]


def test_a_page_on_the_command_line(capsys):
    assert main(["options", "encoders", "timm"]) == 0
    shown = capsys.readouterr().out
    assert "architecture  (str, required)" in shown and "in_channels  (int, default 3)" in shown
    assert "channels of the input: 1 spectrogram, 2 flow, 3 RGB." in shown
    assert "    visual: {type: timm, architecture: resnet18, in_channels: 3}" in shown


def test_lists_on_the_command_line(capsys):
    assert main(["options"]) == 0
    everything = capsys.readouterr().out
    for kind, part in PARTS:
        assert f"\n  {part.name} " in everything and f"{kind}: " in everything
    assert main(["options", "fusions"]) == 0
    assert capsys.readouterr().out.splitlines()[0] in everything


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encoders", "tmm"], "Did you mean 'timm'?"),
        (["encoders", "opm"], "Known: ['timm'"),
        (["interactions", "own_parts:Pooled"], "unknown name 'own_parts:Pooled' among interactions"),
        (["encoders", "own_parts:NotAPart"], "Expected a subclass of Encoder"),
        (["opn"], "Did you mean 'opm'?"),
        (["modulation"], "Did you mean 'modulations'?"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(arguments, message, capsys):
    assert main(["options", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_name_of_several_kinds_shows_all():
    assert [kind for kind, _ in found_parts(["multi_window"])] == ["encoders", "processors"]


def test_ones_own_part_is_shown():
    ((_, part),) = found_parts(["encoders", "own_parts:Pooled"])
    assert REQUIRED in [option.default for option in part.options] and part.example is None


def test_the_written_reference_is_true():
    written = (ROOT / "recipes" / "REFERENCE.md").read_text(encoding="utf-8")
    assert all((ROOT / target).is_file() for target in re.findall(r"\]\(\.\./(\S+?)\)", written))
    train_parser()  # which changes the fields of the recipe's blocks
    assert written == f"{markdown().rstrip()}\n", "run `hf-bml options --markdown > recipes/REFERENCE.md`"
