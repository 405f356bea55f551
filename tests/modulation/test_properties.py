"""Every registered method, and the proof methods, have the properties of `hf_bml.testing`."""

from __future__ import annotations

import os

import pytest
from proof_methods import PROOF_METHODS, RegulatesAtOnce
from refused_methods import REFUSED

from hf_bml import MODULATIONS
from hf_bml.testing import PROPERTIES, TWO_PROCESSES, check, launch

METHODS = {**MODULATIONS, **PROOF_METHODS, "inforeg": RegulatesAtOnce}
CHANGES_NOTHING = {
    "ogm": {"alpha": 0},
    "ogm_star": {"alpha": 0},
    "agm": {"alpha": 0},
    "pmr": {"alpha": 0, "mu": 0},
    "inforeg": {"strength": 0},
    "mod_drop": {"p": 0},
    "multi_loss": {"weight": 0},
    "mcr": {"weight": 0, "unimodal_weight": 0},
    "prioritise": {"share": 0},
    "umt": {"weight": 0},
    "sample_valuation": {"level": "modality", "alpha": 0},
    "data_remixing": {"weight": 0, "warmup": 100},
    "dropout": {"p": 0},
    "annealed_dropout": {"p": 0},
    "curriculum_dropout": {"p": 0},
}
PER_MICRO_BATCH = [("opm", {"timing": "current"}), ("opm", {"p_exe": 0.5}), ("ogm", {"placement": "graph"})]


@pytest.fixture(scope="session")
def launched(tmp_path_factory):
    """One launch of two processes for all methods (and for all workers of pytest-xdist)."""
    folder = tmp_path_factory.getbasetemp()
    launch(METHODS.values(), (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "properties")


def check_as_expected(name, property):
    refused = check(METHODS[name], property)
    assert (refused is not None) == (name in REFUSED.get(property, ())), refused


@pytest.mark.parametrize("property", [each for each in PROPERTIES if each not in TWO_PROCESSES])
@pytest.mark.parametrize("name", METHODS)
def test_property(name, property):
    check_as_expected(name, property)


@pytest.mark.slow
@pytest.mark.parametrize("property", TWO_PROCESSES)
@pytest.mark.parametrize("name", METHODS)
def test_property_of_two_processes(launched, name, property):
    check_as_expected(name, property)


@pytest.mark.parametrize("name", CHANGES_NOTHING)
def test_no_strength_is_plain_training(name):
    check(name, "plain training", **CHANGES_NOTHING[name])


@pytest.mark.parametrize(("name", "options"), PER_MICRO_BATCH)
def test_options_that_act_in_each_micro_batch_say_so(name, options):
    assert MODULATIONS[name]().accumulation == "exact"
    check(name, "accumulation", **options)


def test_a_method_is_a_class_a_name_or_a_path():
    for method in (MODULATIONS["dropout"], "dropout", "hf_bml.modulation.dropout:Dropout"):
        check(method, "inactive window")
    with pytest.raises(ValueError, match="Did you mean 'dropout'"):
        check("dropuot", "inactive window")
    with pytest.raises(ValueError, match="Unknown property"):
        check("dropout", "inactive")
    with pytest.raises(ValueError, match="Expected a subclass of Modulation"):
        check("hf_bml.testing:check", "inactive window")
