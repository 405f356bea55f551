"""Tiny models that answer questions, and questions for them."""

from __future__ import annotations

import datasets
import torch

from hf_bml import MultimodalForQuestionAnswering, QuestionAnsweringConfig

MODALITIES = ("text", "audio", "visual")
ENCODERS = {
    "text": {"type": "lstm", "vocab_size": 12, "embedding_size": 6, "hidden_size": 8},
    "audio": {"type": "sequence", "input_size": 5, "hidden_size": 8, "num_layers": 0, "positions": False},
    "visual": {"type": "sequence", "input_size": 7, "hidden_size": 6, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
}
ARCHITECTURES = {
    "avsd": {"hidden_size": 8, "dropout": 0.0, "utilities": {"visual": 2}},
    "panoavqa": {"hidden_size": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0},
}


def tiny_question_config(architecture="avsd", modalities=MODALITIES, num_labels=4, **options):
    own = dict(ARCHITECTURES[architecture])
    if "utilities" in own and "visual" not in modalities:
        del own["utilities"]
    return QuestionAnsweringConfig(
        modalities={name: dict(ENCODERS[name]) for name in modalities},
        architecture=architecture,
        architecture_options={**own, **options.pop("architecture_options", {})},
        num_labels=num_labels,
        **options,
    )


def tiny_question_model(architecture="avsd", modalities=MODALITIES, seed=0, **options):
    torch.manual_seed(seed)
    return MultimodalForQuestionAnswering(tiny_question_config(architecture, modalities, **options))


def tiny_questions(modalities=MODALITIES, batch=4, seed=0):
    """Questions of up to four words, three steps of sound, two frames with three positions."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([4, 2, 3, 1])[torch.arange(batch) % 4]
    mask = (torch.arange(4) < lengths[:, None]).long()
    inputs = {
        "text": {"input_ids": torch.randint(2, 12, (batch, 4), generator=generator) * mask, "attention_mask": mask},
        "audio": torch.randn(batch, 3, 5, generator=generator),
        "visual": torch.randn(batch, 2, 3, 7, generator=generator),
    }
    return {name: inputs[name] for name in modalities}


def tiny_question_dataset(modalities=MODALITIES, samples=64, seed=0):
    """The answer is what the question's first word asks for: the sound's class (word 2) or the picture's (word 3)."""
    generator = torch.Generator().manual_seed(seed)
    heard, seen, asked = (torch.randint(0, 4, (samples,), generator=generator) for _ in range(3))
    asked = asked % 2
    labels = torch.where(asked == 0, heard, seen)
    words = torch.stack([asked + 2, *torch.randint(4, 12, (2, samples), generator=generator)], dim=1)
    audio = torch.randn(samples, 3, 5, generator=generator) * 0.3
    visual = torch.randn(samples, 2, 3, 7, generator=generator) * 0.3
    audio = audio + 2 * torch.nn.functional.one_hot(heard, 5)[:, None]
    visual = visual + 2 * torch.nn.functional.one_hot(seen, 7)[:, None, None]
    columns = {"text": words.numpy(), "audio": audio.numpy(), "visual": visual.numpy()}
    columns = {name: columns[name] for name in modalities}
    return datasets.Dataset.from_dict(
        {**columns, "labels": labels.numpy(), "question_type": asked.numpy()}
    ).with_format("torch", dtype=None)
