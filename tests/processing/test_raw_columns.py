"""Columns of integer samples: their type says what full scale is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, IterableDatasetDict, List, Value

from hf_bml.processing import MultimodalProcessor

AUDIO = {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 1.0, "window_length": 256, "overlap": 128}


@pytest.mark.parametrize("random_crop", [False, True], ids=["stored", "extracted"])
@pytest.mark.parametrize("kind", ["int16", "int32"])
def test_columns_of_integer_samples_keep_their_scale(kind, random_crop):
    options = {**AUDIO, "standardize": False, "random_crop": random_crop}
    wave = (np.sin(np.arange(4000)) * np.iinfo(kind).max * 0.5).astype(kind)
    features = Features(
        {"audio": List(Value(kind)), "timed": {"array": List(Value(kind)), "sampling_rate": Value("int64")}}
    )
    columns = {"audio": [wave, None], "timed": [{"array": wave, "sampling_rate": 8000}, None]}
    data = Dataset.from_dict(columns, features=features)
    processor = MultimodalProcessor({"audio": options, "timed": options}, on_error="mask")
    expected = processor({"audio": [wave], "timed": [wave]})["audio"][0]
    table = DatasetDict({"test": data})
    stream = IterableDatasetDict({"test": data.to_iterable_dataset()})
    for source in (table, stream):
        rows = list(processor.apply(source)["test"])
        torch.testing.assert_close(rows[0]["audio"], expected)
        torch.testing.assert_close(rows[0]["timed"], expected)


def test_undeclared_integer_samples_are_refused():
    data = DatasetDict({"train": Dataset.from_dict({"audio": [[0, 12000, -9000] * 200]})})
    with pytest.raises(ValueError, match=r"modality 'audio': .*found a list of integers"):
        MultimodalProcessor({"audio": AUDIO}).apply(data)
