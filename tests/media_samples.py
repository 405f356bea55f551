"""Small media files that tests write themselves."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from hf_bml.processing.media.video import check_decoder

MILLISECONDS = Fraction(1, 1000)


def write_clip(
    path: Path,
    times: list[int] | None = None,
    tone: float | None = 0.5,
    seconds: float = 2.0,
    key_every: int = 5,
    size: tuple[int, int] = (32, 48),
    options: dict[str, str] | None = None,
) -> Path:
    """A video whose frame `i` is uniformly grey at level `12 * i`, with an AAC tone (amplitude 0: silence).

    Args:
        path: The extension decides the container.
        times: Presentation times in ms; default: 20 frames at 10 per second. Empty: no video stream.
        tone: Amplitude of a 440 Hz tone at 16 kHz; None: no audio stream.
        seconds: Length of the audio.
        key_every: Distance of key frames.
        size: Height and width.
        options: Of the container.
    """
    times = [100 * index for index in range(20)] if times is None else times
    height, width = size
    with av.open(str(path), "w", options=options or {}) as container:
        video = audio = None
        if times:
            video = container.add_stream("mpeg4", rate=1000)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            video.codec_context.time_base = video.time_base = MILLISECONDS
            video.bit_rate = 2_000_000
            video.codec_context.options = {"g": str(key_every), "sc_threshold": "1000000000"}  # no other key frames
        if tone is not None:
            audio = container.add_stream("aac", rate=16000, layout="mono")
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 12 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, MILLISECONDS
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode(None))
        if audio is not None:
            wave = tone * np.sin(2 * np.pi * 440 * np.arange(round(16000 * seconds)) / 16000)
            for start in range(0, len(wave), 1024):
                part = wave[start : start + 1024].astype(np.float32)[None]
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16000, start
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def grey_levels(frames: torch.Tensor) -> list[int]:
    """Index of each frame of a clip written by `write_clip`."""
    return [round(float(level) / 12) for level in frames.float().mean(dim=(1, 2, 3))]


def needs_torchcodec() -> None:
    """Skip where torchcodec or FFmpeg's libraries are missing. Mark such tests `system`."""
    try:
        check_decoder("torchcodec")
    except ValueError as error:
        pytest.skip(str(error))


def needs_media_columns() -> None:
    """Skip where torchcodec, with which `datasets` writes audio and video columns, cannot even be imported."""
    try:
        import torchcodec.encoders  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"datasets cannot write media columns: {error}")
