from __future__ import annotations

import json
from dataclasses import fields

import pytest

from hf_bml import MODULATIONS
from hf_bml.modulation import BUNDLES, Bundle, expanded
from hf_bml.study.dotted_options import split_dotted
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe
from hf_bml.study.recipe_blocks import ModelArguments
from hf_bml.study.recipe_yaml import read_recipe, write_recipe
from hf_bml.study.tasks import TASKS

YAML = """
dataset: digits
modalities:
  audio: {type: conv, channels: [4]}
  visual: {type: conv, channels: [4]}
modulations:
  opm: {q_base: 0.5}
learning_rate: 1e-2
num_train_epochs: 2
use_cpu: true
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(YAML)
    return path


def parse(path, *arguments, output="out", changes=None):
    command = [str(path), "--output_dir", str(path.parent / output), *arguments]
    return parse_recipe(train_parser(), path, command, changes)


def test_yaml_fills_the_three_blocks(recipe_file):
    recipe = parse(recipe_file)
    assert recipe.name == "mine"
    assert list(recipe.model.modalities) == ["audio", "visual"]
    assert recipe.data.dataset == "digits"
    assert recipe.training.learning_rate == 0.01
    assert recipe.training.modulations == {"opm": {"q_base": 0.5}}


def test_command_line_wins(recipe_file):
    recipe = parse(
        recipe_file, "--learning_rate", "1e-3", "--modulations", '{"ogm": {"alpha": 0.3}}', "--head_hidden_sizes", "8"
    )
    assert recipe.training.learning_rate == 0.001
    assert recipe.training.modulations == {"ogm": {"alpha": 0.3}}
    assert recipe.model.head_hidden_sizes == [8]


def test_dotted_names_reach_into_mappings(recipe_file):
    recipe = parse(recipe_file, "--modulations.opm.q_base", "0.8", "--modulations.ogm.alpha=1e-1")
    assert recipe.training.modulations == {"opm": {"q_base": 0.8}, "ogm": {"alpha": 0.1}}
    recipe = parse(recipe_file, "--dataset_options.snr_db", "10", "--modalities.audio.channels", "[2, 4]")
    assert recipe.data.dataset_options == {"snr_db": 10}
    assert recipe.model.modalities["audio"]["channels"] == [2, 4]


@pytest.mark.parametrize(
    ("whole", "found"),
    [
        (["--modulations", "opm"], {"opm": {"q_base": 0.8}}),
        (["--modulations=ogm+opm"], {"ogm": {}, "opm": {"q_base": 0.8}}),
        (["--modulations", '{"opm": {"lam": 0.1}}'], {"opm": {"lam": 0.1, "q_base": 0.8}}),
    ],
)
def test_dotted_names_reach_into_a_mapping_that_the_command_line_gives(recipe_file, whole, found):
    dotted = ["--modulations.opm.q_base", "0.8"]
    for arguments in ([*whole, *dotted], [*dotted, *whole]):
        recipe = parse(recipe_file, *arguments)
        assert recipe.training.modulations == recipe.explicit["modulations"] == found
    whole = ["--dataset_options", '{"grouped": false}']
    recipe = parse(recipe_file, "--dataset_options.snr_db", "10", *whole)
    assert recipe.data.dataset_options == recipe.explicit["dataset_options"] == {"grouped": False, "snr_db": 10}


def test_a_dotted_name_reaches_into_a_bundle(recipe_file):
    recipe_file.write_text(YAML.replace("modulations:\n  opm: {q_base: 0.5}", "modulations: balanced"))
    recipe = parse(recipe_file, "--modulations.mod_drop.p", "0.2")
    assert recipe.training.modulations["mod_drop"]["p"] == 0.2 and "multi_loss" in recipe.training.modulations


def test_changes_win_over_the_yaml_and_the_command_line(recipe_file):
    changes = {"seed": 5, "modulations": {"ogm": {}}, "interaction": "mmtm", "fusion": "concat"}
    recipe = parse(recipe_file, "--seed", "3", "--modulations.opm.lam", "0.1", "--fusion", "sum", changes=changes)
    assert (recipe.training.seed, recipe.model.interaction, recipe.model.fusion) == (5, "mmtm", "concat")
    assert recipe.training.modulations == {"ogm": {}}
    assert recipe.explicit["interaction"] == "mmtm" and "fusion" not in recipe.explicit


@pytest.mark.parametrize("written", ["balanced", "{balanced: }", "{balanced: {}}"])
def test_a_bundle_in_a_recipe_is_written_out_in_its_copy(tmp_path, written):
    (tmp_path / "bundle.yaml").write_text(
        YAML.replace("modulations:\n  opm: {q_base: 0.5}", f"modulations: {written}")
    )
    recipe = parse(tmp_path / "bundle.yaml")
    assert recipe.training.modulations == recipe.explicit["modulations"] == expanded("balanced")
    recipe = parse(tmp_path / "bundle.yaml", "--modulations.mod_drop.p", "0.2")
    assert recipe.training.modulations["mod_drop"]["p"] == 0.2
    assert set(recipe.training.modulations) == {"multi_loss", "mod_drop"}


def test_a_bundle_on_the_command_line_and_beside_those_of_an_extended_recipe(recipe_file, tmp_path):
    assert parse(recipe_file, "--modulations", "balanced").training.modulations == expanded("balanced")
    (tmp_path / "more.yaml").write_text("extends: mine.yaml\nmodulations: balanced\n")
    found = parse(tmp_path / "more.yaml").training.modulations
    assert found == {"opm": {"q_base": 0.5}, **expanded("balanced")}


def test_a_bundle_sets_what_the_recipe_does_not_say_of_the_model(recipe_file, monkeypatch):
    monkeypatch.setitem(BUNDLES, "mine", Bundle("Mine.", {"opm": {}}, {"fusion": "bounded", "logit_bound": 3.0}))
    recipe = parse(recipe_file, "--modulations", "mine")
    assert (recipe.model.fusion, recipe.explicit["logit_bound"]) == ("bounded", 3.0)
    assert parse(recipe_file, "--modulations", "mine", "--fusion", "sum").model.fusion == "sum"
    for options in (["--task", "segment_classification"], ["--model_name_or_path", "some/checkpoint"]):
        assert "fusion" not in parse(recipe_file, "--modulations", "mine", *options).explicit
    recipe_file.write_text(YAML + "fusion: concat\n")
    assert parse(recipe_file, "--modulations", "mine").model.fusion == "concat"


def test_a_recipe_has_every_option_of_every_task():
    options = {f.name for f in fields(ModelArguments)}
    assert options == {"task", "model_name_or_path", "from_unimodal"} | {
        name for t in TASKS.values() for name in t.options
    }
    for modulation in MODULATIONS.values():
        assert set(modulation().needs(()).model_options) <= options


def test_one_recipe_does_not_leak_into_the_next(recipe_file, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("dataset: digits\nuse_cpu: true\n")
    parser = train_parser()
    parse_recipe(parser, recipe_file, [str(recipe_file), "--output_dir", str(tmp_path / "a")])
    second = parse_recipe(parser, other, [str(other), "--output_dir", str(tmp_path / "b")])
    assert second.training.modulations is None
    assert second.training.learning_rate == 5e-5


def test_explicit_options_are_a_recipe_again(recipe_file, tmp_path):
    recipe = parse(recipe_file, "--modulations.opm.lam", "0.25", "--seed", "3")
    assert recipe.explicit["seed"] == 3
    assert recipe.explicit["learning_rate"] == 0.01
    given = {"modalities", "modulations", "learning_rate", "num_train_epochs", "use_cpu", "output_dir", "seed"}
    assert set(recipe.explicit) == given  # defaults stay out
    write_recipe(recipe.explicit, tmp_path / "again.yaml")
    again = parse_recipe(train_parser(), tmp_path / "again.yaml", [str(tmp_path / "again.yaml")])
    assert again.explicit == recipe.explicit
    assert again.training.to_dict() == recipe.training.to_dict()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learnin_rate: 1\n", "unknown key 'learnin_rate'. Did you mean 'learning_rate'"),
        ("datset: digits\n", "Did you mean 'dataset'"),
        ("- a\n- b\n", "expected a mapping of options, found list"),
        ("a: [1\n", "mine.yaml"),
        ("dataset: digits\ndataset: digits\n", r"\['dataset'\] are given twice"),
        ("modalities: audio\n", "modalities must be a JSON mapping"),
        ("modulations: {opm: {q_base: 2}}\n", "mine.yaml: Modulation 'opm': q_base must be a number in"),
        ("interaction: mmtm\ninteraction_options: [1]\n", "interaction_options must be a mapping"),
        ("auxiliary_loss_weight: much\n", "auxiliary_loss_weight must be a number"),
        ("modulations: {opm: {qbase: 0.2}}\n", "Did you mean 'q_base'"),
        ("modalities: [1]\n", "modalities must be a mapping"),
        ("num_train_epochs: [3]\n", r"num_train_epochs must be a number, found \[3\]"),
        ("num_train_epochs: true\n", "num_train_epochs must be a number, found True"),
        ("seed: 1.5\n", "seed must be a whole number, found 1.5"),
        ("bf16: 3\n", "bf16 must be true or false, found 3"),
        ("max_steps: many\n", "mine.yaml: max_steps must be a whole number, found 'many'"),
        ("metric_for_best_model: [accuracy]\nload_best_model_at_end: false\n", "wrong type"),
        ("a: {b: 1, b: 2}\n", r"\['b'\] are given twice"),
    ],
)
def test_bad_yaml(recipe_file, text, message):
    recipe_file.write_text(text)
    with pytest.raises(ValueError, match=message):
        parse(recipe_file, "--use_cpu", "true")


def test_merge_keys(recipe_file):
    text = "modalities:\n  a: &conv {type: conv, channels: [4]}\n  b:\n    <<: *conv\n    channels: [8]\n"
    recipe_file.write_text(text + "  c: {<<: *conv}\n")
    options = read_recipe(recipe_file)["modalities"]
    assert options["b"] == {"type": "conv", "channels": [8]}
    assert options["c"] == options["a"] == {"type": "conv", "channels": [4]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learnin_rate", "1"], "unknown option '--learnin_rate'. Did you mean 'learning_rate'"),
        (["--modulatons.opm.lam", "1"], "Did you mean 'modulations'"),
        (["--modulations.opm.lam"], "needs a value"),
        (["--learning_rate.x", "1"], "is not a mapping"),
        (["--modulations.opm.q_base.x", "1"], "is not a mapping"),
        (["--modulations.opm", "{"], "--modulations.opm: '{' is not YAML"),
        (["--max_steps", "many"], "invalid int value: 'many'"),
        (["--processors", "{audio"], "--processors must be a JSON mapping"),
        (["--processors", "{audio", "--processors.audio.type", "x"], "--processors must be a JSON mapping"),
        (["--modulations", "{opm"], "modulations must be JSON of a mapping, found '{opm'"),
    ],
)
def test_bad_command_line(recipe_file, arguments, message):
    with pytest.raises(ValueError, match=message):
        parse(recipe_file, *arguments)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.yaml does not exist"):
        read_recipe(tmp_path / "nowhere.yaml")


def test_split_dotted_leaves_other_arguments_alone():
    others, dotted = split_dotted(["a.yaml", "--seed", "1", "--a.b", "1e-3", "--lr=0.1", "--x-y.d-e=[1, 2]"])
    assert others == ["a.yaml", "--seed", "1", "--lr=0.1"]
    assert dotted == [(["a", "b"], 0.001), (["x_y", "d-e"], [1, 2])]


def test_every_option_has_a_help_text():
    undocumented = [action.dest for action in train_parser()._actions if not action.help]
    assert undocumented == []
    assert json.dumps(train_parser().format_help())  # formats without an error


def test_a_recipe_extends_another(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "dataset: digits\nseed: 1\nmodalities:\n  audio: {type: conv, in_channels: 1}\n  visual: {type: conv}\n"
    )
    (tmp_path / "below").mkdir()
    path = tmp_path / "below" / "method.yaml"
    path.write_text(
        "extends: ../base.yaml\nseed: null\nlearning_rate: 1e-1\n"
        "modalities: {audio: {channels: [4]}, visual: {type: mlp, input_size: 3}}\nmodulations: {opm: null}\n"
    )
    assert read_recipe(path) == {
        "dataset": "digits",
        "learning_rate": 0.1,
        "modalities": {
            "audio": {"type": "conv", "in_channels": 1, "channels": [4]},
            "visual": {"type": "mlp", "input_size": 3},
        },
        "modulations": {"opm": None},
    }


@pytest.mark.parametrize(
    "base, message",
    [
        ("method.yaml", "extends itself"),
        ("other.yaml", "extends itself, by way of method.yaml, other.yaml"),
        ("absent.yaml", "absent.yaml does not exist .*method.yaml extends it"),
        ("[a.yaml, b.yaml]", "must be the path of one recipe"),
    ],
)
def test_a_recipe_cannot_extend(tmp_path, base, message):
    path = tmp_path / "method.yaml"
    path.write_text(f"extends: {base}\n")
    (tmp_path / "other.yaml").write_text("extends: method.yaml\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_recipe(path)
