import numpy as np
import pytest
from PIL import Image

from hf_bml.figures.confusion_matrix import most_confused, plot_confusion, row_shares


def test_rows_are_shares_of_the_true_class():
    assert row_shares([[3, 1], [0, 0]]).tolist() == [[0.75, 0.25], [0, 0]]


def test_the_largest_confusions_first():
    found = most_confused([[5, 1, 4], [2, 8, 0], [0, 1, 1]], ["a", "b", "c"], most=3)
    assert found == [("a", "c", 4, 0.4), ("b", "a", 2, 0.2), ("c", "b", 1, 0.5)]


@pytest.mark.parametrize(
    ("count", "numbers", "ticks"), [(6, 6, 6), (20, 0, 20), (120, 0, 12)], ids=["few", "some", "many"]
)
def test_readable_for_any_number_of_classes(tmp_path, drawn, count, numbers, ticks):
    names = [f"a class with a rather long name {i}" for i in range(count)]
    plot_confusion(np.eye(count, dtype=int) * 5, names, tmp_path / "confusion.png")
    axis = drawn[0].axes[0]
    assert len(axis.texts) == numbers
    assert len(axis.get_xticks()) == len(axis.get_yticks()) == ticks
    assert max(len(label.get_text()) for label in axis.get_yticklabels()) <= 24
    assert max(Image.open(tmp_path / "confusion.png").size) <= 1300
