"""One transform per modality, built from a plain dict, and what happens to values that cannot be used."""

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ..ground.suggestion import Registry, did_you_mean
from .kept_files import kept_files, stored_state
from .media.file import file_name, one_line
from .transforms.base import Transform
from .transforms.features import FeatureVector
from .transforms.frames import FrameTransform
from .transforms.ivector import IVector
from .transforms.multi_window_spectrogram import MultiWindowSpectrogram
from .transforms.optical_flow import OpticalFlow
from .transforms.rgb_difference import RGBDifference
from .transforms.spectrogram import LogSpectrogram
from .transforms.text import Tokenize, Words
from .transforms.video_frames import VideoFrames

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
    },
)
ON_ERROR = ("raise", "mask", "skip")
Transformed = Tensor | dict[str, Tensor] | None


class Failure(NamedTuple):
    """A value that could not be used."""

    row: int
    modality: str
    file: str | None
    reason: str


def failure_reason(error: Exception, file: str | None = None) -> str:
    """One line that names the value's file where it has one, and the kind of an unexpected error."""
    reason = one_line(error)
    if not isinstance(error, ValueError):
        reason = f"expected a value that can be transformed, found {type(error).__name__}: {reason}"
    return reason if file is None or file in reason else f"{file}: {reason}"


class ModalityTransforms:
    """The transforms of a `MultimodalProcessor`, by modality.

    Args:
        modalities: `{name: {"type": key of PROCESSORS or "package.module:Name", **options of that class}}`; a type
            that learns a state also has `fitted`, its name (see `kept_files`); one that has files has `files`, their
            digests, which come before the place that its options name (see `kept_files`).
        on_error: "raise", or "mask" / "skip": a value that cannot be used becomes `None`. Random frames of a video can
            meet damage that its evaluation frames do not: these are used then, with one warning per file.

    Raises:
        ValueError: unknown type, option or `on_error`; the message names the closest valid one.
    """

    def __init__(self, modalities: dict[str, dict[str, Any]], on_error: str = "raise"):
        if on_error not in ON_ERROR:
            raise ValueError(_unknown("on_error", on_error, list(ON_ERROR)))
        self.on_error = on_error
        self.by_modality = {name: _build_transform(name, config) for name, config in modalities.items()}
        self._partly_damaged: set[tuple[str, str]] = set()  # modality and file, of which was warned

    @property
    def unfitted(self) -> list[str]:
        """The modalities whose transform learns from data and has not done so."""
        return [name for name, transform in self.by_modality.items() if not transform.is_fitted]

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

        def function(value: Any) -> Transformed:
            try:
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


def _build_transform(name: str, config: dict[str, Any]) -> Transform:
    where = f"modality {name!r}"
    if not isinstance(config, dict) or "type" not in config:
        raise ValueError(f"{where}: expected a dict with 'type', found {config!r}. Add one of {sorted(PROCESSORS)}.")
    options = {key: value for key, value in config.items() if key != "type"}
    try:
        transform_class = PROCESSORS.find(config["type"])
        state_name = options.pop("fitted", None) if transform_class.learns == "state" else None
        source = transform_class.source_option
        files = options.pop("files", None) if source is not None else None
        valid = list(inspect.signature(transform_class).parameters)
        for option in options:
            if option not in valid:
                raise ValueError(_unknown(f"{config['type']} option", option, valid))
        if files is not None:
            options[source] = str(kept_files(files))
        transform = transform_class(**options)
        if state_name is not None:
            transform.load_state(stored_state(state_name))
        return transform
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def _unknown(kind: str, found: Any, valid: list[str]) -> str:
    return f"expected {kind} among {valid}, found {found!r}.{did_you_mean(found, valid)}"
