import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def drawn(monkeypatch):
    """Keeps the figures that are drawn; the last one is the last."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    yield figures
    monkeypatch.undo()
    for figure in figures:
        plt.close(figure)
