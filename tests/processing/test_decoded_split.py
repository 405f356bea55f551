"""Raw splits that are decoded once, and their corrupted copies."""

from __future__ import annotations

import io
from functools import partial

import datasets
import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset, DatasetDict, Features, Value

from hf_bml.processing import (
    DecodedSplit,
    LogSpectrogram,
    MultimodalDataCollator,
    MultimodalProcessor,
    corrupted_datasets,
)
from hf_bml.processing.corruptions import build_corruption, default_corruptions
from hf_bml.processing.transforms.base import Transform

AUDIO = {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.1, "window_length": 128, "overlap": 64}
VIDEO = {"type": "video", "num_frames": 2, "size": 8, "num_channels": 3}
WORDS = {"type": "words", "vocabulary": list("abcdefgh")}
CONFIG = {"audio": AUDIO, "visual": VIDEO, "text": WORDS, "sensor": {"type": "features"}}
ROWS = 9


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def raw_split(damaged=()):
    draw = np.random.default_rng(0)
    rows = {"audio": [], "visual": [], "text": [], "sensor": [], "labels": list(range(ROWS))}
    for row in range(ROWS):
        buffer = io.BytesIO()
        soundfile.write(buffer, draw.uniform(-0.5, 0.5, 600 + 40 * row), 8000, format="WAV")
        sound = buffer.getvalue()[: 10 if row in damaged else None]
        rows["audio"].append(None if row == 3 else {"bytes": sound, "path": f"{row}.wav"})
        rows["visual"].append(draw.integers(0, 256, (3, 10, 12, 3)).tolist())
        rows["text"].append(None if row == 5 else " ".join(draw.permutation(list("abcdefgh"))))
        rows["sensor"].append(draw.normal(size=4).tolist())
    frames = datasets.List(datasets.List(datasets.List(datasets.List(Value("uint8")))))
    media = {"bytes": Value("binary"), "path": Value("string")}
    kinds = {"audio": media, "visual": frames, "text": Value("string"), "sensor": datasets.List(Value("float32"))}
    return Dataset.from_dict(rows, features=Features({**kinds, "labels": Value("int64")}))


RAW = raw_split()


def same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, dict):
            same(value, second[name])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name
        else:
            assert value == second[name], name


def all_same(first, second):
    assert len(first) == len(second)
    for index in range(len(first)):
        same(first[index], second[index])


def decoded(split=RAW, config=CONFIG, on_error="raise", **options):
    return DecodedSplit(MultimodalProcessor(config, on_error), split, train=RAW, **options)


def test_clean_is_what_apply_gives():
    applied = MultimodalProcessor(CONFIG).apply(DatasetDict({"test": RAW}), training_split=None)["test"]
    all_same(decoded().clean, applied)


def test_one_modality_of_each_row_is_corrupted_in_order():
    processor = MultimodalProcessor(CONFIG)
    pairs = default_corruptions(processor.transforms)
    clean = decoded().clean
    found = list(corrupted_datasets(processor, RAW, pairs, seed=1, train=RAW))
    assert [(name, corruption) for name, corruption, _ in found] == pairs and len(pairs) == 22
    for name, _, rows in found:
        assert len(rows) == ROWS and rows[-1]["labels"] == ROWS - 1
        for index in range(ROWS):
            row, expected = rows[index], dict(clean[index])
            corrupted, before = row.pop(name), expected.pop(name)
            same(row, expected)
            assert (corrupted is None) == (before is None)
    changed = {name: rows[0][name] for name, corruption, rows in found if corruption.label == "white_noise 0 dB"}
    assert changed["audio"].shape == clean[0]["audio"].shape and not torch.equal(changed["audio"], clean[0]["audio"])


@pytest.mark.parametrize("name", ["white_noise", "babble"])
def test_order_batches_workers_processes_and_streams_change_nothing(name):
    rows = decoded().corrupted("audio", build_corruption(name), seed=3)
    expected = [rows[index] for index in range(ROWS)]
    for index, row in zip((6, 2, 6), rows.__getitems__([6, 2, 6]), strict=True):
        same(row, expected[index])
    mapped = decoded(num_proc=2).corrupted("audio", build_corruption(name), seed=3)
    all_same(mapped, expected)
    streamed = decoded(RAW.to_iterable_dataset(num_shards=2))
    all_same(streamed.corrupted("audio", build_corruption(name), seed=3), expected)
    collate = MultimodalDataCollator(["audio", "sensor"])
    loader = torch.utils.data.DataLoader(rows, batch_size=4, num_workers=2, collate_fn=collate)
    assert torch.equal(torch.cat([b["audio"] for b in loader]), collate(expected)["audio"])
    other = decoded().corrupted("audio", build_corruption(name), seed=4)
    assert not torch.equal(other[0]["audio"], expected[0]["audio"])


def test_dropped_rows_shift_no_numbers():
    whole = decoded().corrupted("sensor", build_corruption("feature_noise"))
    found = decoded(raw_split(damaged=[1]), on_error="skip")
    assert found.rows == [0, 2, *range(3, ROWS)] and [failure["row"] for failure in found.failures] == [1]
    rows = found.corrupted("sensor", build_corruption("feature_noise"))
    for index, row in enumerate(found.rows):
        assert torch.equal(rows[index]["sensor"], whole[row]["sensor"])
    masked = decoded(raw_split(damaged=[1]), on_error="mask").corrupted("audio", build_corruption("babble"))
    assert masked[1]["audio"] is None and masked[2]["audio"] is not None


def test_babble_mixes_other_rows_only():
    config = {"audio": AUDIO}
    twice = RAW.select([0, 0, 3])
    rows = decoded(twice, config).corrupted("audio", build_corruption("babble"))
    with pytest.raises(ValueError, match="another row with sound"):
        rows[0]


def test_features_are_measured_in_the_training_split():
    train = Dataset.from_dict({"sensor": [[0.0, 1.0], [2.0, 1.0]]})
    test = Dataset.from_dict({"sensor": [[5.0, 5.0]]})
    processor = MultimodalProcessor({"sensor": {"type": "features"}})
    for rows in (train, train.to_iterable_dataset()):
        noisy = DecodedSplit(processor, test, train=rows).corrupted("sensor", build_corruption("feature_noise"))
        assert noisy[0]["sensor"][1] == 5 and noisy[0]["sensor"][0] != 5
    with pytest.raises(ValueError, match="Give `train`"):
        DecodedSplit(processor, test).corrupted("sensor", build_corruption("feature_noise"))


def test_signals_are_decoded_once(monkeypatch):
    reads = []
    read = LogSpectrogram.read
    monkeypatch.setattr(LogSpectrogram, "read", lambda self, value: reads.append(value["path"]) or read(self, value))
    found = decoded(config={"audio": AUDIO})
    for name in ("white_noise", "babble", "telephone"):
        rows = found.corrupted("audio", build_corruption(name))
        assert [rows[index]["labels"] for index in range(ROWS)] == list(range(ROWS))
    decoded(config={"audio": {**AUDIO, "augment": {"white_noise": {}}}})  # found in the cache: training is left out
    assert len(reads) == ROWS - 1


class Level(Transform):
    """A transform that declares no signal."""

    def __call__(self, values, training=False):
        return [torch.tensor([max(value)]) for value in values]


def test_what_does_not_fit_is_refused():
    processor = MultimodalProcessor({"sensor": {"type": f"{__name__}:Level"}, "text": WORDS})
    split = DecodedSplit(processor, RAW)
    jpeg = build_corruption("jpeg")
    assert split.modalities == ["text"] and split.clean[0]["sensor"].shape == (1,)
    for make, message in (
        (partial(DecodedSplit, processor, RAW, ["sensor"]), "declare a signal, out of .'text'., found 'sensor'"),
        (partial(DecodedSplit, processor, split.clean), "expected the raw split"),
        (partial(DecodedSplit, MultimodalProcessor({"text": {"type": "words"}}), RAW), "fitted processor"),
        (
            partial(split.corrupted, "sensor", build_corruption("jpeg")),
            "one of the modalities .'text'., found 'sensor'",
        ),
        (partial(split.corrupted, "text", jpeg), "expected a corruption of text"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
