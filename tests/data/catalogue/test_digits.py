from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from datasets import ClassLabel, Image
from PIL import Image as PILImage
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from hf_bml.data import load_multimodal_dataset
from hf_bml.data.catalogue.digits import (
    LINES,
    NUM_SAMPLES,
    SAMPLING_RATE,
    TIMES,
    TelephoneLine,
    dial_tone,
    encode_png,
    frequency_response,
    load,
    transmit,
    writer_splits,
)

KEYPAD = {697: "123", 770: "456", 852: "789", 941: "*0#"}
COLUMNS = [1209, 1336, 1477]
ANALYSIS_FREQUENCIES = np.arange(680, 1500, 4)
ANALYSIS = np.exp(-2j * np.pi * ANALYSIS_FREQUENCIES[:, None] * TIMES)


@pytest.fixture(scope="module")
def dataset():
    return load_multimodal_dataset("digits")


def clips(rows):
    return np.asarray([audio["array"] for audio in rows["audio"]], dtype=np.float32)


def pictures(rows):
    return np.stack([np.asarray(image) for image in rows["visual"]])


def power_at(signal, frequency):
    times = np.arange(len(signal)) / SAMPLING_RATE
    return np.abs(np.exp(-2j * np.pi * frequency * times) @ signal) ** 2


def strongest_key(signal):
    """Key whose row and column tones are the strongest within 1.5 %, the receiver's tolerance in ITU-T Q.24."""
    power = np.abs(ANALYSIS @ signal)

    def strength(tone):
        return power[np.abs(ANALYSIS_FREQUENCIES / tone - 1) <= 0.015].max()

    return KEYPAD[max(KEYPAD, key=strength)][COLUMNS.index(max(COLUMNS, key=strength))]


def test_counts_and_classes(dataset):
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 1030, "validation": 256, "test": 511}
    for rows in dataset.values():
        assert np.bincount(rows["labels"]).min() >= 24


def test_columns_and_types(dataset):
    train = dataset["train"]
    assert train.column_names == ["audio", "visual", "labels"]
    assert train.features["visual"] == Image()
    assert train.features["labels"] == ClassLabel(names=list("0123456789"))
    row = train[0]
    assert row["audio"]["sampling_rate"] == 8000 and len(row["audio"]["array"]) == 2400
    assert row["visual"].size == (8, 8) and row["visual"].mode == "L"


def test_clean_images_and_labels_are_those_of_scikit_learn():
    clean, source = load(image_noise=0.0), load_digits()
    splits = writer_splits(len(source.target))
    for split, rows in clean.items():
        np.testing.assert_array_equal(rows["labels"], source.target[splits == split])
        np.testing.assert_array_equal(pictures(rows), np.round(source.images[splits == split] / 16 * 255))


def test_splits_begin_with_new_forms():
    """Every split boundary lies where the digits start again with 0 to 9, thrice: forms are never cut."""
    target = load_digits().target
    splits = writer_splits(len(target))
    boundaries = np.flatnonzero(splits[1:] != splits[:-1]) + 1
    assert len(boundaries) == 4
    for boundary in boundaries:
        np.testing.assert_array_equal(target[boundary : boundary + 30], np.tile(np.arange(10), 3))


def test_image_alone_is_learnable():
    clean = load(image_noise=0.0)
    inputs = {split: pictures(rows).reshape(len(rows), -1) / 255 for split, rows in clean.items()}
    model = LogisticRegression(max_iter=1000).fit(inputs["train"], clean["train"]["labels"][:])
    assert model.score(inputs["validation"], clean["validation"]["labels"][:]) > 0.93
    assert model.score(inputs["test"], clean["test"]["labels"][:]) > 0.93


def accuracy_of_key_detector(rows):
    return np.mean([strongest_key(clip) == str(y) for clip, y in zip(clips(rows), rows["labels"][:], strict=True)])


def test_audio_carries_the_digit_and_the_lines_hide_it(dataset):
    assert accuracy_of_key_detector(dataset["train"]) > 0.99
    assert accuracy_of_key_detector(dataset["test"]) < accuracy_of_key_detector(dataset["train"])


def test_without_mismatch_audio_transfers_and_images_stay(dataset):
    matched = load(line_mismatch=0.0)
    assert accuracy_of_key_detector(matched["test"]) > 0.99
    np.testing.assert_array_equal(pictures(matched["test"]), pictures(dataset["test"]))
    np.testing.assert_array_equal(clips(matched["train"]), clips(dataset["train"]))
    assert not np.array_equal(clips(matched["test"]), clips(dataset["test"]))


def test_lines_of_the_splits_differ():
    lines = [line for split in LINES.values() for line in split]
    assert len(set(lines)) == len(lines) == 9


def test_loading_twice_gives_the_same_and_the_seed_changes_it(dataset):
    again, other = load(), load(seed=1)
    for split in dataset:
        assert dataset[split].with_format("arrow")[:].equals(again[split].with_format("arrow")[:])
    assert not np.array_equal(clips(dataset["train"]), clips(other["train"]))
    assert not np.array_equal(pictures(dataset["train"]), pictures(other["train"]))


def test_audio_is_16_bit_and_in_range(dataset):
    for rows in dataset.values():
        values = clips(rows)
        assert np.abs(values).max(axis=1).min() > 0.4 and np.abs(values).max() <= 0.9001
        np.testing.assert_array_equal(values * 2**15, np.round(values * 2**15))


@pytest.mark.parametrize("digit", range(10))
def test_dial_tone_is_the_keypads(digit):
    tone, keyed = dial_tone(digit, np.random.default_rng(digit))
    assert strongest_key(tone) == str(digit)
    assert tone.shape == keyed.shape == (NUM_SAMPLES,) and not tone[~keyed].any()
    assert 0.1 <= keyed.sum() / SAMPLING_RATE < 0.2


def test_noise_has_the_stated_level():
    """Behind a perfect line the noise in silence is 20 dB below the tone."""
    ratios = []
    for seed in range(50):
        generator = np.random.default_rng(seed)
        tone, keyed = dial_tone(5, generator)
        received = transmit(tone, keyed, TelephoneLine(), 20.0, generator)
        noise = np.mean(received[~keyed] ** 2)
        ratios.append((np.mean(received[keyed] ** 2) - noise) / noise)
    assert 10 * np.log10(np.mean(ratios)) == pytest.approx(20.0, abs=0.3)


@pytest.mark.parametrize(
    ("line", "frequency", "level"),
    [
        (TelephoneLine(hum_frequency=60.0, hum=0.0), 60.0, -10 * np.log10(sum(1 / k for k in (1, 2, 3, 5, 7, 9)))),
        (TelephoneLine(interference_frequency=1100.0, interference=-6.0), 1100.0, -6.0),
    ],
)
def test_disturbances_have_the_stated_level(line, frequency, level):
    generator = np.random.default_rng(0)
    keyed = np.ones(NUM_SAMPLES, dtype=bool)
    tone = np.sqrt(2) * np.sin(2 * np.pi * 2000 * np.arange(NUM_SAMPLES) / SAMPLING_RATE)
    received = transmit(tone, keyed, line, 80.0, generator)
    assert 10 * np.log10(power_at(received, frequency) / power_at(received, 2000.0)) == pytest.approx(level, abs=0.1)


def test_crosstalk_is_a_key_at_the_stated_level():
    silent_key = np.zeros(NUM_SAMPLES, dtype=bool)
    silent_key[:100] = True
    tone = silent_key * 1.0
    received = transmit(tone, silent_key, TelephoneLine(crosstalk=20.0), 80.0, np.random.default_rng(3))
    assert strongest_key(received) in "0123456789"
    sounding = np.abs(received) > 0.02
    level = np.mean(received[sounding][200:-200] ** 2) / np.mean(received[:100] ** 2)
    assert 10 * np.log10(level) == pytest.approx(20.0, abs=1.0)


def test_frequency_shift_moves_the_tone():
    keyed = np.ones(NUM_SAMPLES, dtype=bool)
    tone = np.sin(2 * np.pi * 1000 * np.arange(NUM_SAMPLES) / SAMPLING_RATE)
    received = transmit(tone, keyed, TelephoneLine(frequency_shift=-20.0), 80.0, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(received))
    assert np.fft.rfftfreq(NUM_SAMPLES, 1 / SAMPLING_RATE)[spectrum.argmax()] == pytest.approx(980.0)


def test_frequency_response_by_hand():
    frequencies = np.fft.rfftfreq(NUM_SAMPLES, 1 / SAMPLING_RATE)
    gain = dict(zip(frequencies.round(), 20 * np.log10(frequency_response(TelephoneLine(tilt=3.0))), strict=True))
    assert [gain[500.0], gain[1000.0], gain[2000.0]] == pytest.approx([-3.0, 0.0, 3.0])
    notched = TelephoneLine(notch_frequency=770.0, notch_depth=15.0)
    gain = dict(zip(frequencies.round(), 20 * np.log10(frequency_response(notched)), strict=True))
    assert [gain[770.0], gain[830.0], gain[2000.0]] == pytest.approx([-15.0, -15.0 * np.exp(-0.5), 0.0])


def test_scaled_line():
    line = TelephoneLine(tilt=4.0, notch_depth=10.0, frequency_shift=8.0, hum=-6.0, crosstalk=0.0, extra_noise=16.0)
    half = line.scaled(0.5)
    assert (half.tilt, half.notch_depth, half.frequency_shift, half.extra_noise) == (2.0, 5.0, 4.0, 8.0)
    assert half.hum == pytest.approx(-12.0206, abs=1e-4) and half.crosstalk == pytest.approx(-6.0206, abs=1e-4)
    assert line.scaled(1.0) == line and line.scaled(0.0) == TelephoneLine()


def test_pinned_samples(dataset):
    """Guards against silent changes: coarse values of a few rows, so that other platforms' last bits do not matter."""
    images = pictures(dataset["test"])[[0, 510]]
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "cad8666355a16501"
    values = clips(dataset["test"])[[0, 255, 510]][:, 800:1100:100]
    np.testing.assert_allclose(
        values, [[-0.1146, 0.0031, 0.2368], [-0.1256, -0.2413, 0.011], [-0.0461, 0.4989, -0.3695]], atol=1e-3
    )


def test_encode_png_noise_has_the_stated_deviation():
    file = encode_png(np.full((100, 100), 0.5), 0.1, np.random.default_rng(0))
    pixels = np.asarray(PILImage.open(io.BytesIO(file))) / 255
    assert pixels.mean() == pytest.approx(0.5, abs=0.005) and pixels.std() == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("options", [{"line_mismatch": -1.0}, {"image_noise": -0.1}, {"seed": -1}])
def test_negative_options_are_refused(options):
    with pytest.raises(ValueError, match=f"Expected {next(iter(options))} >= 0"):
        load(**options)
