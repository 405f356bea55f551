from __future__ import annotations

import pytest
from datasets import load_dataset
from transformers import AutoTokenizer

from hf_bml.data import load_multimodal_dataset
from hf_bml.ground.hub_failure import not_loaded, reason_of
from hf_bml.models.encoders.build import build_encoder


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("load", [AutoTokenizer.from_pretrained, load_dataset])
def test_a_library_that_finds_nothing_is_one_sentence(load):
    with pytest.raises(OSError) as caught:
        load("nobody/nothing")
    reason = reason_of(caught.value)
    assert "Hub" in reason and not any(word in reason for word in ("Error", "Offline", "http", "\n"))
    assert not_loaded("it", "nobody/nothing", caught.value).count("nobody/nothing") == 1


def test_an_encoder_says_which_model():
    with pytest.raises(ValueError) as caught:
        build_encoder("text", {"type": "transformers", "model": "nobody/nothing"})
    text = str(caught.value)
    assert text.startswith("Encoder of modality 'text': the model 'nobody/nothing' cannot be loaded, from a folder or")
    assert "Error" not in text and "hf auth login" in text


def test_a_data_set_says_which():
    options = {"path": "nobody/nothing", "modalities": {"audio": "wav"}}
    with pytest.raises(ConnectionError, match=r"the data set 'nobody/nothing' cannot be loaded.*the Hub cannot be"):
        load_multimodal_dataset("from_columns", **options)
