from __future__ import annotations

import pytest
import torch

from hf_bml.processing import CORRUPTIONS, FeatureVector, FrameTransform, LogSpectrogram, RGBDifference, Words
from hf_bml.processing.corruptions import (
    Surroundings,
    build_corruption,
    check_corruptible,
    default_corruptions,
    row_generator,
    training_std,
)
from hf_bml.processing.transforms.base import Transform

TEXT = "one two three four five six seven eight nine ten"


class Level(Transform):
    """A transform that declares no signal."""

    def __call__(self, values, training=False):
        return [torch.tensor([max(value)]) for value in values]


def test_draws_depend_on_the_four_alone():
    first = row_generator(0, "white_noise", "audio", 3).bit_generator.random_raw()
    assert first == 6889920106777702758 == row_generator(0, "white_noise", "audio", 3).bit_generator.random_raw()
    for other in ((1, "white_noise", "audio", 3), (0, "babble", "audio", 3), (0, "white_noise", "b", 3)):
        assert row_generator(*other).bit_generator.random_raw() != first


@pytest.mark.parametrize(("fraction", "left"), [(0.1, 9), (0.3, 7), (0.5, 5), (1.0, 1)])
def test_exactly_that_share_of_the_words_is_dropped(fraction, left):
    for row in range(5):
        found = build_corruption("word_drop", {"fraction": fraction})(
            TEXT, row_generator(0, "word_drop", "text", row), Surroundings()
        ).split()
        assert len(found) == left and found == [word for word in TEXT.split() if word in found]


def test_a_stronger_word_drop_keeps_a_part_of_what_a_milder_one_keeps():
    kept = [
        set(
            build_corruption("word_drop", {"fraction": f})(TEXT, row_generator(0, "w", "t", 0), Surroundings()).split()
        )
        for f in (0.1, 0.3, 0.5)
    ]
    assert kept[2] < kept[1] < kept[0]


@pytest.mark.parametrize("text", ["word", "", "  two  words "])
def test_short_texts_keep_a_word(text):
    found = build_corruption("word_drop", {"fraction": 0.2})(text, row_generator(0, "w", "t", 0), Surroundings())
    assert found == text


def test_feature_noise_is_in_deviations_of_training():
    vectors = [torch.tensor([[1e6, 5.0], [1e6 + 2, 5.0]]), None, torch.tensor([1e6 + 1, 5.0])]
    std = training_std(vectors)
    torch.testing.assert_close(std, torch.tensor([(2 / 3) ** 0.5, 0.0]))
    noise = build_corruption("feature_noise", {"scale": 2})(
        torch.zeros(4000, 2), row_generator(0, "f", "s", 0), Surroundings(std=std)
    )
    assert float(noise[:, 0].std()) == pytest.approx(2 * (2 / 3) ** 0.5, rel=0.05) and not noise[:, 1].any()
    for wrong, found in ((None, "none"), (torch.ones(3), "3")):
        with pytest.raises(ValueError, match=f"deviations of 2 dimensions, found {found}"):
            build_corruption("feature_noise")(torch.zeros(2), row_generator(0, "f", "s", 0), Surroundings(std=wrong))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wite_noise", {}, "Did you mean 'white_noise'"),
        ("white_noise", {"snt": 1}, "has no option 'snt'. Did you mean 'snr'"),
        ("white_noise", {"snr": "loud"}, "expected snr in .* found 'loud'"),
        ("white_noise", {"snr": float("nan")}, "found nan"),
        ("babble", {"num_others": 0}, r"num_others in \[1"),
        ("telephone", {"low": 4000}, r"high in \(4000"),
        ("gaussian_noise", {"sigma": True}, "found True"),
        ("gaussian_noise", {"per_frame": 1}, "per_frame true or false"),
        ("jpeg", {"quality": 7.5}, "whole number"),
        ("blur", {"fraction": -0.1}, "found -0.1"),
        ("word_drop", {"fraction": 1.1}, r"in \[0, 1\]"),
        ("feature_noise", {"scale": -1}, "found -1"),
        ("jpeg", 3, "as {option: value}, found 3"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_corruption(name, options)


def test_every_default_severity_is_possible_and_labelled():
    labels = [
        found(**({} if found.severity is None else {found.severity: value})).label
        for found in CORRUPTIONS.values()
        for value in found.severities or [None]
    ]
    assert labels[:4] == ["white_noise 20 dB", "white_noise 10 dB", "white_noise 0 dB", "babble 10 dB"]
    assert len(set(labels)) == 22 and all(name == found.name for name, found in CORRUPTIONS.items())


def test_defaults_fit_the_transforms():
    transforms = {"a": LogSpectrogram(), "v": FrameTransform(), "m": RGBDifference(), "t": Words(["x"]), "l": Level()}
    found = default_corruptions({**transforms, "f": FeatureVector()})
    counts = {name: sum(other == name for other, _ in found) for name in "avmtlf"}
    assert counts == {"a": 7, "v": 9, "m": 9, "t": 3, "l": 0, "f": 3}
    noises = {name: c.per_frame for name, c in found if c.name == "gaussian_noise"}
    assert noises == {"v": False, "m": True}


def test_what_cannot_be_corrupted_is_refused_by_name():
    with pytest.raises(ValueError, match=r"modality 'x': white_noise expects .* found Level, which does not"):
        check_corruptible("x", Level(), "white_noise", "audio")
    with pytest.raises(ValueError, match=r"corruption of image, \['gaussian_noise', 'blur', 'jpeg'\].* found babble"):
        check_corruptible("x", FrameTransform(), "babble", "audio")
