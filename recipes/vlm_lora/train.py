"""Fine-tunes a small vision-language model to answer questions about images, by LoRA with OPM.

python -m recipes.vlm_lora.train --output_dir runs/vqa_rad --bf16 true

`balance()` scores image and text by the mean probability of the answer's tokens without the other one, so that the run
says how much of an accuracy is the question's prior. What an encoder is here, and what is done to it: README.md.

Data are rows with an image, a question and an answer, each a column: a Hub id, or a local parquet file. Options are
those of `BalancedTrainingArguments`, and the ones below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, HfArgumentParser, ProcessorMixin, set_seed

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer, balance
from hf_bml.ground.task import UNLABELLED
from hf_bml.metrics import language_model_metrics


@dataclass
class Options:
    """Model and data.

    Args:
        model: Hub id or folder.
        dataset: Hub id, or a parquet file whose rows' column `split` names their split.
        train_split, test_split: names.
        image, question, answer: columns.
        image_encoder: the modules of the image, one after the other: vision tower and projector.
        text_encoder: the language model's table of embeddings.
        lora_modules: a regular expression of the linear layers that get an adapter.
        lora_rank: of the adapters.
        answer_tokens: tokens that an answer has at most, its end included.
        rows: of each split, the first ones; 0 for all.
    """

    model: str = "llava-hf/llava-interleave-qwen-0.5b-hf"
    dataset: str = "flaviagiammarino/vqa-rad"
    train_split: str = "train"
    test_split: str = "test"
    image: str = "image"
    question: str = "question"
    answer: str = "answer"
    image_encoder: list[str] = field(
        default_factory=lambda: ["model.vision_tower", "model.multi_modal_projector"],
        metadata={"help": "Modules of the image, one after the other."},
    )
    text_encoder: str = "model.language_model.embed_tokens"
    lora_modules: str = r".*(vision_tower|language_model)\..*\.(q_proj|v_proj)|.*multi_modal_projector\.linear_\d"
    lora_rank: int = 16
    answer_tokens: int = 32
    rows: int = 0


class Rows(torch.utils.data.Dataset):
    """Images, questions and answers, which the collator makes tensors of."""

    def __init__(self, rows: datasets.Dataset, options: Options):
        columns = {"image": options.image, "question": options.question, "answer": options.answer}
        self._rows = rows.select_columns(list(columns.values()))
        self._columns = columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = self._rows[number]
        return {name: row[column] for name, column in self._columns.items()}


class Collator:
    """A batch of prompts with their answers, which alone have labels; padded on the right.

    Args:
        processor: of the model, with a chat template.
    """

    def __init__(self, processor: ProcessorMixin):
        self._processor = processor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        tokenizer = self._processor.tokenizer
        prompts = [
            self._processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row["question"]}]}],
                add_generation_prompt=True,
            )
            for row in rows
        ]
        images = [row["image"].convert("RGB") for row in rows]
        encoded = self._processor(images=images, text=prompts)
        asked = [
            tokenizer(f"{row['answer']}{tokenizer.eos_token}", add_special_tokens=False)["input_ids"] for row in rows
        ]
        ids = encoded.pop("input_ids")
        encoded.pop("attention_mask", None)
        length = max(len(prompt) + len(answer) for prompt, answer in zip(ids, asked, strict=True))

        def padded(parts: Sequence[tuple[Sequence[int], Sequence[int]]], fill: int) -> Tensor:
            return torch.tensor([[*a, *b] + [fill] * (length - len(a) - len(b)) for a, b in parts])

        pairs = list(zip(ids, asked, strict=True))
        batch = {
            "input_ids": padded(pairs, tokenizer.pad_token_id),
            "attention_mask": padded([([1] * len(a), [1] * len(b)) for a, b in pairs], 0),
            "labels": padded([([UNLABELLED] * len(a), b) for a, b in pairs], UNLABELLED),
        }
        for name, value in encoded.items():
            by_token = len(value) == len(ids) and all(len(v) == len(i) for v, i in zip(value, ids, strict=True))
            batch[name] = (
                padded([(v, [0] * len(b)) for v, b in zip(value, asked, strict=True)], 0)
                if by_token
                else torch.as_tensor(np.asarray(value))
            )
        return batch


def read_split(options: Options, split: str) -> Rows:
    """A split of the data.

    Raises:
        ValueError: a local file has no such split.
    """
    if Path(options.dataset).suffix == ".parquet":
        rows = datasets.load_dataset("parquet", data_files=options.dataset, split="train")
        numbers = [number for number, name in enumerate(rows["split"]) if name == split]
        if not numbers:
            raise ValueError(f"{options.dataset} has no rows of split {split!r}, found {sorted(set(rows['split']))}.")
        rows = rows.select(numbers).cast_column(options.image, datasets.Image())
    else:
        rows = datasets.load_dataset(options.dataset, split=split)
    return Rows(rows.select(range(min(len(rows), options.rows or len(rows)))), options)


def run(options: Options, args: BalancedTrainingArguments) -> dict[str, float]:
    """Trains and tests; the adapter and the test split's numbers, `answers.json`, are in the output folder."""
    set_seed(args.seed)
    processor = AutoProcessor.from_pretrained(options.model)
    model = AutoModelForImageTextToText.from_pretrained(options.model)
    adapter = LoraConfig(r=options.lora_rank, lora_alpha=2 * options.lora_rank, target_modules=options.lora_modules)
    balanced = balance(
        get_peft_model(model, adapter),
        {"image": options.image_encoder, "text": options.text_encoder},
        task="causal_lm",
        answer_tokens=options.answer_tokens,
        placeholders={"image": model.config.image_token_id},
    )
    test = read_split(options, options.test_split)
    trainer = MultimodalBalancedTrainer(
        balanced,
        args,
        train_dataset=read_split(options, options.train_split),
        eval_dataset=test,
        data_collator=Collator(processor),
        compute_metrics=language_model_metrics,
    )
    trainer.train()
    trainer.save_model()
    metrics = trainer.evaluate(test, metric_key_prefix="test")
    Path(args.output_dir, "answers.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    return metrics


def parser() -> HfArgumentParser:
    """Of the command line, with the recipe's defaults."""
    found = HfArgumentParser((Options, BalancedTrainingArguments))
    found.set_defaults(
        modulations="opm",
        learning_rate=1e-4,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        num_train_epochs=3,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
    )
    return found


if __name__ == "__main__":
    print(json.dumps(run(*parser().parse_args_into_dataclasses()), indent=2))
