"""A small language model that writes the answers of `music_avqa_generated`, trained with and without modulations.

python -m recipes.music_avqa_generated.answers --modulations opm --output_dir runs/answers_opm

The other recipes choose one of 41 answers; this one writes words ("more than ten") after the question, from what it
reads, hears and sees: ten vectors of sound and ten of pictures stand before the words of a Llama of random weights.
`balance(task="causal_lm")` scores each modality by the mean probability of the answer's words. Options are those of
`BalancedTrainingArguments`, and the ones below.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import HfArgumentParser, LlamaConfig, LlamaForCausalLM, set_seed

from hf_bml import BalancedModel, BalancedTrainingArguments, MultimodalBalancedTrainer, balance
from hf_bml.ground.task import UNLABELLED
from hf_bml.metrics import language_model_metrics

from .questions import load

SPECIAL = ("<pad>", "<unk>", "<answer>", "<end>")
PAD, UNKNOWN, ANSWER, END = range(len(SPECIAL))


class AnsweringModel(nn.Module):
    """Sound and pictures, each a linear map away from a word's embedding, in front of a causal language model.

    Args:
        audio_size, visual_size: of a vector.
        config: of the language model.
    """

    def __init__(self, audio_size: int, visual_size: int, config: LlamaConfig):
        super().__init__()
        self.hear, self.see = (nn.Linear(size, config.hidden_size) for size in (audio_size, visual_size))
        self.language = LlamaForCausalLM(config)

    def forward(
        self,
        input_ids: Tensor,
        audio: Tensor,
        visual: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor | None]:
        """
        Args:
            input_ids, attention_mask: int64 `(batch, length)`.
            audio, visual: `(batch, steps, size)`.
            labels: the words that are asked for, -100 elsewhere, `(batch, length)`.

        Returns:
            `loss`, 0-d, and `logits (batch, length, vocabulary)`.
        """
        words = self.language.get_input_embeddings()(input_ids)
        front = torch.cat([self.hear(audio), self.see(visual)], 1)
        read = torch.cat([front, words], 1)
        seen = torch.ones(read.shape[:2], dtype=torch.long, device=read.device)
        if attention_mask is not None:
            seen[:, front.shape[1] :] = attention_mask
        output = self.language(inputs_embeds=read, attention_mask=seen)
        logits, size = output.logits[:, front.shape[1] :].contiguous(), self.language.config.vocab_size
        loss = None if labels is None else self.language.loss_function(logits=logits, labels=labels, vocab_size=size)
        return {"loss": loss, "logits": logits}


def words_of(text: str) -> list[str]:
    """A question's or an answer's words."""
    return text.lower().replace(",", " ").replace("_", " ").split()


def vocabulary_of(texts: Sequence[str]) -> dict[str, int]:
    """The number of each word that occurs, after the special ones."""
    words = sorted({word for text in texts for word in words_of(text)})
    return {word: number for number, word in enumerate([*SPECIAL, *words])}


def with_answers(rows: Dataset, vocabulary: dict[str, int]) -> Dataset:
    """Rows with `input_ids` and `labels` in the place of the question and the number of its answer."""
    names = rows.features["labels"].names

    def written(row: dict[str, Any]) -> dict[str, Any]:
        question, answer = (
            [vocabulary.get(word, UNKNOWN) for word in words_of(text)] for text in (row["text"], names[row["labels"]])
        )
        asked = [*answer, END]
        return {"input_ids": [*question, ANSWER, *asked], "labels": [UNLABELLED] * (len(question) + 1) + asked}

    mapped = rows.remove_columns(["question_type", "agrees"]).rename_column("labels", "answer")
    return mapped.map(lambda row: written({**row, "labels": row["answer"]}), remove_columns=["text", "answer"])


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch, padded on the right."""
    length = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, fill: int) -> Tensor:
        return torch.tensor([row[name] + [fill] * (length - len(row[name])) for row in rows])

    ids = padded("input_ids", PAD)
    batch = {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": padded("labels", UNLABELLED)}
    return batch | {name: torch.tensor([row[name] for row in rows]) for name in ("audio", "visual")}


def build(
    vocabulary: dict[str, int], audio_size: int, visual_size: int, hidden_size: int, layers: int
) -> BalancedModel:
    """The model, in `balance()`."""
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
    )
    paths = {"text": "language.model.embed_tokens", "audio": "hear", "visual": "see"}
    model = AnsweringModel(audio_size, visual_size, config)
    return balance(model, paths, task="causal_lm", num_labels=len(vocabulary), answer_tokens=8)


@dataclass
class Options:
    """What is trained.

    Args:
        hidden_size: of the language model.
        layers: of the language model.
        visual_size: of a picture's vector.
        rows: of each split, the first ones; 0 for all.
        data_dir: folder of the annotation.
    """

    hidden_size: int = 64
    layers: int = 2
    visual_size: int = 128
    rows: int = 0
    data_dir: str | None = None


def run(options: Options, args: BalancedTrainingArguments) -> dict[str, float]:
    """Trains and tests; the numbers of the test split, which `answers.json` of the output folder holds, too."""
    set_seed(args.seed)
    data = load(visual_size=options.visual_size, data_dir=options.data_dir)
    train = data["train"]
    vocabulary = vocabulary_of([*train["text"], *train.features["labels"].names])
    rows = {
        split: with_answers(part.select(range(min(len(part), options.rows or len(part)))), vocabulary)
        for split, part in data.items()
    }
    audio_size = len(train[0]["audio"][0])
    model = build(vocabulary, audio_size, options.visual_size, options.hidden_size, options.layers)
    trainer = MultimodalBalancedTrainer(
        model,
        args,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        data_collator=collate,
        compute_metrics=language_model_metrics,
    )
    trainer.train()
    metrics = trainer.evaluate(rows["test"], metric_key_prefix="test")
    ratios = next((e for e in reversed(trainer.state.log_history) if "balance/ratio_text" in e), {})
    metrics |= {name: value for name, value in ratios.items() if name.startswith("balance/ratio")}
    Path(args.output_dir, "answers.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    return metrics


if __name__ == "__main__":
    defaults = {
        "learning_rate": 2e-3,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "num_train_epochs": 6,
        "per_device_train_batch_size": 64,
        "per_device_eval_batch_size": 256,
        "logging_strategy": "epoch",
        "save_strategy": "no",
        "report_to": "none",
    }
    parser = HfArgumentParser((Options, BalancedTrainingArguments))
    parser.set_defaults(**defaults)
    print(json.dumps(run(*parser.parse_args_into_dataclasses()), indent=2))
