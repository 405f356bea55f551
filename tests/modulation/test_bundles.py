from __future__ import annotations

import json
import warnings

import pytest
from tiny import tiny_dataset, tiny_model

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import BUNDLES, MODULATIONS, Bundle, build_modulations, bundled_model_options, expanded

BALANCED = {"multi_loss": {"heads": "split"}, "mod_drop": {"p": 0.5, "if_all_dropped": "keep_all"}}


@pytest.mark.parametrize(
    ("specification", "modulations"),
    [
        (None, {}),
        ({"opm": None}, {"opm": None}),
        ("balanced", BALANCED),
        ({"balanced": None}, BALANCED),
        ('{"balanced": {}}', BALANCED),
        ("balanced+opm", {**BALANCED, "opm": {}}),
        ({"balanced": {}, "mod_drop": {"p": 0.2}}, {**BALANCED, "mod_drop": {**BALANCED["mod_drop"], "p": 0.2}}),
        ({"mod_drop": {"p": 0.2}, "balanced": {}}, {**BALANCED, "mod_drop": {**BALANCED["mod_drop"], "p": 0.2}}),
        ({"balanced": {}, "multi_loss": None}, BALANCED),
    ],
)
def test_a_bundle_stands_for_its_modulations(specification, modulations):
    assert expanded(specification) == modulations
    assert {m.name: vars(m.config) for m in build_modulations(specification)} == {
        name: vars(MODULATIONS[name](**(options or {})).config) for name, options in modulations.items()
    }


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("balancd", "Unknown modulation 'balancd'. Did you mean 'balanced'"),
        ({"balanced": {"p": 0.2}}, r"balanced has no options of its own, found \{'p': 0.2\}.*multi_loss or mod_drop"),
        ({"balanced": {}, "mod_drop": 3}, "Options of modulation 'mod_drop' must be a mapping or empty, found 3"),
        (["balanced"], r"modulations must be a mapping .* found \['balanced'\]"),
    ],
)
def test_refused(training_args, specification, message):
    with pytest.raises(ValueError, match=message):
        build_modulations(specification)
    with pytest.raises(ValueError, match=message):
        training_args(modulations=specification)


def test_every_bundle_can_be_built_and_is_no_modulation():
    assert not set(BUNDLES) & set(MODULATIONS)
    for name, bundle in BUNDLES.items():
        assert bundle.help
        assert [modulation.name for modulation in build_modulations(name)] == list(bundle.modulations)


def test_the_arguments_hold_what_it_stands_for_and_take_changes(training_args):
    args = training_args(modulations="balanced")
    assert args.modulations == BALANCED
    setattr(args, "modulations.mod_drop.p", 0.3)
    assert args.modulations["mod_drop"] == {"p": 0.3, "if_all_dropped": "keep_all"}
    assert args.modulations["multi_loss"] == BALANCED["multi_loss"]
    json.dumps(args.to_dict())


def test_trains_with_both_and_logs_their_names(training_args):
    args = training_args(modulations="balanced", max_steps=2, logging_steps=1)
    trainer = MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset())
    trainer.train()
    assert {"multi_loss/loss_audio", "mod_drop/drop_fraction_visual"} <= set(trainer.state.log_history[0])


def test_what_a_bundle_says_of_the_model(monkeypatch):
    monkeypatch.setitem(BUNDLES, "mine", Bundle("Mine.", {"opm": {}}, {"fusion": "bounded"}))
    assert bundled_model_options("opm+mine") == {"fusion": "bounded"}
    assert bundled_model_options({"opm": {}}) == {}


def test_a_model_built_in_python_is_warned_of(monkeypatch, training_args):
    monkeypatch.setitem(BUNDLES, "mine", Bundle("Mine.", {"opm": {}}, {"fusion": "bounded", "logit_bound": 3.0}))

    def warnings_of(args, **options):
        trainer = MultimodalBalancedTrainer(tiny_model(**options), args, train_dataset=tiny_dataset())
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            trainer.train()
        return [str(each.message) for each in record if "are meant for" in str(each.message)]

    args = training_args(modulations="mine", max_steps=1)
    setattr(args, "modulations.opm.q_base", 0.3)
    assert args.bundled_model_options == {"fusion": "bounded", "logit_bound": 3.0}
    [found] = warnings_of(args)
    assert "['opm'] are meant for a model whose config has {'fusion': 'bounded', 'logit_bound': 3.0}" in found
    assert "found the defaults {'fusion': 'concat', 'logit_bound': 5.0}" in found
    assert warnings_of(args, fusion="bounded", logit_bound=2.0) == []  # was chosen
    args.modulations = {"multi_loss": {"heads": "own"}}  # a method's needs are told in the same words
    [found] = warnings_of(args, auxiliary_loss_weight=0.0)
    assert "['multi_loss'] are meant for a model whose config has {'own_head_when_alone': True}" in found
