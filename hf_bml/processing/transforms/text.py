"""Text -> token ids: by a tokenizer from the Hub or a folder, or by the words of the training split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ...ground.hub_failure import not_loaded
from .base import Transform, check_at_least_one

PADDING, UNKNOWN = "[PAD]", "[UNK]"
TOKENIZER_CONFIG = "tokenizer_config.json"
OF_THE_LOADING = ("is_local", "local_files_only", "name_or_path")  # which say nothing about the tokenizer


class Tokenize(Transform):
    """Text -> `{"input_ids": (length,), "attention_mask": (length,)}`, int64, unpadded (the collator pads).

    Usage: `processors: {text: {type: tokens, tokenizer: google-bert/bert-base-uncased, max_length: 64}}`

    Args:
        tokenizer: name on the Hub or folder of a transformers tokenizer.
        max_length: longer texts are cut to that many tokens, or to the tokenizer's `model_max_length` if it is less.

    Raises:
        OSError: the tokenizer cannot be loaded.
        ValueError: `max_length` is not positive, a value is not a string, or a text has no token.
    """

    signal = "text"
    reads_files = False  # a text is not a path
    source_option = "tokenizer"
    of_the_encoder = ("tokenizer",)
    output_keys = ("input_ids", "attention_mask")
    zeros = "a text of the token with id 0, as long as the sample's own"

    def __init__(self, tokenizer: str, max_length: int = 128):
        check_at_least_one(max_length=max_length)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer)
        except OSError as error:
            raise OSError(not_loaded("the tokenizer", tokenizer, error)) from error
        self.max_length = min(max_length, self.tokenizer.model_max_length)

    def save_files(self, folder: Path) -> None:
        """Write the tokenizer's files into a folder: the same bytes for the same tokenizer, wherever it is from."""
        self.tokenizer.save_pretrained(folder)
        path = folder / TOKENIZER_CONFIG
        config = json.loads(path.read_text(encoding="utf-8"))
        config = {key: value for key, value in config.items() if key not in OF_THE_LOADING}
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @property
    def vocab_size(self) -> int:
        return 0 if self.tokenizer is None else len(self.tokenizer)

    @property
    def pad_token_id(self) -> int:
        """Id of the padding; 0 when the tokenizer has no padding token."""
        return 0 if self.tokenizer is None else self.tokenizer.pad_token_id or 0

    def read(self, value: str) -> str:
        """The text, which must be one."""
        if not isinstance(value, str):
            raise ValueError(
                f"Expected a string, found {type(value).__name__}: {value!r:.60}. Convert the text column."
            )
        return value

    def from_signal(self, signal: str, training: bool = False) -> dict[str, Tensor]:
        """Tokenize a text; `training` changes nothing."""
        encoded = self.tokenizer(signal, truncation=True, max_length=self.max_length, return_attention_mask=True)
        if not encoded["input_ids"]:
            raise ValueError(f"Expected at least one token, found none in {signal!r:.60}. Set absent text to None.")
        return {key: torch.tensor(encoded[key], dtype=torch.int64) for key in self.output_keys}


def split_words(text: str) -> list[str]:
    """Words in lower case, and runs of punctuation, in order.

    Example:
        >>> split_words("Where is the acoustic_guitar?")
        ['where', 'is', 'the', 'acoustic_guitar', '?']
    """
    return [word for word, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text.lower())]


def word_vocabulary(texts: Iterable[str | None], minimum_count: int = 1) -> list[str]:
    """Words that occur at least `minimum_count` times, most frequent first, and by the alphabet where equal.

    Values that are not strings are left out; transforming them raises.
    """
    counts = Counter(word for text in texts if isinstance(text, str) for word in split_words(text))
    words = [word for word, count in counts.items() if count >= minimum_count]
    return sorted(words, key=lambda word: (-counts[word], word))


class Words(Tokenize):
    """Text -> ids of whole words in lower case, as `Tokenize`; words that are not in the vocabulary share one id.

    The vocabulary is that of the training split: `MultimodalProcessor.apply` counts it and keeps it in the processor's
    config, so it travels with the model. Id 0 is the padding and 1 the unknown word.

    Usage: `processors: {text: {type: words, minimum_count: 2}}`

    Args:
        vocabulary: words in the order of their ids, from 2 on; `None` until it is fitted.
        max_length: longer texts are cut to that many words.
        minimum_count: how often a word must occur in the training split.

    Raises:
        ValueError: a word is given twice, an option is not positive, no vocabulary when it is called, a value is not a
            string, or a text has no word.

    Example:
        >>> Words(["where", "is", "it"])(["Is IT here"])[0]["input_ids"]
        tensor([3, 4, 1])
    """

    learns = "options"
    source_option = None
    of_the_encoder = ()

    def __init__(self, vocabulary: Sequence[str] | None = None, max_length: int = 32, minimum_count: int = 1):
        check_at_least_one(max_length=max_length, minimum_count=minimum_count)
        self.max_length, self.minimum_count = max_length, minimum_count
        self.tokenizer = None if vocabulary is None else word_tokenizer(vocabulary)

    @property
    def is_fitted(self) -> bool:
        return self.tokenizer is not None

    def learned_options(self, texts: Iterable[str | None]) -> dict[str, Any]:
        """What this transform's config needs besides: the vocabulary of the training texts."""
        return {"vocabulary": word_vocabulary(texts, self.minimum_count)}

    def from_signal(self, signal: str, training: bool = False) -> dict[str, Tensor]:
        """Look every word up; `training` changes nothing."""
        if self.tokenizer is None:
            raise ValueError(
                "Expected a vocabulary, found none. Give one, or let MultimodalProcessor.apply count the words."
            )
        return super().from_signal(signal, training)


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words in lower case with the ids of `Words`.

    Raises:
        ValueError: a word is given twice, or is the padding or the unknown word.
    """
    names = [PADDING, UNKNOWN, *words]
    twice = sorted(word for word, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"Expected different words in the vocabulary, found {twice} more than once.")
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(names)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PADDING, unk_token=UNKNOWN)
