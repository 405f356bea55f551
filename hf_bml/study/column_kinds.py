"""What a column of a user's data holds, and a processor and an encoder that fit: a beginning, not a tuned choice.

Each kind is one function: from the values of some rows to what they are in words, the options of the processor, and
those of the encoder. All encoders are small and start from random weights, so that a recipe made of them trains
anywhere.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Audio, Image, List, Value, Video
from PIL import Image as Picture

from ..ground.suggestion import check_name
from ..processing.media.file import MediaError, media_file, open_container, reading
from ..processing.transforms.features import FeatureVector
from ..processing.transforms.text import split_words, word_vocabulary

SUFFIXES = {
    "audio": (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac", ".aiff", ".au"),
    "image": (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    "video": (".mp4", ".mkv", ".webm", ".avi", ".mov", ".mpg", ".mpeg", ".m4v", ".flv"),
}
DECLARED = {Audio: "audio", Image: "image", Video: "video"}
LARGEST_SIDE = 64  # of images and frames, in pixels: larger ones are shrunk
LONGEST_CLIP = 10.0  # seconds
LONGEST_SEQUENCE = 200  # vectors
LONGEST_TEXT = 128  # words
FRAMES = 4  # of a video


class Fitting(NamedTuple):
    """What fits a column.

    Attributes:
        text: what its values are.
        processor, encoder: options with `type`, as a recipe has them.
    """

    text: str
    processor: dict[str, Any]
    encoder: dict[str, Any]


def kind_of(feature: Any, values: Sequence[Any], column: str) -> str:
    """What a column holds: one of KINDS.

    Args:
        feature: its type, of `datasets`.
        values: some that are not None; media as paths or `{"bytes", "path"}`.
        column: its name, for errors.

    Raises:
        ValueError: nothing to go by, or values that no processor takes as they are.
    """
    if not values:
        raise ValueError(f"Expected values in the column {column!r}, found none. Choose another column.")
    if type(feature) in DECLARED:
        return DECLARED[type(feature)]
    first = values[0]
    if isinstance(first, str):
        found = next((kind for kind, own in SUFFIXES.items() if all(str(v).lower().endswith(own) for v in values)), "")
        return found or (_kind_of_arrays(values, column) if all(v.endswith(".npy") for v in values) else "text")
    if isinstance(first, dict) and {"bytes", "path"} <= set(first):
        return _kind_of_file(first)
    if isinstance(feature, List) and isinstance(feature.feature, Image | dict):
        return "frames"
    if isinstance(feature, Value):
        raise ValueError(
            f"Expected media, text, vectors or sequences in the column {column!r}, found a single {feature.dtype} a "
            "row. Put the numbers that belong together into one column of lists."
        )
    return _kind_of_arrays(values, column)


def _kind_of_file(value: dict[str, Any]) -> str:
    suffix = Path(value["path"] or "").suffix.lower()
    known = next((kind for kind, own in SUFFIXES.items() if suffix in own), None)
    if known:
        return known
    content, name = media_file(value, "image")
    try:
        Picture.open(io.BytesIO(content) if isinstance(content, bytes) else content).close()
        return "image"
    except OSError:
        with open_container(content, name, "video") as container:
            return "video" if container.streams.video else "audio"


def _kind_of_arrays(values: Sequence[Any], column: str) -> str:
    try:
        shapes = {FeatureVector().read(value).shape for value in values}
    except ValueError as error:
        raise ValueError(f"column {column!r}: {error}") from error
    if any(len(shape) > 1 for shape in shapes):
        return "sequence"
    if len(shapes) > 1:
        lengths = sorted(shape[0] for shape in shapes)
        raise ValueError(
            f"Expected vectors of one length in the column {column!r}, found {lengths[0]} to {lengths[-1]} numbers. "
            "Make a sequence a list of vectors: [[0.1], [0.2]]."
        )
    return "vector"


def audio(values: Sequence[Any]) -> Fitting:
    """A log mel spectrogram of 16 kHz (8 kHz where there is no more), as long as nine of ten clips."""
    rates, seconds = zip(*(_sound(value) for value in values), strict=True)
    rate, window = (8000, 256) if max(rates) <= 8000 else (16000, 512)
    duration = round(float(np.clip(np.quantile(seconds, 0.9), 0.2, LONGEST_CLIP)), 1)
    cut = {"sampling_rate": rate, "duration": duration, "window_length": window, "overlap": window // 2}
    processor = {"type": "log_spectrogram", **cut, "num_mel_bins": 40, "pad": "zero"}
    encoder = {"type": "conv", "in_channels": 1, "channels": [16, 32, 64, 128]}
    return Fitting(f"sound, {_range(rates)} Hz, {_range(seconds, 1)} s", processor, encoder)


def _sound(value: Any) -> tuple[int, float]:
    content, name = media_file(value, "audio")
    with open_container(content, name, "audio") as container, reading(name, "a readable file"):
        if not container.streams.audio:
            raise MediaError(f"{name}: expected sound, found no audio stream. Choose another column.")
        stream = container.streams.audio[0]
        ends = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        return stream.rate, ends


def image(values: Sequence[Any]) -> Fitting:
    """Images, shrunk to at most LARGEST_SIDE pixels."""
    return _pictures("images", [_picture(value) for value in values], {"type": "frames"})


def frames(values: Sequence[Any]) -> Fitting:
    """Lists of images."""
    found = _pictures("", [_picture(value[0]) for value in values], {"type": "frames"})
    return found._replace(text=f"lists of {_range([len(value) for value in values])} images,{found.text}")


def video(values: Sequence[Any]) -> Fitting:
    """Some frames of each video, evenly from the first to the last."""
    sizes = []
    for value in values:
        content, name = media_file(value, "video")
        with open_container(content, name, "video") as container, reading(name, "a readable file"):
            if not container.streams.video:
                raise MediaError(f"{name}: expected a video, found no video stream. Choose another column.")
            sizes.append((container.streams.video[0].height, container.streams.video[0].width, False))
    return _pictures("videos", sizes, {"type": "video", "num_frames": FRAMES, "sampling": "uniform"})


def _picture(value: Any) -> tuple[int, int, bool]:
    """Height, width, and whether it is grey."""
    if not isinstance(value, Picture.Image):  # of a list of images, which `datasets` decodes
        content, name = media_file(value, "image")
        with reading(name, "a readable image"):
            value = Picture.open(io.BytesIO(content) if isinstance(content, bytes) else content)
    return value.height, value.width, value.mode in ("L", "1", "LA") or value.mode.startswith("I")


def _pictures(what: str, sizes: Sequence[tuple[int, int, bool]], processor: dict[str, Any]) -> Fitting:
    heights, widths, grey = zip(*sizes, strict=True)
    middle = [float(np.median(heights)), float(np.median(widths))]
    scale = min(1.0, LARGEST_SIDE / max(middle))
    size = [max(8, round(side * scale)) for side in middle]
    channels = 1 if all(grey) else 3
    sizes_of_layers = [16, 32, 64, 128, 128][: int(np.clip(np.log2(min(size)) - 1, 2, 5))]
    encoder = {"type": "conv", "in_channels": channels, "channels": sizes_of_layers}
    text = f"{what} {_range(heights)} x {_range(widths)}, {'grey' if channels == 1 else 'colour'}"
    return Fitting(text, {**processor, "size": size, "num_channels": channels}, encoder)


def text(values: Sequence[str]) -> Fitting:
    """The words of the training split, and a small BERT of random weights."""
    lengths = [len(split_words(value)) for value in values]
    length = int(min(LONGEST_TEXT, max(4, np.quantile(lengths, 0.95))))
    count = 2 if len(values) > 1000 else 1
    words = len(word_vocabulary(values, count))
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = {"model_type": "bert", "vocab_size": words + 2, **size, "max_position_embeddings": length}
    processor = {"type": "words", "max_length": length, "minimum_count": count}
    described = f"text of {_range(lengths)} words, {words} different ones"
    return Fitting(described, processor, {"type": "transformers", "config": config})


def vector(values: Sequence[Any]) -> Fitting:
    """Vectors, standardized."""
    size = FeatureVector().read(values[0]).shape[-1]
    processor = {"type": "features", "input_size": size, "standardize": True}
    return Fitting(f"vectors of {size}", processor, {"type": "mlp", "input_size": size, "hidden_sizes": [64]})


def sequence(values: Sequence[Any]) -> Fitting:
    """Sequences of vectors, standardized, and a small transformer; of long ones, every so many vectors."""
    shapes = [FeatureVector().read(value).shape for value in values]
    size, lengths = shapes[0][-1], [shape[0] for shape in shapes]
    processor = {"type": "features", "input_size": size, "standardize": True}
    step = -(-max(lengths) // LONGEST_SEQUENCE)
    encoder = {"type": "sequence", "input_size": size, "hidden_size": 64, "num_layers": 1}
    described = f"sequences of {_range(lengths)} vectors of {size}"
    return Fitting(described, {**processor, **({"step": step} if step > 1 else {})}, encoder)


KINDS: dict[str, Callable[[Sequence[Any]], Fitting]] = {
    **{"audio": audio, "image": image, "frames": frames, "video": video},
    **{"text": text, "vector": vector, "sequence": sequence},
}


def fitting(kind: str, values: Sequence[Any]) -> Fitting:
    """What fits values of a kind; they are some of the column's, of text best all, and none is None.

    Raises:
        ValueError: an unknown kind, or values that are not of this kind.
    """
    check_name("The kind of a modality", kind, KINDS)
    return KINDS[kind](values)


def _range(numbers: Sequence[float], digits: int = 0) -> str:
    low, high = (f"{round(number, digits):.{digits}f}" for number in (min(numbers), max(numbers)))
    return low if low == high else f"{low} to {high}"
