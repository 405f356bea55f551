"""Read a mono waveform from whatever an audio column holds.

Audio columns of `datasets` come decoded (torchcodec, which needs a system FFmpeg) or undecoded
(`Audio(decode=False)`: `{"bytes", "path"}`). Undecoded values are read with soundfile, so wav, flac, ogg and mp3
need no FFmpeg.
"""

import io
import os
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor


def read_waveform(value: Any, sampling_rate: int) -> Tensor:
    """Decode, average the channels, resample, and bound a clip to [-1, 1].

    Args:
        value: One of: `{"bytes": bytes | None, "path": str | None}`; `{"array", "sampling_rate"}`; a decoder with
            `get_all_samples()` (torchcodec); a file path; a 1-D or 2-D array, tensor or list already at
            `sampling_rate`. The shorter axis of a 2-D array is the channel axis. Floats are amplitudes in [-1, 1];
            int16 and int32 arrays are divided by 2^15 and 2^31.
        sampling_rate: Rate of the result, in Hz.

    Returns:
        float32 tensor of shape (samples,), values clamped to [-1, 1].

    Raises:
        ValueError: The audio cannot be decoded, is empty, or holds NaN or infinity. The message names the file when
            its path is known.
    """
    array, rate, source = _decode(value, sampling_rate)
    if array.size == 0:
        raise ValueError(
            f"{source}: expected at least one audio sample, found none. Remove this clip or set it to None."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{source}: expected finite audio samples, found NaN or infinity. Clean or remove this clip.")
    if rate != sampling_rate:
        divisor = gcd(rate, sampling_rate)
        array = resample_poly(array, sampling_rate // divisor, rate // divisor)
    return torch.from_numpy(np.clip(array, -1.0, 1.0).astype(np.float32))


def _decode(value: Any, sampling_rate: int) -> tuple[np.ndarray, int, str]:
    """Return a mono float64 array of shape (samples,), its rate in Hz, and a name for error messages."""
    if hasattr(value, "get_all_samples"):
        samples = value.get_all_samples()
        return _mono(samples.data, "audio decoder"), int(samples.sample_rate), "audio decoder"
    if isinstance(value, str | os.PathLike):
        return _read_file(Path(value), os.fspath(value))
    if isinstance(value, dict):
        source = value.get("path") or "audio"
        if value.get("array") is not None:
            return _mono(value["array"], source), int(value["sampling_rate"]), source
        if value.get("bytes") is not None:
            return _read_file(io.BytesIO(value["bytes"]), source)
        if value.get("path"):
            return _read_file(Path(value["path"]), source)
        raise ValueError(
            "audio: expected a dict with 'array' and 'sampling_rate', or with 'bytes' or 'path'; "
            f"found keys {sorted(value)} without content. Set an absent clip to None."
        )
    return _mono(value, "audio array"), sampling_rate, "audio array"


def _read_file(file: io.BytesIO | Path, source: str) -> tuple[np.ndarray, int, str]:
    try:
        array, rate = soundfile.read(file, dtype="float64", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(
            f"{source}: expected an audio file that soundfile can decode, found: {error}. "
            "Convert the clip to wav or flac, or remove it."
        ) from error
    return array.mean(axis=1), int(rate), source


def _mono(array: Any, source: str) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64 if isinstance(array, list | tuple) else None)
    if array.ndim not in (1, 2):
        raise ValueError(f"{source}: expected a 1-D or 2-D array, found shape {array.shape}. Pass one clip per value.")
    if array.dtype in (np.int16, np.int32):
        array = array / (np.iinfo(array.dtype).max + 1)
    elif not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{source}: expected floats in [-1, 1] or int16 or int32 samples, found {array.dtype}. Convert the array."
        )
    if array.ndim == 2:
        array = array.mean(axis=int(np.argmin(array.shape)))
    return array.astype(np.float64)
