"""One object for metrics that know an array of logits, and for those that unpack a tuple."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import nested_concat, nested_detach, nested_numpify

from hf_bml.metrics import JointPredictions, accuracy

LOGITS = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
ALONE = {"audio": LOGITS[:, ::-1]}
KEEP = np.ones((3, 1), dtype=bool)


@pytest.fixture
def predictions():
    return JointPredictions((LOGITS, ALONE, KEEP))


def test_it_is_the_joint_logits_to_numpy(predictions):
    assert np.argmax(predictions, axis=-1).tolist() == [1, 0, 1]
    assert predictions.argmax(-1).tolist() == [1, 0, 1]
    assert (predictions.shape, predictions.ndim, predictions.dtype) == ((3, 2), 2, np.float64)
    assert np.array_equal(np.exp(predictions), np.exp(LOGITS))
    assert np.asarray(predictions, dtype=np.float32).dtype == np.float32
    assert accuracy(predictions, [1, 0, 0]) == 2 / 3
    assert np.array_equal(torch.softmax(torch.as_tensor(np.asarray(predictions)), -1).argmax(-1), [1, 0, 1])


def test_it_is_the_tuple_that_it_was(predictions):
    logits, unimodal_logits, keep = predictions
    assert logits is LOGITS and unimodal_logits is ALONE and keep is KEEP
    assert isinstance(predictions, tuple) and predictions[0] is LOGITS and len(predictions) == 3


def test_copies(predictions):
    for twin in (copy.deepcopy(predictions), pickle.loads(pickle.dumps(predictions))):
        assert isinstance(twin, JointPredictions) and np.array_equal(twin, LOGITS)
    assert not hasattr(predictions, "no_such_thing")


def test_the_evaluation_loop_keeps_it():
    part = JointPredictions((torch.tensor(LOGITS), {"audio": torch.tensor(LOGITS)}))
    whole = nested_numpify(nested_concat(nested_detach(part), part))
    assert isinstance(whole, JointPredictions)
    assert whole.shape == (6, 2) and whole[1]["audio"].shape == (6, 2)
