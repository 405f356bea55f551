from __future__ import annotations

from hf_bml.figures.probe_curves import final_alone, final_probe, plot_probes, probe_curve

PROBE = {
    "split": "test",
    "settings": {},
    "checkpoints": [
        {"step": 10, "epoch": 1.0, "accuracy": {"a": 0.4, "b": 0.3}},
        {"step": 20, "epoch": 2.0, "accuracy": {"a": 0.6, "b": 0.5}},
    ],
    "alone": {"a": {"checkpoints": [{"step": 10, "epoch": 1.0, "accuracy": 0.7}], "accuracy": 0.75}},
}
BARE = {**PROBE, "alone": {}}


def test_values_of_probes():
    assert probe_curve(PROBE["checkpoints"], "a") == ([1.0, 2.0], [0.4, 0.6])
    assert final_probe(PROBE, "b") == 0.5 and final_probe(PROBE, "c") is None
    kept = [{**entry, "final": entry["step"] == 10} for entry in PROBE["checkpoints"]]
    assert final_probe({**PROBE, "checkpoints": kept}, "b") == 0.3
    assert final_alone(PROBE, "a") == 0.75 and final_alone(BARE, "a") is None and final_alone(PROBE, "b") is None


def test_a_model_trained_alone_over_its_epochs(tmp_path, drawn):
    entries = [{"step": 10, "epoch": 1.0, "accuracy": 0.6}, {"step": 20, "epoch": 2.0, "accuracy": 0.7}]
    probe = {**PROBE, "alone": {"a": {"checkpoints": entries, "accuracy": 0.7}}}
    plot_probes({"opm": [probe]}, ["a"], tmp_path / "probes.png")
    [axis] = drawn[0].axes
    assert axis.get_lines()[-1].get_ydata().tolist() == [0.6, 0.7]


def test_a_panel_per_modality_and_one_for_all_of_them(tmp_path, drawn):
    histories = {"opm": [[{"epoch": 1.0, "eval_accuracy": 0.9}]]}
    plot_probes({"opm": [PROBE]}, ["a", "b"], tmp_path / "probes.png", histories)
    first, second, joint = drawn[0].axes
    assert {line.get_label(): list(line.get_ydata()) for line in first.get_lines()} == {
        "opm": [0.4, 0.6],
        "trained alone": [0.75, 0.75],  # its final accuracy, from side to side
    }
    assert [line.get_label() for line in second.get_lines()] == ["opm"]
    assert joint.get_title() == "all modalities, validation" and joint.get_lines()[0].get_ydata().tolist() == [0.9]


def test_a_final_accuracy_alone_is_a_line(tmp_path, drawn):
    probe = {**PROBE, "alone": {"a": {"checkpoints": [], "accuracy": 0.75}}}
    plot_probes({"opm": [probe]}, ["a"], tmp_path / "probes.png")
    [axis] = drawn[0].axes
    assert axis.get_lines()[1].get_ydata() == [0.75, 0.75]


def test_a_single_checkpoint_has_one_tick(tmp_path, drawn):
    probe = {**BARE, "checkpoints": PROBE["checkpoints"][:1]}
    plot_probes({"opm": [probe], "concat": [probe]}, ["a"], tmp_path / "probes.png")
    [axis] = drawn[0].axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1"] and list(axis.get_xticks()) == [1.0]
