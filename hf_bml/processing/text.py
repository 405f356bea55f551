"""Text -> token ids."""

import torch
from torch import Tensor
from transformers import AutoTokenizer


class Tokenize:
    """Text -> `{"input_ids": (length,), "attention_mask": (length,)}`, int64, unpadded (the collator pads).

    Args:
        tokenizer: Name on the Hub or folder of a transformers tokenizer.
        max_length: Longer texts are cut to that many tokens.

    Raises:
        ValueError: `max_length` is not positive, a value is not a string, or a text has no token.
    """

    is_random = False
    output_keys = ("input_ids", "attention_mask")

    def __init__(self, tokenizer: str, max_length: int = 128):
        if max_length < 1:
            raise ValueError(f"Expected max_length >= 1, found {max_length}. Raise max_length.")
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self.max_length = max_length

    @property
    def pad_token_id(self) -> int:
        """Id that the collator should pad `input_ids` with; 0 when the tokenizer has no padding token."""
        return self.tokenizer.pad_token_id or 0

    def __call__(self, values: list[str], training: bool = False) -> list[dict[str, Tensor]]:
        """Tokenize every text; `training` changes nothing."""
        for value in values:
            if not isinstance(value, str):
                raise ValueError(
                    f"Expected a string, found {type(value).__name__}: {value!r:.60}. Convert the text column."
                )
        if not values:
            return []
        encoded = self.tokenizer(values, truncation=True, max_length=self.max_length, return_attention_mask=True)
        for value, ids in zip(values, encoded["input_ids"], strict=True):
            if not ids:
                raise ValueError(f"Expected at least one token, found none in {value!r:.60}. Set absent text to None.")
        return [
            {key: torch.tensor(encoded[key][index], dtype=torch.int64) for key in self.output_keys}
            for index in range(len(values))
        ]
