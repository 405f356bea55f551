import doctest
import importlib

import pytest

MODULES = ["spectrogram", "frames", "features", "processing_multimodal", "collator"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    results = doctest.testmod(importlib.import_module(f"hf_bml.processing.{name}"))
    assert results.attempted > 0 and results.failed == 0
