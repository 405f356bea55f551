"""The face of a transform: what data processing, fitting, collation, checks and the pipeline read of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

Value = Tensor | dict[str, Tensor]
Signal = Tensor | str


class Transform:
    """From the raw values of one modality's column to tensors.

    To add one, write a subclass with a `__call__`, or with `read` and `from_signal`. In YAML and in Python it is then
    known as `{"type": "package.module:Name", **options}`, where the options are the keywords of `__init__`, plain
    JSON, checked there with ValueErrors; `PROCESSORS["name"] = Name` gives it a short name. What a saved processor
    names is not imported: register your class, in either way, before you load one.

        class Level(Transform):
            '''A waveform -> its level in decibels, (1,).'''

            def __init__(self, floor: float = -80.0):
                self.floor = floor

            def __call__(self, values, training=False):
                return [20 * torch.tensor([max(value)]).log10().clamp(min=self.floor) for value in values]

    A transform that declares the kind of its `signal` can be corrupted, see `hf_bml.processing.corruptions`: `read`
    decodes a value, `from_signal` does the rest, and a call is one after the other. One without it cannot.

    What never changes is computed once and cached; what `is_random` is computed at every access, in the training split
    with `training=True`. If the costly part of a random transform is deterministic, split it: `has_extract` is true,
    `extract` is cached, and `finish` does the rest.

    A transform that learns from the training split says so in `learns`. `"state"`: `fit` gets what `extract` returned
    and returns tensors, which are saved beside the processor and come back by `load_state`. `"options"`:
    `learned_options` gets the raw values and returns further options of `__init__`, saved in the processor's config.

    Attributes:
        signal: what `read` returns, before any normalising, padding or cropping. "audio": a mono waveform, float32
            (samples,), full scale [-1, 1], at `sampling_rate`. "image": (..., channels, height, width), uint8 or
            floats in [0, 1]. "text": a string. "vector": float32 (..., dim). None: `read` is not declared.
        sampling_rate: of an "audio" signal, in Hz; 0 for others.
        compares_frames: whether the input is what changes from frame to frame, so that the same noise in all frames
            would cancel.
        reads_at_random: whether `read_in_training` draws what part of a value it decodes.
        learns: "state", "options", or None.
        source_option: name of the option that says where files are from, such as a tokenizer's, which `save_files`
            writes so that they travel with the processor; None for no files.
        of_the_encoder: options that a pretrained encoder of the modality decides (see `Encoder.expected_input`) where
            a recipe does not give them.
        output_keys: keys of the dict of tensors that a value becomes; None for a single tensor.
        is_random: whether training output depends on random draws.
        has_extract: whether `extract` is worth caching.
        is_fitted: whether all is learned that must be.
        reads_files: whether a text may be the path of a file, which is processed again when it changes.
        reads_video: whether a value may be a video file, for its frames or its sound.
        stores_files: whether what is read of files is copied into the cache; else they are read at every access.
        zeros: what an input of zeros stands for, if that is not silence, an even picture or the like.
        pad_token_id: what token ids are padded with; None where there are none.
        vocab_size: how many token ids there are; 0 where there are none.
    """

    signal: ClassVar[Literal["audio", "image", "text", "vector"] | None] = None
    compares_frames: ClassVar[bool] = False
    sampling_rate: int = 0
    reads_at_random: bool = False
    learns: ClassVar[Literal["state", "options"] | None] = None
    source_option: ClassVar[str | None] = None
    of_the_encoder: ClassVar[Sequence[str]] = ()
    output_keys: Sequence[str] | None = None
    is_random: bool = False
    has_extract: bool = False
    is_fitted: bool = True
    reads_files: bool = True
    reads_video: bool = False
    stores_files: bool = True
    zeros: str | None = None
    pad_token_id: int | None = None
    vocab_size: int = 0

    def __post_init__(self) -> None:
        """Checks the options of a transform that is a dataclass, which calls it; nothing here."""

    @property
    def sizes(self) -> dict[str, int | None]:
        """What the modality's encoder must agree with, by name: `num_channels`, `num_bins`, `num_windows`,
        `input_size`, `output_size`; None or left out where it is not known."""
        return {}

    def __call__(self, values: list[Any], training: bool = False) -> list[Value]:
        """Raw values -> a tensor, or a dict of `output_keys`, each; `training` switches random draws on.

        `MultimodalDataCollator` says which ranks a tensor may have.

        Raises:
            ValueError: a value cannot be used; `MediaError`, which names it, for a file.
        """
        read = self.read_in_training if training else self.read
        return [self.from_signal(read(value), training) for value in values]

    def read(self, value: Any) -> Signal:
        """Decode one value; see `signal`. Raises ValueError as a call does."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `__call__`, or declare its signal.")

    def read_in_training(self, value: Any) -> Signal:
        """As `read`, but for what `reads_at_random`."""
        return self.read(value)

    def from_signal(self, signal: Signal, training: bool = False) -> Value:
        """What a call returns for a value, from what `read` returned, which is left as it is."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `__call__`, or declare its signal.")

    def extract(self, values: list[Any]) -> list[Tensor]:
        """The deterministic part, one tensor a value: the signal, unless overridden; for `has_extract`, and what `fit`
        learns from."""
        return [self.read(value) for value in values]

    def finish(self, extracted: list[Tensor], training: bool = False) -> list[Value]:
        """From `extract`'s results to those of a call."""
        return [self.from_signal(signal, training) for signal in extracted]

    def fit(self, extracted: Sequence[Tensor]) -> dict[str, Tensor]:
        """Learn a state from `extract`'s results on the training split, read from the disk one at a time."""
        raise NotImplementedError(f"{type(self).__name__} learns no state.")

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take `fit`'s result. Raises ValueError if it is of another transform."""
        raise NotImplementedError(f"{type(self).__name__} learns no state.")

    def learned_options(self, values: Iterable[Any]) -> dict[str, Any]:
        """Options learned from the raw values of the training split."""
        raise NotImplementedError(f"{type(self).__name__} learns no options.")

    def save_files(self, folder: Path) -> None:
        """Write the files that `source_option` stands for: the same bytes for the same content."""
        raise NotImplementedError(f"{type(self).__name__} has no files.")


def check_at_least_one(**options: float) -> None:
    """Raises ValueError, naming the option, for a value below 1."""
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"Expected {name} >= 1, found {value}. Raise {name}.")
