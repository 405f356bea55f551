"""One transform per modality, built from a plain dict, and what happens to values that cannot be used."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..ground.declared import check_required, unlike_declared
from ..ground.suggestion import NOTHING, Registry, check_name, check_options
from .corruptions.augmentation import Augmentation, build_augmentation, corruptions_among
from .corruptions.base import Surroundings
from .failures import Failure, failure_reason
from .kept_files import kept_files, stored_state
from .media.file import file_name
from .transforms.base import Signal, Transform
from .transforms.features import FeatureVector
from .transforms.frames import FrameTransform
from .transforms.ivector import IVector
from .transforms.multi_window_spectrogram import MultiWindowSpectrogram
from .transforms.optical_flow import OpticalFlow
from .transforms.rgb_difference import RGBDifference
from .transforms.spectrogram import LogSpectrogram
from .transforms.text import Tokenize, Words
from .transforms.video_frames import VideoFrames
from .transforms.waveform import Waveform

logger = logging.getLogger(__name__)

PROCESSORS: Registry[type[Transform]] = Registry(
    "processor type",
    Transform,
    "hf_bml.processing.PROCESSORS",
    {
        "log_spectrogram": LogSpectrogram,
        "multi_window": MultiWindowSpectrogram,
        "ivector": IVector,
        "frames": FrameTransform,
        "video": VideoFrames,
        "rgb_difference": RGBDifference,
        "optical_flow": OpticalFlow,
        "features": FeatureVector,
        "tokens": Tokenize,
        "words": Words,
        "waveform": Waveform,
    },
)
ON_ERROR = ("raise", "mask", "skip")
Transformed = Tensor | dict[str, Tensor] | None


class ModalityTransforms:
    """The transforms of a `MultimodalProcessor`, by modality.

    Args:
        modalities: `{name: {"type": key of PROCESSORS or "package.module:Name", **options of that class}}`; a type
            that learns a state also has `fitted`, its name (see `kept_files`); one that has files has `files`, their
            digests, which come before the place that its options name (see `kept_files`). `augment` may hold
            corruptions, see `build_augmentation`; without an `augment` of its own, a transform does not get to see it.
        on_error: "raise", or "mask" / "skip": a value that cannot be used becomes `None`. Random frames of a video can
            meet damage that its evaluation frames do not: these are used then, with one warning per file.
        signals: modalities of which signals are stored instead of tensors.
        material: what corruptions in training need, by modality: `{"others" or "std": name of a stored state}`.

    Attributes:
        by_modality: the transforms.
        augmentations: the corruptions in training, of the modalities that have any.

    Raises:
        ValueError: unknown type, option or `on_error`; the message names the closest valid one.
    """

    def __init__(
        self,
        modalities: dict[str, dict[str, Any]],
        on_error: str = "raise",
        signals: Collection[str] = (),
        material: Mapping[str, Mapping[str, str]] = NOTHING,
    ):
        check_name("on_error", on_error, ON_ERROR)
        self.on_error = on_error
        self.by_modality: dict[str, Transform] = {}
        self.augmentations: dict[str, Augmentation] = {}
        for name, config in modalities.items():
            self.by_modality[name], augmentation = _build(name, config)
            if augmentation is not None:
                self.augmentations[name] = augmentation
        self.signals = set(signals)
        self._material = material
        self._surroundings: dict[str, Surroundings] = {}
        self._partly_damaged: set[tuple[str, str]] = set()  # modality and file, of which was warned

    @property
    def unfitted(self) -> list[str]:
        """The modalities whose transform learns from data and has not done so."""
        return [name for name, transform in self.by_modality.items() if not transform.is_fitted]

    @property
    def are_random(self) -> bool:
        """Whether any training output depends on random draws."""
        return bool(self.augmentations) or any(transform.is_random for transform in self.by_modality.values())

    def __call__(
        self,
        name: str,
        values: list,
        training: bool = False,
        failures: list[Failure] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Transformed]:
        """Transform values of one modality; `None` stays `None`.

        Args:
            name: the modality.
            values: raw values.
            training: switch random sampling and augmentation on.
            failures: collects what could not be used; without it, that is logged.
            rows: the values' row numbers, for messages and failures; default 0, 1, ...

        Raises:
            ValueError: A value cannot be used and `on_error` is "raise"; the message names modality and file, and what
                the transform raised is its cause. Or the transform is not fitted.
        """
        transform = self.by_modality[name]
        if name in self.unfitted:  # not the fault of a value, so `on_error` does not matter
            raise ValueError(
                f"modality {name!r}: expected a fitted {type(transform).__name__}, found one that has learned "
                "nothing. Fit it with MultimodalProcessor.apply(DatasetDict), or load a fitted processor with "
                "from_pretrained."
            )
        may_retry = training and transform.is_random and self.on_error != "raise"
        augments = training and name in self.augmentations
        if augments:
            self.surroundings(name)  # what is missing there is not the fault of a value either

        def function(value: Any) -> Transformed:
            try:
                if augments:
                    return self._from_signal(name, transform.read_in_training(value), training=True)
                return transform([value], training=training)[0]
            except Exception as error:
                if not may_retry:
                    raise
                result = transform([value], training=False)[0]
                self._warn_of_damage(name, value, error)
                return result

        return self._each(name, values, function, failures, rows)

    def _warn_of_damage(self, name: str, value: Any, error: Exception) -> None:
        file = file_name(value)
        reason = failure_reason(error, file)
        key = (name, file or reason)
        if key not in self._partly_damaged:
            self._partly_damaged.add(key)
            logger.warning("Modality %r: %s Its evaluation frames are used where random ones fail.", name, reason)

    def extract(
        self,
        name: str,
        values: list,
        failures: list[Failure] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Transformed]:
        """The deterministic part of a random transform; arguments as in a call."""
        transform = self.by_modality[name]
        return self._each(name, values, lambda value: transform.extract([value])[0], failures, rows)

    def finish(self, name: str, extracted: list, training: bool = False) -> list[Transformed]:
        """The random part, from `extract`'s results; `None` stays `None`."""
        transform = self.by_modality[name]
        return self._each(name, extracted, lambda value: transform.finish([value], training=training)[0])

    def read(
        self,
        name: str,
        values: list,
        failures: list[Failure] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Signal | None]:
        """The signals, see `Transform.signal`; arguments as in a call."""
        transform = self.by_modality[name]

        def function(value: Any) -> Signal:
            signal = transform.read(value)
            transform.from_signal(signal)  # what a transform cannot use fails now, not at some later access
            return signal

        return self._each(name, values, function if self.on_error != "raise" else transform.read, failures, rows)

    def from_signals(self, name: str, signals: list, training: bool = False) -> list[Transformed]:
        """From `read`'s results to those of a call, corrupted in training if the modality is augmented so."""
        if training and name in self.augmentations:
            self.surroundings(name)
        return self._each(name, signals, lambda signal: self._from_signal(name, signal, training))

    def _from_signal(self, name: str, signal: Signal, training: bool) -> Transformed:
        if training and name in self.augmentations:
            signal = self.augmentations[name](signal, self.surroundings(name))
        return self.by_modality[name].from_signal(signal, training)

    def surroundings(self, name: str) -> Surroundings:
        """What corruptions of the modality in training may use.

        Raises:
            ValueError: it was not made, or is no longer in the cache.
        """
        if name not in self._surroundings:
            given = self._material.get(name, NOTHING)
            needed = self.augmentations[name].needs - {"sampling_rate"} if name in self.augmentations else set()
            if missing := needed - set(given):
                raise ValueError(
                    f"expected what the augmentation takes from the training split ({', '.join(sorted(missing))}), "
                    "found none. Apply the processor to the data set: MultimodalProcessor.apply."
                )
            states = {what: stored_state(state) for what, state in given.items()}
            self._surroundings[name] = Surroundings(
                self.by_modality[name].sampling_rate,
                [signal for _, signal in sorted(states.get("others", NOTHING).items())],
                states["std"]["std"] if "std" in states else None,
            )
        return self._surroundings[name]

    def stores_signal(self, name: str) -> bool:
        """Whether signals are stored of the modality: they must be tensors, of which training draws no part."""
        transform = self.by_modality[name]
        if name not in self.augmentations:
            return name in self.signals and transform.signal != "text"
        return transform.signal != "text" and not transform.reads_at_random

    def _each(
        self,
        name: str,
        values: list,
        function: Callable[[Any], Any],
        failures: list[Failure] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Transformed]:
        # One value at a time: a failure concerns its own sample, and a batch of spectrograms leaves the CPU cache.
        results: list[Transformed] = []
        reads_files = self.by_modality[name].reads_files
        for row, value in zip(range(len(values)) if rows is None else rows, values, strict=True):
            try:
                results.append(None if value is None else function(value))
            except Exception as error:  # what a damaged file makes a decoder raise can be anything
                file = file_name(value) if reads_files else None
                reason = failure_reason(error, file)
                if self.on_error == "raise":
                    raise ValueError(f"modality {name!r}: {reason} (row {row})") from error
                if failures is None:
                    logger.warning("Row %d of the batch is treated as absent: modality %r: %s", row, name, reason)
                else:
                    failures.append(Failure(row, name, file, reason))
                results.append(None)
        return results


def _build(name: str, config: dict[str, Any]) -> tuple[Transform, Augmentation | None]:
    where = f"modality {name!r}"
    if not isinstance(config, dict) or "type" not in config:
        raise ValueError(f"{where}: expected a dict with 'type', found {config!r}. Add one of {sorted(PROCESSORS)}.")
    options = {key: value for key, value in config.items() if key != "type"}
    try:
        transform_class = PROCESSORS.find(config["type"])
        corruptions = None
        if transform_class.signal is not None:  # else it may have an `augment` of any kind
            own, corruptions = corruptions_among(options.pop("augment", None))
            options |= {} if own is None else {"augment": own}
        state_name = options.pop("fitted", None) if transform_class.learns == "state" else None
        source = transform_class.source_option
        files = options.pop("files", None) if source is not None else None
        check_options(config["type"], options, inspect.signature(transform_class).parameters)
        if files is not None:
            options[source] = str(kept_files(files))
        check_required(config["type"], transform_class, options)
        transform = transform_class(**options)
        if state_name is not None:
            transform.load_state(stored_state(state_name))
        return transform, None if corruptions is None else build_augmentation(name, transform, corruptions)
    except (AttributeError, TypeError) as error:  # what comes of an option of the wrong type
        raise ValueError(f"{where}: {unlike_declared(transform_class, options) or error}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
