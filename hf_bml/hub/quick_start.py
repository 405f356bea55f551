"""The quick start of a model card: Python that loads the model and runs it on stand-ins of the right shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..models import SEGMENT_ARCHITECTURES
from .facts import CardFacts

LENGTH = 10  # of a stand-in: segments of a clip, or steps of a sequence
VECTOR_ENCODERS = ("features", "sequence", "mlp")  # encoders of features that were extracted before


def prediction_code(facts: CardFacts) -> str:
    """Python that prints what the model predicts for the sample."""
    if facts.model_class in ("MultimodalForClassification", "MultimodalForQuestionAnswering"):
        return "print(model.config.id2label[output.logits.argmax().item()])"
    if facts.model_class == "MultimodalForSegmentClassification":
        return "print([model.config.id2label[label] for label in output.logits[0].argmax(-1).tolist()])"
    return "print(output.logits.argmax(-1))"


def sample_values(facts: CardFacts) -> dict[str, tuple[str, str]]:
    """Python that makes a placeholder for each modality's raw value, and what may replace it."""
    return {
        modality: sample_code(facts.processors.get(modality, {}), feature_shape(facts, modality))
        for modality in facts.modalities
    }


def sample_tensors(facts: CardFacts) -> dict[str, str]:
    """Per modality Python that makes a batch of one for a model without processor; empty unless all shapes are known.

    Example:
        >>> facts = CardFacts("x", modalities=["a"], config={"modalities": {"a": {"type": "mlp", "input_size": 3}}})
        >>> sample_tensors(facts)
        {'a': 'torch.randn(1, 3)'}
    """
    encoders = facts.config.get("modalities") or {}
    shapes = {name: feature_shape(facts, name) for name in facts.modalities}
    if not all(shapes[name] and encoders[name].get("type") in VECTOR_ENCODERS for name in shapes):
        return {}
    return {name: f"torch.randn(1, {', '.join(map(str, shape))})" for name, shape in shapes.items()}


def feature_shape(facts: CardFacts, modality: str) -> tuple[int, ...] | None:
    """The shape of a modality's extracted feature as the model takes it, without batch; None if its size is not known.

    Segments and, of a guided modality, positions come in front; steps for a model that answers questions.
    """
    encoder = (facts.config.get("modalities") or {}).get(modality, {})
    size = facts.processors.get(modality, {}).get("input_size") or encoder.get("input_size")
    if size is None:
        return None
    options = facts.config.get("architecture_options") or {}
    if facts.model_class == "MultimodalForSegmentClassification":
        return (number_of_segments(facts), *positions(facts, options, modality), size)
    if facts.model_class == "MultimodalForQuestionAnswering":
        return (LENGTH * (options.get("utilities") or {}).get(modality, 1), size)
    return (size,)


def number_of_segments(facts: CardFacts) -> int:
    """As a processor cuts them, else any number."""
    counts = [options.get("segments") or options.get("num_frames") for options in facts.processors.values()]
    return next(filter(None, counts), LENGTH)


def positions(facts: CardFacts, options: Mapping[str, Any], modality: str) -> tuple[int, ...]:
    """The positions of a segment, where the architecture wants several."""
    architecture = SEGMENT_ARCHITECTURES[facts.config["architecture"]]
    wanting = architecture.uses_positions(architecture.options_class(**options), facts.modalities)
    return (options["positions"],) if modality in wanting and options["positions"] > 1 else ()


def sample_code(processor: Mapping[str, Any], shape: tuple[int, ...] | None) -> tuple[str, str]:
    """Python that makes a placeholder for a modality's raw value, and what may replace it.

    Args:
        processor: its options.
        shape: of an extracted feature; None if it is not known.
    """
    kind = processor.get("type")
    if kind in ("log_spectrogram", "multi_window", "ivector", "waveform"):
        rate, duration = processor.get("sampling_rate") or 16000, processor.get("duration") or 3
        array = f"noise.normal(0, 0.1, {round(rate * duration)})"
        return f'{{"array": {array}, "sampling_rate": {rate}}}', 'or "clip.wav", or the sound of "clip.mp4"'
    if kind == "frames":
        size, channels = processor.get("size", 224), processor.get("num_channels", 3)
        height, width = (size, size) if isinstance(size, int) else size
        return f'noise.integers(0, 256, ({height}, {width}, {channels}), "uint8")', 'or "image.png"'
    if kind in ("tokens", "words"):
        return '"a sentence"', ""
    if kind == "features" and shape is not None:
        if len(shape) == 1:
            return f"noise.normal(0, 1, {shape[0]})", "or any list of numbers"
        return f"noise.normal(0, 1, {shape})", "or lists of that shape"
    if kind in ("video", "optical_flow", "rgb_difference"):
        frames = 16 * processor.get("new_length", 1)
        return f'torch.from_numpy(noise.integers(0, 256, ({frames}, 3, 64, 64), "uint8"))', 'or "clip.mp4"'
    return "...", "as in training"


def balance_call(facts: CardFacts) -> str:
    """The call of `balance` that wraps the model again, as in training; empty if it is not known.

    A function that takes the logits from the output cannot be written down: it appears under the name `logits`.

    Example:
        >>> balance_call(CardFacts("x", balance={"modalities": {"a": ["see"]}, "logits": "logits", "num_labels": 2}))
        "balance(model, {'a': 'see'}, num_labels=2)"
    """
    if not facts.balance:
        return ""
    paths = {name: path[0] if len(path) == 1 else path for name, path in facts.balance["modalities"].items()}
    arguments = [f"{paths!r}"]
    if facts.balance.get("features"):
        arguments.append(f"features={facts.balance['features']!r}")
    logits = facts.balance["logits"]
    if logits != "logits":
        arguments.append("logits=logits" if logits is None else f"logits={logits!r}")
    arguments.append(f"num_labels={facts.balance['num_labels']}")
    further = {name: facts.balance.get(name) for name in ("task", "answer_tokens", "placeholders")}
    if further["task"] == "classification":
        del further["task"]
    arguments += [f"{name}={value!r}" for name, value in further.items() if value]
    return f"balance(model, {', '.join(arguments)})"
