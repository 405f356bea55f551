import numpy as np
import pytest
import torch

from hf_bml.processing import FeatureVector


def test_vectors_and_sequences():
    vector, array, sequence = FeatureVector()([[1, 2.5], np.array([3, 4]), [[1, 2], [3, 4], [5, 6]]])
    assert vector.tolist() == [1.0, 2.5] and array.tolist() == [3.0, 4.0]
    assert sequence.shape == (3, 2) and sequence.dtype == torch.float32


def test_the_tensor_does_not_share_the_input():
    source = np.ones(2, np.float32)
    FeatureVector()([source])[0].zero_()
    assert source.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0, float("nan")], "1 NaN or infinite of 2"),
        ([[1.0], [float("-inf")]], "NaN or infinite"),
        ([[1.0, 2.0], [3.0]], "same length"),
        (["a"], "Expected numbers"),
        ([], "non-empty"),
        (1.0, "non-empty array of shape"),
        (np.zeros((1, 2, 3)), r"shape \(1, 2, 3\)"),
    ],
)
def test_invalid_features(value, message):
    with pytest.raises(ValueError, match=message):
        FeatureVector()([value])


def test_input_size():
    assert FeatureVector(input_size=2)([[[1, 2], [3, 4], [5, 6]]])[0].shape == (3, 2)
    with pytest.raises(ValueError, match=r"input_size=2.*\(3,\)"):
        FeatureVector(input_size=2)([[1, 2, 3]])
