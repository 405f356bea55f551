from __future__ import annotations

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerFast

from hf_bml.processing import MultimodalProcessor, Tokenize
from hf_bml.processing.transforms.text import Words, split_words, word_vocabulary


def test_tokens(tokenizer_path):
    transform = Tokenize(tokenizer_path, max_length=3)
    short, long = transform(["the cat", "the cat sat down"])
    assert short["input_ids"].tolist() == [2, 3] and short["attention_mask"].tolist() == [1, 1]
    assert long["input_ids"].tolist() == [2, 3, 4] and long["input_ids"].dtype == torch.int64
    assert transform.pad_token_id == 0 and not transform.is_random
    assert transform([]) == []


def test_no_text_is_longer_than_the_tokenizers_model_takes(tokenizer_path):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_path, model_max_length=2)
    tokenizer.save_pretrained(tokenizer_path)
    assert Tokenize(tokenizer_path)(["the cat sat"])[0]["input_ids"].tolist() == [2, 3]
    assert len(Tokenize(tokenizer_path, max_length=1)(["the cat sat"])[0]["input_ids"]) == 1


def test_invalid_text(tokenizer_path):
    transform = Tokenize(tokenizer_path)
    with pytest.raises(ValueError, match="at least one token"):
        transform([""])
    with pytest.raises(ValueError, match="found int: 3"):
        transform([3])
    with pytest.raises(ValueError, match="max_length >= 1"):
        Tokenize(tokenizer_path, max_length=0)


def test_words_have_their_vocabularys_ids():
    transform = Words(["where", "is", "it"])
    ids = transform(["Where is IT?", "it", "where are they"])
    assert [sample["input_ids"].tolist() for sample in ids] == [[2, 3, 4, 1], [4], [2, 1, 1]]
    assert ids[0]["attention_mask"].tolist() == [1, 1, 1, 1] and ids[0]["input_ids"].dtype == torch.int64
    assert transform.vocab_size == 5 and transform.pad_token_id == 0 and transform.is_fitted
    assert Words(["where", "is", "it"], max_length=2)(["where is it"])[0]["input_ids"].tolist() == [2, 3]


def test_the_most_frequent_words_come_first():
    texts = ["b a", "B c", None, "is it a_b?"]
    assert word_vocabulary(texts) == ["b", "?", "a", "a_b", "c", "is", "it"]
    assert word_vocabulary(texts, minimum_count=2) == ["b"]
    assert word_vocabulary([]) == []


def test_splitting_for_the_vocabulary_is_splitting_for_the_ids():
    texts = ["Where is the acoustic_guitar?", "Is it (really) 3.5 m -- away", "naïve  café\tÀ l'heure"]
    transform = Words(word_vocabulary(texts))
    assert all((sample["input_ids"] > 1).all() for sample in transform(texts))
    names = transform.tokenizer.convert_ids_to_tokens(transform([texts[0]])[0]["input_ids"])
    assert names == split_words(texts[0])


def test_the_vocabulary_is_that_of_train_and_travels_with_the_processor(tmp_path):
    splits = {"train": ["is it a", "is b", None], "validation": ["is c"], "test": ["c b"]}
    raw = DatasetDict(
        {name: Dataset.from_dict({"text": texts, "labels": [0] * len(texts)}) for name, texts in splits.items()}
    )
    processor = MultimodalProcessor({"text": {"type": "words"}})
    assert not processor.transforms["text"].is_fitted and processor.transforms["text"].vocab_size == 0
    found = processor.apply(raw)
    assert processor.modalities["text"]["vocabulary"] == ["is", "a", "b", "it"]
    ids = {name: [row["text"] and row["text"]["input_ids"].tolist() for row in found[name]] for name in splits}
    assert ids == {"train": [[2, 5, 3], [2, 4], None], "validation": [[2, 1]], "test": [[1, 4]]}
    processor.save_pretrained(tmp_path)
    again = MultimodalProcessor.from_pretrained(tmp_path)
    assert again({"text": ["b is new"]})["text"][0]["input_ids"].tolist() == [4, 2, 1]
    other = DatasetDict({name: rows.map(lambda row: {"text": "z"}) for name, rows in raw.items()})
    assert again.apply(other)["train"][0]["text"]["input_ids"].tolist() == [1]  # what is fitted stays


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": ["a", "b", "a"]}, r"different words in the vocabulary, found \['a'\]"),
        ({"vocabulary": ["[PAD]"]}, r"found \['\[PAD\]'\] more than once"),
        ({"max_length": 0}, "max_length >= 1, found 0"),
        ({"minimum_count": 0}, "minimum_count >= 1, found 0"),
    ],
)
def test_bad_options_of_words(options, message):
    with pytest.raises(ValueError, match=message):
        Words(**options)


def test_bad_texts_of_words():
    with pytest.raises(ValueError, match="Expected a vocabulary, found none"):
        Words()(["a"])
    with pytest.raises(ValueError, match="found none in '  '"):
        Words(["a"])(["  "])
    with pytest.raises(ValueError, match="found int: 3"):
        Words(["a"])([3])
