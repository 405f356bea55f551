from __future__ import annotations

from hf_bml.figures.embedding_scatter import MOST_CLASSES, plot_embeddings


def test_a_panel_per_modality(tmp_path, drawn):
    points = [[0.0, 1.0, 0], [1.0, 0.0, 1], [2.0, 2.0, 1]]
    plot_embeddings({"a": points, "joint": points}, ["cat", "dog"], tmp_path / "features.png")
    a, joint = drawn[0].axes
    assert (a.get_title(), joint.get_title()) == ("a", "all modalities")
    assert {dots.get_label(): len(dots.get_offsets()) for dots in a.collections} == {"cat": 1, "dog": 2}


def test_of_many_classes_the_frequent_ones_have_colours(tmp_path, drawn):
    points = [[float(i), 0.0, label] for label in range(30) for i in range(1 + (label < MOST_CLASSES))]
    plot_embeddings({"a": points}, [f"c{i}" for i in range(30)], tmp_path / "features.png")
    labels = [dots.get_label() for dots in drawn[0].axes[0].collections]
    assert labels == ["18 other classes", *[f"c{i}" for i in range(MOST_CLASSES)]]
