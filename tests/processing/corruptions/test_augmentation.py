"""Corruptions in training, through `MultimodalProcessor`."""

from __future__ import annotations

from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, IterableDatasetDict, List, Value

from hf_bml.processing import (
    FeatureVector,
    FrameTransform,
    LogSpectrogram,
    MultimodalProcessor,
    augmentation_of,
    augmentation_text,
)
from hf_bml.processing.corruptions import Surroundings
from hf_bml.processing.corruptions.augmentation import build_augmentation, corruptions_among
from hf_bml.processing.transforms.base import Transform
from hf_bml.training.seeded_rows import SeededRows
from hf_bml.training.streamed_rows import EndlessStream

AUDIO = {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.1, "window_length": 128, "overlap": 64}
NOISE = {"white_noise": {"snr": [0, 20]}}
ROWS = 6


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def raw(rows=ROWS):
    draw = np.random.default_rng(0)
    columns = {
        "audio": [draw.uniform(-0.5, 0.5, 700).tolist() for _ in range(rows)],
        "text": ["a b c d e f g h"] * rows,
        "sensor": [draw.normal(size=4).tolist() for _ in range(rows)],
        "visual": [draw.integers(0, 256, (10, 12)).tolist() for _ in range(rows)],
        "labels": list(range(rows)),
    }
    kinds = {"audio": List(Value("float32")), "text": Value("string"), "sensor": List(Value("float32"))}
    kinds |= {"visual": List(List(Value("uint8"))), "labels": Value("int64")}
    return Dataset.from_dict(columns, features=Features(kinds))


def applied(config, train=None, **options):
    train = raw() if train is None else train
    return MultimodalProcessor(config).apply(DatasetDict({"train": train, "test": raw(2)}), **options)


def drawn(dataset, name, seed=0):
    rows = SeededRows(dataset, seed)
    return [rows[index][name] for index in range(len(rows))]


def same(first, second):
    pairs = zip(first, second, strict=True)
    return [
        torch.equal(a["input_ids"], b["input_ids"]) if isinstance(a, dict) else torch.equal(a, b) for a, b in pairs
    ]


ALL = {
    "audio": {**AUDIO, "augment": {**NOISE, "babble": {}, "telephone": None, "p": 0.9}},
    "text": {"type": "words", "vocabulary": list("abcdefgh"), "augment": {"word_drop": {"fraction": [0.2, 0.8]}}},
    "sensor": {"type": "features", "augment": {"feature_noise": {}}},
    "visual": {"type": "frames", "size": 8, "num_channels": 1, "augment": {"jpeg": {"quality": [5, 50]}, "blur": {}}},
}


@pytest.mark.parametrize("name", list(ALL))
def test_only_training_is_corrupted_anew_at_each_access_and_repeatably(name):
    plain = {key: value for key, value in ALL[name].items() if key != "augment"}
    clean, augmented = applied({name: plain}), applied({name: ALL[name]})
    assert all(same([row[name] for row in augmented["test"]], [row[name] for row in clean["test"]]))
    first = drawn(augmented["train"], name)
    assert not all(same(first, [row[name] for row in clean["train"]]))
    assert all(same(first, drawn(augmented["train"], name)))
    assert not all(same(first, drawn(augmented["train"], name, seed=1)))
    unaugmented = applied({name: ALL[name]}, augment=False)["train"]
    assert all(same([row[name] for row in unaugmented], [row[name] for row in clean["train"]]))


@pytest.mark.parametrize("name", ["audio", "text", "visual"])
def test_a_stream_draws_what_a_table_draws(name):
    rows = applied({name: ALL[name]})["train"]
    stream = MultimodalProcessor({name: ALL[name]}).apply(IterableDatasetDict({"train": raw().to_iterable_dataset()}))
    torch.manual_seed(5)
    from_table = [rows[index][name] for index in range(ROWS)]
    torch.manual_seed(5)
    assert all(same(from_table, [row[name] for row in stream["train"]]))


def test_the_seed_of_a_row_gives_its_draws_in_any_order_and_in_workers():
    rows = SeededRows(applied({"audio": ALL["audio"]})["train"], 0)
    expected = [rows[index]["audio"] for index in range(ROWS)]
    assert all(same([row["audio"] for row in rows.__getitems__([4, 1])], [expected[4], expected[1]]))
    loader = torch.utils.data.DataLoader(rows, batch_size=2, num_workers=2, collate_fn=list)
    assert all(same([row["audio"] for batch in loader for row in batch], expected))
    rows.set_epoch(1)
    assert not all(same([rows[index]["audio"] for index in range(ROWS)], expected))


def test_a_resumed_stream_draws_what_it_would_have_drawn():
    train = MultimodalProcessor({"audio": ALL["audio"]}).apply(
        IterableDatasetDict({"train": raw(20).to_iterable_dataset()})
    )["train"]

    def rows(skipped):
        stream = EndlessStream(train, seed=0, batch_size=2)
        stream.skipped_batches = skipped
        return list(islice(stream, 50))  # two passes and a half

    whole, resumed = rows(0), rows(6)
    assert resumed[:12] == [None] * 12
    assert all(same([row["audio"] for row in whole[12:]], [row["audio"] for row in resumed[12:]]))


def test_babble_is_of_training_rows():
    config = {"audio": {**AUDIO, "augment": {"babble": {"snr": -60, "num_others": 1}}, "standardize": True}}
    clips = torch.zeros(3, 800)
    for index, hertz in enumerate((500, 1000, 2000)):
        clips[index] = 0.1 * torch.sin(2 * torch.pi * hertz * torch.arange(800) / 8000)
    train = Dataset.from_dict({"audio": clips.tolist()}, features=Features({"audio": List(Value("float32"))}))
    rows = MultimodalProcessor(config).apply(DatasetDict({"train": train}))["train"]
    bins = torch.tensor([8, 16, 32])  # of 62.5 Hz
    heard = {index: set() for index in range(3)}
    for seed in range(8):
        for index, spectrogram in enumerate(drawn(rows, "audio", seed)):
            heard[index].add(int((spectrogram[0].mean(1).argmax() - bins).abs().argmin()))
    assert heard == {0: {1, 2}, 1: {0, 2}, 2: {0, 1}}
    with pytest.raises(ValueError, match="at least 2 training rows with sound, found 1"):
        MultimodalProcessor(config).apply(DatasetDict({"train": train.select([0])}))


def test_features_on_a_stream_are_refused():
    stream = IterableDatasetDict({"train": raw().to_iterable_dataset()})
    with pytest.raises(ValueError, match="modality 'sensor': feature_noise expects"):
        MultimodalProcessor({"sensor": ALL["sensor"]}).apply(stream)


def test_p_and_ranges_are_drawn_uniformly():
    augmentation = build_augmentation("audio", LogSpectrogram(), {**NOISE, "telephone": {}, "p": 0.5})
    clip = torch.sin(torch.arange(2000.0))
    torch.manual_seed(0)
    found = [augmentation(clip, Surroundings(8000)) for _ in range(600)]
    touched = [noisy for noisy in found if noisy is not clip]
    assert 250 < len(touched) < 350
    ratios = [float(10 * torch.log10(clip.square().mean() / (noisy - clip).square().mean())) for noisy in touched]
    noisy = sorted(ratio for ratio in ratios if ratio < 20.1)
    telephone = len(ratios) - len(noisy)
    assert 100 < telephone < 200 and -0.1 < noisy[0] < 1.5 and noisy[-1] > 18.5
    assert 8 < np.mean(noisy) < 12


def test_both_kinds_of_augmentation_of_an_image():
    options = {"type": "frames", "size": 8, "num_channels": 1, "augment": ["crop_flip", {"gaussian_noise": {}}]}
    processor = MultimodalProcessor({"visual": options})
    assert processor.transforms["visual"].is_random and list(processor.augmentations) == ["visual"]
    only_crop = MultimodalProcessor({"visual": {**options, "augment": "crop_flip"}})
    assert only_crop.augmentations == {} and only_crop.transforms["visual"].is_random
    assert corruptions_among(["a", "b"]) == (["a", "b"], None)
    with pytest.raises(ValueError, match="or as a list of both"):
        corruptions_among([{}, {}])


def test_random_frames_are_corrupted_after_they_are_drawn():
    clip = torch.arange(0, 200, 10, dtype=torch.uint8)[:, None, None, None].expand(20, 3, 8, 8)
    options = {"type": "video", "num_frames": 2, "size": 8, "sampling": "random", "mean": [0.0] * 3, "std": [1.0] * 3}
    processor = MultimodalProcessor({"visual": {**options, "augment": {"gaussian_noise": {"sigma": 0.001}}}})
    torch.manual_seed(0)
    levels = {
        round(float(frame.mean()) * 25.5)
        for _ in range(20)
        for frame in processor({"visual": [clip]}, training=True)["visual"][0]
    }
    assert len(levels) > 8


def test_it_is_saved_and_told(tmp_path):
    processor = MultimodalProcessor(ALL)
    processor.save_pretrained(tmp_path)
    loaded = MultimodalProcessor.from_pretrained(tmp_path)
    assert augmentation_of(loaded) == augmentation_of(processor)
    assert augmentation_of(loaded)["visual"] == {"jpeg": {"quality": [5, 50]}, "blur": {}, "p": 1.0}
    assert augmentation_text(loaded) == (
        "Training saw 90 % of audio corrupted by white_noise (snr 0 to 20 dB) or babble (snr 0 dB) or telephone; "
        "100 % of text corrupted by word_drop (fraction 0.2 to 0.8); 100 % of sensor corrupted by feature_noise "
        "(scale 1 sd); 100 % of visual corrupted by jpeg (quality 5 to 50) or blur (fraction 0.04)."
    )


class Level(Transform):
    """A transform that declares no signal."""

    def __call__(self, values, training=False):
        return [torch.tensor([max(value)]) for value in values]


@pytest.mark.parametrize(
    ("transform", "options", "message"),
    [
        (LogSpectrogram(), {"p": 0.5}, "expected a corruption out of .* found none"),
        (LogSpectrogram(), {**NOISE, "p": 0}, r"p in \(0, 1\], found 0"),
        (LogSpectrogram(), {"white_noise": {"snr": [20, 0]}}, r"\[lowest, highest\], found \[20, 0\]"),
        (LogSpectrogram(), {"white_noise": {"snr": [1, 2, 3]}}, r"\[lowest, highest\]"),
        (LogSpectrogram(), {"white_noise": {"snr": ["a", 3]}}, "found 'a'"),
        (LogSpectrogram(), {"babble": {"num_others": [1, 2]}}, "num_others"),
        (FrameTransform(), {"jpeg": {"quality": [5, 99]}}, "found 99"),
        (FeatureVector(), NOISE, "corruption of vector"),
        (Level(), NOISE, "modality 'x': white_noise expects a transform that declares its signal, found Level"),
    ],
)
def test_options_are_checked(transform, options, message):
    with pytest.raises(ValueError, match=message):
        build_augmentation("x", transform, options)


def test_messages_name_the_modality():
    with pytest.raises(ValueError, match=r"modality 'audio': Unknown corruption 'white_nois'. Did you mean"):
        MultimodalProcessor({"audio": {**AUDIO, "augment": {"white_nois": {}}}})
