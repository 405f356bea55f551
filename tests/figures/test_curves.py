from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_bml.figures.curves import plot_curves, series

HISTORY = [
    {"epoch": 1.0, "loss": 1.0, "balance/ratio_a": 2.0, "unimodal/accuracy_a": 0.5, "opm/drop_probability_a": 0.4},
    {"epoch": 1.0, "eval_loss": 1.1, "eval_accuracy": 0.6, "eval_accuracy_a": 0.4},
    {"epoch": 2.0, "loss": 0.5, "balance/ratio_a": 1.5, "unimodal/accuracy_a": 0.7, "opm/drop_probability_a": 0.3},
    {"epoch": 2.0, "train_runtime": 1.0},
]


def test_series_picks_the_entries_that_have_the_key():
    assert series(HISTORY, "loss") == ([1.0, 2.0], [1.0, 0.5])
    assert series(HISTORY, "eval_accuracy") == ([1.0], [0.6])
    assert series(HISTORY, "nothing") == ([], [])


def test_picture_is_drawn_with_and_without_modulation(tmp_path):
    plot_curves(HISTORY, ["a"], tmp_path / "with.png", "title")
    bare = [{k: v for k, v in entry.items() if not k.startswith(("opm", "eval"))} for entry in HISTORY]
    plot_curves(bare, ["a"], tmp_path / "without.png")
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("with.png", "without.png"))
    assert first.shape[0] > 1.5 * second.shape[0]  # five panels in two rows, three in one
    assert first.std() > 10


@pytest.mark.parametrize(
    ("keys", "panels"),
    [
        (["opm/drop_probability"], {"OPM": "drop probability"}),
        (["ogm/coefficient"], {"OGM": "gradient coefficient"}),
        (["opm/drop_probability", "ogm/coefficient"], {"OPM": "drop probability", "OGM": "gradient coefficient"}),
    ],
)
def test_a_panel_per_modulation_shows_what_it_did(tmp_path, drawn, keys, panels):
    values = [0.4, 0.3]
    history = [
        {"epoch": epoch, "balance/ratio_a": 2.0, **{f"{key}_{m}": value for m in "ab" for key in keys}}
        for epoch, value in enumerate(values)
    ]
    plot_curves(history, ["a", "b"], tmp_path / "curves.png")
    ratio, *others = drawn[0].axes
    assert {axis.get_title(): axis.get_ylabel() for axis in others} == panels  # no empty panels
    for axis in others:
        assert {line.get_label(): line.get_ydata().tolist() for line in axis.get_lines()} == {"a": values, "b": values}
    [line] = [line for line in ratio.get_lines() if line.get_label() == "a"]
    assert ratio.get_title() == "Ratio on training batches" and line.get_ydata().tolist() == [2.0, 2.0]


def test_six_modalities_have_six_colours_and_one_legend(tmp_path, drawn):
    names = ["a", "b", "c", "d", "e", "f"]
    log = {f"{key}_{m}": 0.5 for m in names for key in ("unimodal/accuracy", "eval_accuracy", "balance/ratio")}
    plot_curves([{"epoch": 1.0, "eval_accuracy": 0.7, **log}], names, tmp_path / "curves.png")
    validation, training, _ = drawn[0].axes
    assert [axis.get_title() for axis in (validation, training)] == [
        "Validation accuracy",
        "Accuracy on training batches",
    ]
    assert len({line.get_color() for line in validation.get_lines()}) == 7  # with that of all modalities
    assert [line.get_color() for line in training.get_lines()] == [
        line.get_color() for line in validation.get_lines()[1:]
    ]
    assert all(line.get_marker() == "o" for line in training.get_lines())  # one epoch is a point, which a line hides
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["all modalities", *names]
    assert list(training.get_xticks()) == [1.0]


def test_nothing_is_drawn_of_nothing(tmp_path):
    assert not plot_curves([{"epoch": 1.0, "train_runtime": 1.0}], ["a"], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
