import numpy as np
import pytest
from PIL import Image

from hf_bml.analysis.comparison import Row
from hf_bml.figures import bars


def row(label, *accuracies, audio=(), **options):
    runs = [{"accuracy": accuracy} for accuracy in accuracies]
    for run, value in zip(runs, audio, strict=False):
        run["accuracy_audio"] = value
    return Row(label, methods=label.split(":")[0], runs=runs, **options)


def test_bars_are_means_and_error_bars_standard_deviations(tmp_path, drawn):
    rows = [row("none", 0.5, 0.7, audio=(0.2, 0.4)), row("opm", 0.8, 0.9)]
    bars.plot_bars(rows, tmp_path / "bars.png", "title")
    axis = drawn[0].axes[0]
    joint, audio = (container for container in axis.containers if hasattr(container, "patches"))
    assert [patch.get_width() for patch in joint.patches] == pytest.approx([60, 85])
    assert audio.patches[0].get_width() == pytest.approx(30)
    (segments,) = joint.errorbar.lines[2]
    ends = [segment[:, 0].tolist() for segment in segments.get_segments()]
    assert ends[0] == pytest.approx([60 - 100 * np.sqrt(0.02), 60 + 100 * np.sqrt(0.02)])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["none", "opm"]
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts == ["none, all modalities", "all modalities", "audio"]


def test_pictures_grow_with_the_rows(tmp_path):
    """Also: one seed, so no error bars; other models; recipes; labels that need several lines."""
    long = "opm:q_base=0.3,lam=0.25+ogm:alpha=0.8,noise=entry_std"
    few = [row("none", 0.5), row(long, 0.6, model="interaction=mmtm", recipe="film")]
    bars.plot_bars(few, tmp_path / "few.png")
    bars.plot_bars([row(f"mod_drop:p={index}", 0.5, 0.6) for index in range(20)], tmp_path / "many.png")
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("few.png", "many.png"))
    assert second.shape[0] > 2 * first.shape[0] and second.shape[1] == first.shape[1]
    assert first.std() > 10 and second.std() > 10
    lines = bars.wrapped(few[1]).split("\n")
    assert lines[-1] == "(interaction=mmtm)" and max(map(len, lines)) <= bars.LABEL_WIDTH
    assert "".join(lines[:-1]).replace(" ", "") == f"film:{long}"


def test_times_are_relative_to_the_reference(tmp_path, drawn):
    rows = [row("none", 0.5), row("opm", 0.5), row("resumed", 0.5)]
    for one, seconds in zip(rows, (2.0, 3.0), strict=False):
        one.runs[0]["train_seconds"] = seconds
    bars.plot_times(rows, tmp_path / "times.png")
    [axis] = drawn[-1].axes
    assert [patch.get_width() for patch in axis.patches] == [1.0, 1.5, 0.0]
    assert [text.get_text() for text in axis.texts] == ["1.00", "1.50", "not measured"]
    assert axis.get_xlabel() == "training time (none = 1)"
    for one in rows:
        one.runs[0]["epoch_seconds"] = 2.0
    bars.plot_times(rows, tmp_path / "times.png")
    assert drawn[-1].axes[0].get_xlabel() == "time of an epoch (none = 1)"


def test_a_modality_has_its_colour_whatever_else_is_there(tmp_path, drawn):
    rows = [row("unimodal_visual", 0.5)]
    rows[0].runs[0]["accuracy_visual"] = 0.5
    bars.plot_bars(rows, tmp_path / "one.png")
    rows[0].runs[0]["accuracy_audio"] = 0.25
    bars.plot_bars(rows, tmp_path / "two.png")
    colours = [
        {bar.get_label(): bar.patches[0].get_facecolor() for bar in figure.axes[0].containers} for figure in drawn
    ]
    assert colours[0]["visual"] == colours[1]["visual"] != colours[1]["audio"]


def test_types_of_questions_are_no_modalities():
    runs = [{"accuracy": 0.5, "accuracy_on_audio_counting": 0.7, "accuracy_text": 0.4}]
    assert bars.accuracy_metrics([Row("avsd", runs=runs)]) == ["accuracy", "accuracy_text"]
