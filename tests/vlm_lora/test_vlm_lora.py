"""The recipe's own code path on a tiny model of random weights and a few real digits."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from recipes.vlm_lora import tiny
from recipes.vlm_lora.train import Collator, Options, parser, read_split, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, its processor and questions about ten images."""
    folder = tmp_path_factory.mktemp("vlm")
    tiny.save(folder, images=10)
    return folder


def test_labels_are_the_answer_s_tokens_alone(folder):
    processor = AutoProcessor.from_pretrained(folder)
    rows = read_split(Options(dataset=str(folder / "digits.parquet")), "test")
    batch = Collator(processor)([rows[0], rows[1]])
    tokenizer = processor.tokenizer
    asked = [row[row != -100].tolist() for row in batch["labels"]]
    assert [tokenizer.decode(tokens) for tokens in asked] == ["zero <end>", "yes <end>"]
    image = (batch["input_ids"] == processor.image_token_id).sum(1).tolist()
    assert image == [(tiny.SIZE // tiny.PATCH) ** 2] * 2
    first = tokenizer.decode(batch["input_ids"][0]).replace("<image> ", "")
    assert first == "<user> Which digit is it ? <model> zero <end>"
    assert batch["input_ids"][1, -1] == tokenizer.pad_token_id and batch["attention_mask"][1, -2:].tolist() == [1, 0]


def test_training_evaluation_and_the_saved_adapter(folder, tmp_path):
    arguments = ["--model", str(folder), "--dataset", str(folder / "digits.parquet"), "--output_dir", str(tmp_path)]
    short = ["--max_steps", "2", "--answer_tokens", "2", "--use_cpu", "true", "--disable_tqdm", "true"]
    options, args = parser().parse_args_into_dataclasses([*arguments, *short])
    assert args.modulations == {"opm": {}} and "llava" in Options.model
    metrics = run(options, args)
    saved = json.loads((tmp_path / "answers.json").read_text())
    assert saved == metrics and {"test_loss", "test_answer_accuracy", "test_answer_accuracy_text"} <= set(metrics)
    base = AutoModelForImageTextToText.from_pretrained(folder)
    batch = Collator(AutoProcessor.from_pretrained(folder))([read_split(options, "test")[0]])
    with torch.no_grad():
        plain = base(**batch).logits
        adapted = PeftModel.from_pretrained(base, tmp_path)(**batch)
    assert not torch.equal(adapted.logits, plain)


def test_a_split_that_a_file_lacks(folder):
    with pytest.raises(ValueError, match=r"no rows of split 'validation', found \['test', 'train'\]"):
        read_split(Options(dataset=str(folder / "digits.parquet")), "validation")
