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
    assert first.shape[1] > second.shape[1]  # one panel more
    assert first.std() > 10


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        (["opm/drop_probability"], ["OPM drop probability, a"]),
        (["ogm/coefficient"], ["OGM gradient coefficient, a"]),
        (["opm/drop_probability", "ogm/coefficient"], ["OPM drop probability, a", "OGM gradient coefficient, a"]),
    ],
)
def test_the_last_panel_shows_what_the_modulations_did(tmp_path, drawn, keys, labels):
    values = [0.4, 0.3]
    history = [
        {"epoch": epoch, "balance/ratio_a": 2.0, **{f"{key}_a": value for key in keys}}
        for epoch, value in enumerate(values)
    ]
    plot_curves(history, ["a"], tmp_path / "curves.png")
    lines = drawn[0].axes[-1].get_lines()
    assert [line.get_label() for line in lines] == labels
    assert all(line.get_ydata().tolist() == values for line in lines)
    assert [axis.get_title() for axis in drawn[0].axes] == ["Discrepancy ratio", "Modulation"]  # no empty panels
    [ratio] = [line for line in drawn[0].axes[0].get_lines() if line.get_label() == "a"]
    assert ratio.get_ydata().tolist() == [2.0, 2.0]


def test_nothing_is_drawn_of_nothing(tmp_path):
    assert not plot_curves([{"epoch": 1.0, "train_runtime": 1.0}], ["a"], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
