from __future__ import annotations

import pytest

from hf_bml import MODULATIONS, Modulation
from hf_bml.modulation import BUNDLES, Bundle, Needs
from hf_bml.study.methods import Method, check_used, method_of, parse_method


@pytest.fixture(autouse=True)
def other_models(monkeypatch):
    """Two modulations that need models of their own, and do not agree."""
    for name, options in (("meets", {"interaction": "mmtm"}), ("attends", {"interaction": "cross_attention"})):
        needs = Needs(model_options=options)
        members = {"name": name, "needs": lambda self, modalities, needs=needs: needs}
        monkeypatch.setitem(MODULATIONS, name, type(name, (Modulation,), members))


@pytest.mark.parametrize(
    ("text", "modulations", "borrowed", "names"),
    [
        ("none", {}, (), "none"),
        ("opm", {"opm": {}}, (), "opm"),
        ("ogm+opm", {"ogm": {}, "opm": {}}, (), "ogm+opm"),
        ("opm:q_base=0.3,lam=0.25", {"opm": {"q_base": 0.3, "lam": 0.25}}, (), "opm"),
        (
            "opm:q_base=3e-1+ogm:noise=entry_std",
            {"opm": {"q_base": 0.3}, "ogm": {"noise": "entry_std"}},
            (),
            "opm+ogm",
        ),
        ("ogm:alpha=1e+0+opm", {"ogm": {"alpha": 1.0}, "opm": {}}, (), "ogm+opm"),
        ("opm:end=null,rescale=true", {"opm": {"end": None, "rescale": True}}, (), "opm"),
        ("opm:weights=[1, 2],more={a: 1, b: 2}", {"opm": {"weights": [1, 2], "more": {"a": 1, "b": 2}}}, (), "opm"),
        ("opm:name='a b',number='3'", {"opm": {"name": "a b", "number": "3"}}, (), "opm"),
        ("balanced", {"balanced": {}}, (), "balanced"),
        ("balanced+mod_drop:p=0.3", {"balanced": {}, "mod_drop": {"p": 0.3}}, (), "balanced+mod_drop"),
        ("none@meets", {}, ("meets",), "none"),
        ("unimodal_init+opm:lam=1@meets", {"opm": {"lam": 1}}, ("meets",), "unimodal_init+opm"),
        ("ensemble:average=logits", {}, (), "ensemble"),
        ("opm:lam=1+ogm@meets+attends", {"opm": {"lam": 1}, "ogm": {}}, ("meets", "attends"), "opm+ogm"),
    ],
)
def test_reads_methods_and_writes_them_again(text, modulations, borrowed, names):
    method = parse_method(text)
    assert (method.modulations, method.borrowed, method.names) == (modulations, borrowed, names)
    assert list(method.modulations) == list(modulations)  # the order counts
    assert parse_method(method.label) == method


def test_the_method_of_a_run():
    for text in ("none", "opm:lam=1", "unimodal_init+opm", "ensemble", "ensemble:average=logits"):
        method = parse_method(text)
        assert method_of({"modulations": method.modulations, **method.start_changes}).label == text


def test_options_of_the_text_win_over_defaults_and_all_are_in_the_label():
    defaults = {"opm": {"q_base": 0.8, "lam": 1.0}, "ogm": None, "unused": {"a": 1}}
    assert parse_method("opm:q_base=0.3+ogm", defaults).label == "opm:q_base=0.3,lam=1.0+ogm"
    assert defaults["opm"] == {"q_base": 0.8, "lam": 1.0}
    assert parse_method("none", defaults) == Method()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("opn", "unknown modulation 'opn'. Did you mean 'opm'"),
        ("", "unknown modulation ''"),
        ("opm+", "unknown modulation 'opm\\+'. Did you mean 'opm'"),
        ("balancd", "unknown modulation 'balancd'. Did you mean 'balanced'"),
        ("none@balanced", "balanced needs no model of its own"),
        ("opm+nothing", "unknown modulation 'nothing'"),
        ("opm+opm:lam=1", "opm is given twice"),
        ("opm+none", "none is used by itself"),
        ("none:a=1", "none is used by itself"),
        ("opm:", "expected options like q_base=0.3,lam=0.25 after the colon, found ''"),
        ("opm:0.3", "expected options like"),
        ("opm:lam=1,0.3", "expected options like"),
        ("opm:lam=[1", "cannot be read"),
        ("opm:lam=1,lam=2", r"\['lam'\] are given twice"),
        ("none@", "unknown modulation ''"),
        ("none@opm", "opm needs no model of its own. Leave out '@opm'"),
        ("none@meet", "Did you mean 'meets'"),
    ],
)
def test_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_method(text)


def test_model_options_are_those_of_all_modulations():
    assert parse_method("opm+meets").model_options == {"interaction": "mmtm"}
    assert parse_method("none@meets").model_options == {"interaction": "mmtm"}
    assert parse_method("opm").model_options == {}
    assert parse_method("opm+meets@meets").plain == "none@meets" and parse_method("opm").plain == "none"
    with pytest.raises(
        ValueError, match=r"'meets@attends': .* interaction to be 'mmtm' and 'cross_attention' at once"
    ):
        _ = parse_method("meets@attends").model_options


def test_options_for_nobody():
    check_used([parse_method("opm"), parse_method("ogm")], ["ogm"])
    with pytest.raises(ValueError, match=r"--modulations\.ogn: no method contains 'ogn'\. Did you mean 'ogm'"):
        check_used([parse_method("opm+ogm")], ["ogn"])


def test_a_bundle_may_need_a_model(monkeypatch):
    monkeypatch.setitem(BUNDLES, "mine", Bundle("Mine.", {"opm": {}, "meets": {}}, {"fusion": "bounded"}))
    needed = {"fusion": "bounded", "interaction": "mmtm"}
    assert parse_method("mine").model_options == parse_method("none@mine").model_options == needed
    assert parse_method("mine").plain == "none@mine"
