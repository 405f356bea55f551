"""Real annotation files and tiny media for miniatures of releases."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image


@pytest.fixture
def annotation_text(require_data_file) -> Callable[[str], str]:
    """Function from the name of a real annotation file to its text, with its byte order mark if it has one."""

    def read(name: str) -> str:
        return gzip.decompress(require_data_file(f"annotations/{name}.gz").read_bytes()).decode("utf-8")

    return read


@pytest.fixture(scope="session")
def tiny_media(tmp_path_factory) -> dict[str, bytes]:
    """A WAV of 0.1 s, a JPEG, and an MP4 of 4 frames with sound, by suffix."""
    folder = tmp_path_factory.mktemp("tiny_media")
    soundfile.write(folder / "clip.wav", np.sin(np.arange(1600) / 9), 16000)
    Image.new("RGB", (32, 24), (200, 30, 60)).save(folder / "clip.jpg")
    with av.open(str(folder / "clip.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height = 32, 24
        audio = container.add_stream("aac", rate=16000)
        for shade in (0, 80, 160, 240):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), shade, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(audio.encode(samples))
        for stream in (video, audio):
            container.mux(stream.encode())
    return {suffix: (folder / f"clip{suffix}").read_bytes() for suffix in (".wav", ".jpg", ".mp4")}


@pytest.fixture
def write_media(tiny_media) -> Callable[[Path], Path]:
    """Function that writes tiny media of the kind that a path's suffix says (a video for any film suffix)."""

    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiny_media.get(path.suffix, tiny_media[".mp4"]))
        return path

    return write
