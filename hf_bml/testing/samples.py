"""Tiny models and data on which a modulation's properties are checked, a kind for every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import datasets
import torch
from torch import Tensor, nn

from ..models import (
    MultimodalConfig,
    MultimodalForClassification,
    MultimodalForQuestionAnswering,
    MultimodalForSegmentClassification,
    QuestionAnsweringConfig,
    SegmentClassificationConfig,
    balance,
)

MODALITIES = ("audio", "visual", "text", "depth")
LABELS = 3
SEGMENTS = 4
VOCABULARY = 11
SIZES = {"audio": 5, "visual": 6, "text": 4, "depth": 3}


def tiny_image_model(
    modalities: Sequence[str] = ("audio", "visual"), seed: int = 0, num_labels: int = LABELS, **options: Any
) -> MultimodalForClassification:
    """A CNN per modality, of three stages with four channels, for images of 8 x 8; options of the config."""
    torch.manual_seed(seed)
    encoder = {"type": "conv", "in_channels": 1, "channels": [4, 4, 4]}
    config = MultimodalConfig(
        modalities={name: dict(encoder) for name in modalities}, num_labels=num_labels, **options
    )
    return MultimodalForClassification(config)


def without_batch_norm(model: MultimodalForClassification) -> MultimodalForClassification:
    """In float64 and without batch statistics, so that batches of any size give equal updates."""
    for encoder in model.encoders.values():
        for layer in encoder.layers:
            if isinstance(layer, nn.Sequential):
                layer[1] = nn.Identity()
    return model.double()


def tiny_image_dataset(
    modalities: Sequence[str] = ("audio", "visual"),
    samples: int = 48,
    dtype: torch.dtype = torch.float32,
    num_labels: int = LABELS,
    seed: int = 0,
) -> datasets.Dataset:
    """Noise and a class-dependent pattern, strongest in the first modality."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_labels, (samples,), generator=generator)
    columns = {}
    for index, name in enumerate(modalities):
        patterns = torch.randn(num_labels, 1, 8, 8, generator=generator) * (3.0 if index == 0 else 1.0)
        columns[name] = torch.randn(samples, 1, 8, 8, generator=generator) + patterns[labels]
    return as_dataset(columns, labels, dtype)


def as_dataset(columns: Mapping[str, Tensor], labels: Tensor, dtype: torch.dtype) -> datasets.Dataset:
    """Columns of torch tensors with their labels; those of floating point in `dtype`."""
    columns = {name: (v.to(dtype) if v.is_floating_point() else v).numpy() for name, v in columns.items()}
    return datasets.Dataset.from_dict({**columns, "labels": labels.numpy()}).with_format("torch", dtype=None)


def class_vectors(modalities: Sequence[str], labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Class-dependent vectors `(*labels.shape, size)`, the first modality far more discriminative than the others."""
    return {
        name: nn.functional.one_hot(labels, SIZES[name]) * (1.0 if index else 3.0)
        + torch.randn(*labels.shape, SIZES[name], generator=generator)
        for index, name in enumerate(modalities)
    }


def known_options(config_class: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that a model's config has; a method must refuse a model that lacks what it needs."""
    names = {field.name for field in fields(config_class)}
    return {name: value for name, value in options.items() if name in names}


def classification_model(modalities: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    """Images by modality, joined by concatenation."""
    return without_batch_norm(tiny_image_model(modalities, **options))


def multi_label_model(modalities: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    """As `classification_model`, of several labels a sample."""
    return classification_model(modalities, {**options, "problem_type": "multi_label_classification"})


def multi_label_data(modalities: Sequence[str], samples: int, dtype: torch.dtype) -> datasets.Dataset:
    """As `tiny_image_dataset`; a sample's labels are its class and the next one."""
    data = tiny_image_dataset(modalities, samples, dtype)
    ones = nn.functional.one_hot(data["labels"][:], LABELS).float()
    return data.remove_columns("labels").add_column("labels", (ones + ones.roll(1, 1)).tolist())


def regression_model(modalities: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    """As `classification_model`, of one number a sample."""
    return classification_model(modalities, {**options, "problem_type": "regression", "num_labels": 1})


def regression_data(modalities: Sequence[str], samples: int, dtype: torch.dtype) -> datasets.Dataset:
    """As `tiny_image_dataset`; a sample's number is larger the larger its class."""
    data = tiny_image_dataset(modalities, samples, dtype)
    numbers = 70 + 10 * data["labels"][:].double() + torch.arange(samples) / samples
    return data.remove_columns("labels").add_column("labels", numbers.tolist())


def segment_model(modalities: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    """Features by segment and modality, joined by AVSDN."""
    torch.manual_seed(0)
    config = SegmentClassificationConfig(
        modalities={name: {"type": "features", "input_size": SIZES[name]} for name in modalities},
        architecture="avsdn",
        architecture_options={"hidden_size": 8},
        num_labels=LABELS,
        **known_options(SegmentClassificationConfig, options),
    )
    return MultimodalForSegmentClassification(config).double()


def segment_data(modalities: Sequence[str], samples: int, dtype: torch.dtype) -> datasets.Dataset:
    """Clips of four segments, each with a class of its own."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(LABELS, (samples, SEGMENTS), generator=generator)
    return as_dataset(class_vectors(modalities, labels, generator), labels, dtype)


def question_model(modalities: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    """A question of three words, the modality `text`, and vectors over time, joined by AVSD."""
    torch.manual_seed(0)
    encoders = {
        name: {"type": "sequence", "input_size": SIZES[name], "hidden_size": 8, "num_layers": 0, "positions": False}
        for name in modalities
    }
    encoders["text"] = {"type": "lstm", "vocab_size": 12, "embedding_size": 6, "hidden_size": 8}
    config = QuestionAnsweringConfig(
        modalities=encoders,
        architecture="avsd",
        architecture_options={"hidden_size": 8, "dropout": 0.0},
        num_labels=LABELS,
        **known_options(QuestionAnsweringConfig, options),
    )
    return MultimodalForQuestionAnswering(config).double()


def question_data(modalities: Sequence[str], samples: int, dtype: torch.dtype) -> datasets.Dataset:
    """The answer lies in the vectors; the words are random."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(LABELS, (samples,), generator=generator)
    columns = class_vectors([name for name in modalities if name != "text"], labels, generator)
    for name, column in columns.items():
        columns[name] = column.unsqueeze(1) + torch.randn(samples, 3, SIZES[name], generator=generator)
    columns["text"] = torch.randint(2, 12, (samples, 3), generator=generator)
    return as_dataset(columns, labels, dtype)


class PlainModel(nn.Module):
    """A model that knows nothing of balancing: an encoder per modality, whose features are concatenated.

    Args:
        modalities: names, which are its inputs too.
    """

    def __init__(self, modalities: Sequence[str]):
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Sequential(nn.Linear(SIZES[name], 4), nn.Tanh()) for name in modalities})
        self.head = nn.Sequential(nn.Linear(4 * len(modalities), 6), nn.ReLU(), nn.Linear(6, LABELS))

    def forward(self, audio: Tensor, visual: Tensor, text: Tensor | None = None) -> Tensor:
        """Logits `(batch, labels)` of vectors `(batch, size)`."""
        given = {"audio": audio, "visual": visual, "text": text}
        return self.head(torch.cat([layer(given[name]) for name, layer in self.layers.items()], dim=1))


def balanced_model(modalities: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    """A plain model, wrapped by `balance()`; it has no options."""
    torch.manual_seed(0)
    model = PlainModel(modalities).double()
    return balance(model, {name: f"layers.{name}" for name in modalities}, num_labels=LABELS)


def balanced_data(modalities: Sequence[str], samples: int, dtype: torch.dtype) -> datasets.Dataset:
    """Vectors by modality."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(LABELS, (samples,), generator=generator)
    return as_dataset(class_vectors(modalities, labels, generator), labels, dtype)


class PlainLanguageModel(nn.Module):
    """A causal language model that sees a vector in the place of its first token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.see = nn.Embedding(VOCABULARY, 6), nn.Sequential(nn.Linear(SIZES["visual"], 6), nn.Tanh())
        self.trunk, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, VOCABULARY)

    def forward(self, input_ids: Tensor, visual: Tensor, labels: Tensor | None = None) -> dict[str, Tensor | None]:
        """Loss and logits `(batch, length, vocabulary)` of token ids `(batch, length)` and vectors `(batch, size)`."""
        read = torch.cat([self.see(visual).unsqueeze(1), self.embed(input_ids)[:, 1:]], dim=1)
        logits = self.head(self.trunk(read)[0])
        if labels is None:
            return {"loss": None, "logits": logits}
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}


def language_model(modalities: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    """A plain language model, wrapped by `balance()`; it has no options."""
    torch.manual_seed(0)
    paths = {"text": "embed", "visual": "see"}
    return balance(
        PlainLanguageModel().double(),
        {name: paths[name] for name in modalities},
        num_labels=VOCABULARY,
        task="causal_lm",
        answer_tokens=3,
    )


def language_data(modalities: Sequence[str], samples: int, dtype: torch.dtype) -> datasets.Dataset:
    """Sentences of seven tokens, the last one to three of which are the answer: it depends on the vector, and on the
    question, two random tokens."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(LABELS, (samples,), generator=generator)
    tokens = torch.randint(4, VOCABULARY, (samples, 7), generator=generator)
    tokens[:, 4:] = (classes[:, None] + tokens[:, 1:2] + torch.arange(3)) % VOCABULARY
    counts = torch.randint(1, 4, (samples, 1), generator=generator)
    labels = torch.where(torch.arange(7) >= 7 - counts, tokens, -100)
    columns = class_vectors(["visual"], classes, generator)
    return as_dataset({"input_ids": tokens, **columns}, labels, dtype)


@dataclass(frozen=True)
class Kind:
    """A task's tiny model and data.

    Attributes:
        modalities: names.
        model: from modalities and options of the config to a model in float64, without dropout and batch statistics.
        data: from modalities, a number of samples and a dtype to a dataset.
        teacher: from a modality to a model of it alone; None where there is no such model.
    """

    modalities: tuple[str, ...]
    model: Callable[[Sequence[str], Mapping[str, Any]], nn.Module]
    data: Callable[[Sequence[str], int, torch.dtype], datasets.Dataset]
    teacher: Callable[[str], nn.Module] | None = None


KINDS = {
    "classification": Kind(
        ("audio", "visual"), classification_model, tiny_image_dataset, lambda name: tiny_image_model((name,), seed=1)
    ),
    "segments": Kind(("audio", "visual"), segment_model, segment_data, lambda name: segment_model((name,), {})),
    "questions": Kind(("text", "audio", "visual"), question_model, question_data),
    "several labels": Kind(
        ("audio", "visual"), multi_label_model, multi_label_data, lambda name: multi_label_model((name,), {})
    ),
    "regression": Kind(
        ("audio", "visual"), regression_model, regression_data, lambda name: regression_model((name,), {})
    ),
    "balance": Kind(("audio", "visual"), balanced_model, balanced_data),
    "language model": Kind(("text", "visual"), language_model, language_data),
}
