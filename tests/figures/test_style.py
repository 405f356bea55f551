from __future__ import annotations

import pytest

from hf_bml.figures.style import (
    COLOURS,
    JOINT_COLOUR,
    MODALITY_COLOURS,
    legend_below,
    modality_colours,
    panels,
    percent_axis,
    run_styles,
    save,
)


def test_colours_of_modalities_do_not_depend_on_the_others():
    assert modality_colours(["visual"]) == {"visual": MODALITY_COLOURS["visual"]}
    many = modality_colours(["lidar", "audio", "joint", "radar", "visual"])
    assert many["visual"] == MODALITY_COLOURS["visual"] and many["joint"] == JOINT_COLOUR
    assert len(set(many.values())) == 5
    assert set(modality_colours(map(str, range(10))).values()) == set(COLOURS)  # more than there are: they repeat


def test_styles_of_28_runs_differ():
    styles = run_styles(map(str, range(28)))
    assert len({(style["color"], style["linestyle"]) for style in styles.values()}) == 28
    assert run_styles(["a", "b"])["a"] == run_styles(["a", "c", "b"])["a"]


def test_panels_stand_in_rows(tmp_path, drawn):
    figure, axes = panels(4, columns=3, panel=(2, 1))
    assert len(axes) == len(figure.axes) == 4 and figure.get_size_inches().tolist() == [5, 2]  # at least 5 wide
    assert axes[2].get_subplotspec().colspan.start == 0  # two rows of two
    for axis in axes:
        axis.plot([0, 1], label="same")
    axes[0].plot([1, 0], label="other")
    percent_axis(axes[0], "accuracy")
    legend_below(figure, axes)
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["same", "other"]
    save(figure, tmp_path / "figure.png", "title")
    assert axes[0].get_yticklabels()[-1].get_text() == "100%"
    assert (tmp_path / "figure.png").stat().st_size > 1000 and drawn == [figure]


def test_ticks_between_whole_per_cents_say_so():
    _, [axis] = panels(1)
    axis.plot([0.5, 0.55])
    percent_axis(axis, "accuracy", limits=(0.5, 0.55))
    for place, label in zip(axis.get_yticks(), axis.get_yticklabels(), strict=True):
        assert float(label.get_text().rstrip("%")) == pytest.approx(100 * place)


def test_no_legend_without_labels():
    figure, axes = panels(1)
    legend_below(figure, axes)
    assert not figure.legends
