import pytest
import torch

from hf_bml.processing import Tokenize


def test_tokens(tokenizer_path):
    transform = Tokenize(tokenizer_path, max_length=3)
    short, long = transform(["the cat", "the cat sat down"])
    assert short["input_ids"].tolist() == [2, 3] and short["attention_mask"].tolist() == [1, 1]
    assert long["input_ids"].tolist() == [2, 3, 4] and long["input_ids"].dtype == torch.int64
    assert transform.pad_token_id == 0 and not transform.is_random
    assert transform([]) == []


def test_invalid_text(tokenizer_path):
    transform = Tokenize(tokenizer_path)
    with pytest.raises(ValueError, match="at least one token"):
        transform([""])
    with pytest.raises(ValueError, match="found int: 3"):
        transform([3])
    with pytest.raises(ValueError, match="max_length >= 1"):
        Tokenize(tokenizer_path, max_length=0)
