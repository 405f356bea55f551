"""Read a mono waveform from any form of audio column.

soundfile reads wav, flac, ogg and mp3, of which it notices that they are truncated; of all others, videos included,
PyAV decodes the best audio stream (formats: `media_file.DEMUXING`). Neither needs FFmpeg on the machine. Audio columns
of `datasets` are best left undecoded (`Audio(decode=False)`: `{"bytes", "path"}`).
"""

from __future__ import annotations

import io
import re
from math import gcd
from typing import Any

import av
import numpy as np
import soundfile
import torch
from torch import Tensor

from .file import (
    REMEDY,
    TOLERATED_LOSS,
    MediaError,
    check_end,
    file_name,
    media_file,
    open_container,
    read_packets,
    reading,
)

MIN_RATE, MAX_RATE = 1000, 1_000_000  # of files, in Hz
MAX_AMPLITUDE = 2.0  # overshoot of lossy codecs is clipped; samples of another scale would become a square wave
BLOCK = 2**22  # values that are read at once: a damaged header can announce more than any memory holds
UNKNOWN_LENGTH = 2**31 - 2**16  # programs that write WAV into a pipe announce about this much, or twice as much
UNKNOWN_FRAMES = 2**63 - 1  # soundfile's word for it: FLAC that was written into a pipe; it cannot read that
SOUNDFILE_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
MAX_PLANES = 8  # of a planar frame: PyAV reads beyond it
MAX_FILTER = 200_000  # larger of the factors of resampling; the cost of its filter grows with it


def read_waveform(value: Any, sampling_rate: int) -> Tensor:
    """Decode, average the channels, resample, and bound a clip to [-1, 1].

    Args:
        value: one of: `{"bytes": bytes | None, "path": str | None}`; `{"array", "sampling_rate"}`; a decoder with
            `get_all_samples()` (torchcodec); the path of an audio or video file; a 1-D or 2-D array, tensor or list
            already at `sampling_rate`. The shorter axis of a 2-D array is the channel axis. Floats are amplitudes in
            [-1, 1]; int16 and int32 arrays are divided by 2^15 and 2^31.
        sampling_rate: rate of the result, in Hz.

    Returns:
        float32 tensor of shape (samples,), values clamped to [-1, 1].

    Raises:
        MediaError: the file cannot be decoded, has no audio stream, is truncated or empty, or holds NaN, infinity or
            amplitudes above 2; or its rate is implausible. The message names the file when its path is known. A
            silent track is valid. That raw AAC, AC-3 or AMR ends too early cannot be noticed.
        ValueError: the value has none of these forms; a list of integers has no known full scale.
    """
    array, rate, source = _decode(value, sampling_rate)
    if array.size == 0:
        raise MediaError(
            f"{source}: expected at least one audio sample, found none. Remove this clip or set it to None."
        )
    if not np.isfinite(array).all():
        raise MediaError(f"{source}: expected finite audio samples, found NaN or infinity. Clean or remove this clip.")
    peak = np.abs(array).max()
    if peak > MAX_AMPLITUDE:
        raise MediaError(
            f"{source}: expected amplitudes in [-1, 1], found {peak:.6g}. Divide samples of another scale by their "
            "full one (32768 for 16 bits); a damaged file: download it again, or set it to None."
        )
    if rate != sampling_rate:
        if not MIN_RATE <= rate <= MAX_RATE:
            raise MediaError(f"{source}: expected a rate of {MIN_RATE} to {MAX_RATE} Hz, found {rate}. {REMEDY}")
        divisor = gcd(rate, sampling_rate)
        if max(rate, sampling_rate) // divisor > MAX_FILTER:
            raise MediaError(
                f"{source}: expected a usual rate, found {rate} Hz, which has hardly a factor in common with "
                f"{sampling_rate} Hz. {REMEDY}"
            )
        from scipy.signal import resample_poly  # slow to import

        array = resample_poly(array, sampling_rate // divisor, rate // divisor)
    return torch.from_numpy(np.clip(array, -1.0, 1.0).astype(np.float32))


def read_audible_waveform(value: Any, sampling_rate: int, min_rms: float) -> Tensor:
    """`read_waveform`, for clips that are loud enough.

    Args:
        value: see `read_waveform`.
        sampling_rate: in Hz.
        min_rms: root mean square amplitude that is required, in [0, 1); 1e-4 is -80 dB of full scale.

    Raises:
        MediaError: as `read_waveform`, or the clip is silent; the message names the file.
    """
    waveform = read_waveform(value, sampling_rate)
    level = float(waveform.square().mean().sqrt())
    if level < min_rms:
        raise MediaError(
            f"{file_name(value) or 'audio'}: expected a level of at least min_rms={min_rms}, found "
            f"{level:.2g}. The track is silent: set it to None, or lower min_rms."
        )
    return waveform


def check_min_rms(min_rms: float) -> None:
    """Raises ValueError unless it is in [0, 1)."""
    if not 0 <= min_rms < 1:
        raise ValueError(f"Expected min_rms in [0, 1), found {min_rms}. Amplitudes are at most 1.")


def _decode(value: Any, sampling_rate: int) -> tuple[np.ndarray, int, str]:
    """Return a mono float64 array of shape (samples,), its rate in Hz, and a name for error messages."""
    if hasattr(value, "get_all_samples"):  # of torchcodec, which need not be installed
        samples = value.get_all_samples()
        return _mono(samples.data, "audio decoder"), int(samples.sample_rate), "audio decoder"
    if isinstance(value, dict) and value.get("array") is not None:
        source = value.get("path") or "audio"
        return _mono(value["array"], source), _rate(value, source), source
    located = media_file(value, "audio")
    if located is None:
        return _mono(value, "audio array"), sampling_rate, "audio array"
    file, source = located
    try:
        opened = soundfile.SoundFile(io.BytesIO(file) if isinstance(file, bytes) else file)
    except Exception:  # no format of soundfile's
        return *_read_with_pyav(file, source), source
    with opened:
        if opened.format in SOUNDFILE_FORMATS and opened.frames < UNKNOWN_FRAMES:
            if opened.format == "OGG":  # of which soundfile reads what there is
                check_end(file, source, "ogg")
            return _read_with_soundfile(opened, source), opened.samplerate, source
    return *_read_with_pyav(file, source), source


def _read_with_soundfile(opened: soundfile.SoundFile, source: str) -> np.ndarray:
    announced = re.search(r"^data : (\d+) \(should be (\d+)\)", opened.extra_info, flags=re.MULTILINE)
    blocks = [np.zeros(0)]
    with reading(source, "readable audio"):
        while len(block := opened.read(max(BLOCK // opened.channels, 1), dtype="float64", always_2d=True)):
            blocks.append(block.mean(axis=1))
    array = np.concatenate(blocks)
    expected, found = max(opened.frames, 1), len(array)
    if announced and int(announced[1]) < UNKNOWN_LENGTH:
        expected, found = int(announced[1]), int(announced[2])
    if len(array) and found < (1 - TOLERATED_LOSS) * expected:
        raise MediaError(
            f"{source}: expected the length that its header says, found {found / expected:.0%} of it. {REMEDY}"
        )
    return array


def _read_with_pyav(file: bytes | str, source: str) -> tuple[np.ndarray, int]:
    with open_container(file, source, "audio") as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise MediaError(f"{source}: expected an audio stream, found none. Set an absent modality to None.")
        with reading(source, "readable audio"):
            return _decode_track(container, stream, source), stream.rate or 0


def _decode_track(container: av.container.InputContainer, stream: av.AudioStream, source: str) -> np.ndarray:
    frames = [frame for packet in read_packets(container, stream, source) for frame in packet.decode()]
    frames += stream.decode(None)
    if any(frame.is_corrupt for frame in frames):
        raise MediaError(f"{source}: expected intact audio, found a damaged frame. {REMEDY}")
    if not frames:
        return np.zeros(0)
    counts = {frame.layout.nb_channels for frame in frames}
    if len(counts) > 1:
        raise MediaError(f"{source}: expected one number of channels, found {sorted(counts)}. {REMEDY}")
    channels = counts.pop()
    if frames[0].format.name == "fltp" and channels <= MAX_PLANES:
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1).mean(axis=0, dtype=np.float64)
    resampler = av.AudioResampler(format="dbl", layout=frames[0].layout, rate=frames[0].rate)
    parts = [part.to_ndarray() for frame in [*frames, None] for part in resampler.resample(frame)]
    return np.concatenate(parts, axis=1).reshape(-1, channels).mean(axis=1)


def _rate(value: dict[str, Any], source: str) -> int:
    """The rate of `{"array", "sampling_rate"}`, in Hz."""
    try:
        rate = int(value.get("sampling_rate"))
    except (TypeError, ValueError, OverflowError):
        rate = 0
    if rate <= 0:
        raise MediaError(
            f"{source}: expected the sampling_rate of the array in Hz, found {value.get('sampling_rate')!r}. Pass "
            "{'array': ..., 'sampling_rate': ...}."
        )
    return rate


def _mono(array: Any, source: str) -> np.ndarray:
    is_list = isinstance(array, list | tuple)
    array = np.asarray(array)
    if array.ndim not in (1, 2):
        raise ValueError(f"{source}: expected a 1-D or 2-D array, found shape {array.shape}. Pass one clip per value.")
    if array.dtype in (np.int16, np.int32):
        array = array / (np.iinfo(array.dtype).max + 1)
    elif is_list and np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{source}: expected floats in [-1, 1], or integers whose type says what full scale is, found a list of "
            "integers. Declare the column as List(Value('int16')) or pass a numpy array of int16 or int32."
        )
    elif not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{source}: expected floats in [-1, 1] or int16 or int32 samples, found {array.dtype}. Convert the array."
        )
    if array.ndim == 2:
        array = array.mean(axis=int(np.argmin(array.shape)))
    return array.astype(np.float64)
