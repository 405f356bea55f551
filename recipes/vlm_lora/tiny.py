"""A tiny LLaVA of random weights with its processor, and questions about real digits, to try the recipe offline.

python -m recipes.vlm_lora.tiny runs/vlm
python -m recipes.vlm_lora.train --model runs/vlm --dataset runs/vlm/digits.parquet --output_dir runs/vlm/run

The images are scikit-learn's handwritten digits (1,797 of 8 x 8, real); every one is asked three questions: which
digit it is, whether it is even, and whether it is above four.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    set_seed,
)

QUESTIONS = ("Which digit is it ?", "Is it even ?", "Is it above four ?")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPECIAL = ("<pad>", "<unk>", "<end>", "<image>", "<user>", "<model>")
TEMPLATE = (
    "{% for message in messages %}<user> {% for part in message['content'] %}{% if part['type'] == 'image' %}<image> "
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} <model>{% endif %}"
)
SIZE, PATCH = 16, 4  # of an image and of its patches


def answers(digit: int) -> tuple[str, str, str]:
    """To the questions, in their order."""
    return NAMES[digit], "yes" if digit % 2 == 0 else "no", "yes" if digit > 4 else "no"


def digit_rows(count: int | None = None) -> pd.DataFrame:
    """Rows with `image`, `question`, `answer` and `split`: of every image three; each fifth image is one of test."""
    digits = load_digits()
    rows = []
    for number, (pixels, digit) in enumerate(zip(digits.images[:count], digits.target[:count], strict=True)):
        buffer = io.BytesIO()
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(buffer, format="PNG")
        image = {"bytes": buffer.getvalue(), "path": None}
        split = "test" if number % 5 == 0 else "train"
        rows += [
            {"image": image, "question": question, "answer": answer, "split": split}
            for question, answer in zip(QUESTIONS, answers(int(digit)), strict=True)
        ]
    return pd.DataFrame(rows)


def tokenizer() -> PreTrainedTokenizerFast:
    """Of whole words: those of questions and answers."""
    words = sorted({word for text in (*QUESTIONS, *NAMES, "yes", "no") for word in text.split()})
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    found = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), behavior="removed")
    return PreTrainedTokenizerFast(
        tokenizer_object=found,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        extra_special_tokens={"image_token": "<image>"},
    )


def save_model(folder: Path, hidden_size: int = 64, layers: int = 2) -> None:
    """Saves a model of random weights and its processor."""
    set_seed(0)
    words = tokenizer()
    sizes = {"hidden_size": hidden_size, "intermediate_size": 2 * hidden_size, "num_hidden_layers": layers}
    config = LlavaConfig(
        text_config=LlamaConfig(
            vocab_size=len(words),
            num_attention_heads=4,
            num_key_value_heads=4,
            pad_token_id=words.pad_token_id,
            bos_token_id=None,
            eos_token_id=words.eos_token_id,
            **sizes,
        ),
        vision_config=CLIPVisionConfig(image_size=SIZE, patch_size=PATCH, num_attention_heads=4, **sizes),
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    side = {"height": SIZE, "width": SIZE}
    LlavaProcessor(
        CLIPImageProcessor(size=side, crop_size=side),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)


def save(folder: str | Path, images: int | None = None) -> None:
    """Saves model, processor and `digits.parquet` in a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder)
    digit_rows(images).to_parquet(folder / "digits.parquet")


if __name__ == "__main__":
    save(sys.argv[1])
