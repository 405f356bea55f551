from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_samples import grey_levels, needs_torchcodec, write_clip

from hf_bml.processing import MediaError, VideoFrames, read_video
from hf_bml.processing.media import video as video_module

CLIPS = {  # frames, height, width
    "bento.mp4": (11, 568, 320),
    "flipping_a_pancake.mkv": (310, 240, 426),
    "grid_s1_bbaf2n.mpg": (75, 288, 360),
    "mmaction2_demo_noaudio.mp4": (280, 256, 340),
    "mmaction2_test.avi": (164, 240, 320),
    "nasa_13013.mp4": (390, 270, 480),
    "testsrc2_vp9_noaudio.webm": (30, 720, 1280),
}
TORCHCODEC_FAILS = ("grid_s1_bbaf2n.mpg", "mmaction2_test.avi")


def spread(count):
    return lambda timestamps: torch.linspace(0, len(timestamps) - 1, count).round().long()


def decoded_one_after_the_other(path, wanted):
    """Reference: PyAV's plain loop over the best stream."""
    with av.open(str(path)) as container:
        frames = container.decode(container.streams.best("video"))
        kept = [frame.to_ndarray(format="rgb24") for index, frame in enumerate(frames) if index in wanted]
    return torch.from_numpy(np.stack(kept).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips(require_data_file, name):
    path = require_data_file(f"clips/{name}")
    count, height, width = CLIPS[name]
    wanted = spread(4)(torch.zeros(count)).tolist()
    for value in (path, {"bytes": path.read_bytes(), "path": None}):
        frames, timestamps = read_video(value, spread(4))
        assert frames.shape == (4, 3, height, width) and frames.dtype == torch.uint8
        assert torch.equal(frames, decoded_one_after_the_other(path, wanted))
        assert timestamps.dtype == torch.float64 and (timestamps.diff() > 0).all()


@pytest.mark.parametrize("name", [name for name in CLIPS if name not in TORCHCODEC_FAILS])
@pytest.mark.system
def test_torchcodec_gives_the_same_frames(require_data_file, name):
    needs_torchcodec()
    path = require_data_file(f"clips/{name}")
    expected, times = read_video(path, spread(4))
    frames, timestamps = read_video(path, spread(4), decoder="torchcodec")
    assert (frames.int() - expected.int()).abs().max() <= 1
    torch.testing.assert_close(timestamps, times)


ERRORS = [
    ImportError("No module named 'torchcodec'"),
    OSError("libavutil.so.59: cannot open shared object file: No such file or directory"),
    RuntimeError("Could not load libtorchcodec. Likely causes:\n  1. FFmpeg is not properly installed\n  2. Another"),
]


@pytest.mark.parametrize("moment", ["import", "use"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_without_torchcodec_there_is_one_line(moment, error, tmp_path, monkeypatch):
    """Releases fail as they are imported or as they open a file. A transform is not built, so that `on_error` takes no
    row for a damaged one."""

    class Broken(types.ModuleType):
        def __getattr__(self, name):
            return fail() if moment == "import" else fail

    def fail(*arguments):
        raise error

    monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", Broken("torchcodec.decoders"))
    monkeypatch.setattr(video_module, "_torchcodec_failure", video_module._torchcodec_failure.__wrapped__)
    path = write_clip(tmp_path / "clip.mp4", tone=None)
    found = str(error).partition(". Likely")[0]
    for use in (lambda: read_video(path, decoder="torchcodec"), lambda: VideoFrames(decoder="torchcodec")):
        with pytest.raises(ValueError) as raised:
            use()
        assert type(raised.value) is ValueError and str(raised.value) == (
            "decoder='torchcodec' needs the package torchcodec and FFmpeg's libraries on this machine, found: "
            f"{found}. Install both, or use decoder='pyav'."
        )
    with pytest.raises(pytest.skip.Exception, match="FFmpeg's libraries"):
        needs_torchcodec()
    assert len(read_video(path)[0]) == 20


def test_where_ffmpeg_cannot_be_loaded_tests_skip_and_with_m_system_fail(tmp_path):
    """Empty libraries hide those of the machine, as in `.ci/run`."""
    for version in range(56, 62):
        (tmp_path / f"libavutil.so.{version}").touch()
    program = "import sys, pytest\nfor more in ([], ['-m', 'system']):\n    pytest.main([*sys.argv[1:], *more])"
    test = f"{__file__}::{test_decoder_objects_are_read.__name__}"
    command = [sys.executable, "-c", program, test, "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert re.findall(r"^1 (\w+) in ", done.stdout, flags=re.MULTILINE) == ["skipped", "failed"], done.stdout
    assert done.stdout.count("decoder='torchcodec' needs the package torchcodec") >= 2


@pytest.mark.parametrize("extension", ["mp4", "mkv", "avi"])
def test_order_and_repetitions_are_those_asked_for(tmp_path, extension):
    path = write_clip(tmp_path / f"clip.{extension}")
    frames, timestamps = read_video(path)
    assert grey_levels(frames) == list(range(20))
    frames, chosen = read_video(str(path), lambda times: torch.tensor([19, 3, 3, 12]))
    assert grey_levels(frames) == [19, 3, 3, 12]
    assert torch.equal(chosen, timestamps[[19, 3, 3, 12]])


def test_only_the_frames_from_the_nearest_key_frame_on_are_decoded(tmp_path, monkeypatch):
    path, decoded = write_clip(tmp_path / "clip.mp4", key_every=5), []
    check = video_module._check_intact
    monkeypatch.setattr(
        video_module, "_check_intact", lambda frame, name: (decoded.append(frame.pts), check(frame, name))
    )
    frames, _ = read_video(path, lambda times: torch.tensor([1, 17]))
    assert grey_levels(frames) == [1, 17]
    assert len(decoded) == 2 + 3  # frames 0, 1 and 15, 16, 17


def test_variable_frame_rate(tmp_path):
    times = [0, 40, 80, 500, 1500, 1540]
    for extension in ("mp4", "mkv"):
        frames, timestamps = read_video(write_clip(tmp_path / f"clip.{extension}", times, seconds=1.6))
        assert grey_levels(frames) == list(range(6))
        torch.testing.assert_close(timestamps, torch.tensor(times, dtype=torch.float64) / 1000)


def test_rotation_is_applied(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", tone=None)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # quarter turn in the track header's matrix, 16.16 and 2.30 fixed point
    one = 1 << 16
    values = [0, one, 0, -one & 0xFFFFFFFF, 0, 0, 0, 0, 1 << 30]
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big") for value in values)
    path.write_bytes(content)
    assert read_video(path)[0].shape == (20, 3, 48, 32)


def transparent_clip(path):
    """A black stroke on transparent ground, which is black under it."""
    pixels = np.zeros((6, 8, 4), np.uint8)
    pixels[:, 2:4, 3] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 8, 6, "rgba"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode(None))
    return path


def test_transparent_frames_are_drawn_on_white(tmp_path):
    frames, _ = read_video(transparent_clip(tmp_path / "clip.mov"))
    assert frames.shape == (2, 3, 6, 8)
    assert frames.unique(dim=2).unique(dim=1)[0, 0].tolist() == [[255, 255, 0, 0, 255, 255, 255, 255]]


@pytest.mark.system
def test_torchcodec_would_drop_transparency(tmp_path):
    needs_torchcodec()
    with pytest.raises(MediaError, match=r"clip\.mov: expected opaque frames.*Use decoder='pyav'"):
        read_video(transparent_clip(tmp_path / "clip.mov"), decoder="torchcodec")


@pytest.mark.system
def test_decoder_objects_are_read(tmp_path):
    needs_torchcodec()
    path = write_clip(tmp_path / "clip.mp4")
    from torchcodec.decoders import VideoDecoder

    frames, timestamps = read_video(VideoDecoder(path), spread(3))
    expected, times = read_video(path, spread(3))
    assert torch.equal(frames, expected)
    torch.testing.assert_close(timestamps, times)


def damaged(path: Path, kind: str) -> Path:
    content = path.read_bytes()
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "flipped":
        flipped = bytearray(content)
        for position in range(len(content) // 4, len(content) * 3 // 4, 97):
            flipped[position] ^= 0x55
        content = bytes(flipped)
    elif kind == "empty":
        content = b""
    elif kind == "text":
        content = b"this is no video " * 100
    result = path.with_name(f"{kind}{path.suffix}")
    result.write_bytes(content)
    return result


@pytest.mark.parametrize("kind", ["truncated", "flipped", "empty", "text"])
@pytest.mark.parametrize("extension", ["mp4", "faststart.mp4", "mkv", "avi"])
def test_damaged_files(tmp_path, kind, extension):
    options = {"movflags": "faststart"} if extension == "faststart.mp4" else None
    path = damaged(write_clip(tmp_path / f"clip.{extension}", options=options), kind)
    with pytest.raises(MediaError, match=rf"{kind}.*{extension.split('.')[-1]}: expected "):
        read_video(path)


def test_damaged_real_clips(require_data_file, tmp_path):
    for name in ("bento.mp4", "mmaction2_test.avi", "grid_s1_bbaf2n.mpg", "flipping_a_pancake.mkv"):
        path = tmp_path / name
        path.write_bytes(require_data_file(f"clips/{name}").read_bytes())
        with pytest.raises(MediaError, match=path.suffix):
            read_video(damaged(path, "flipped"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("missing/b.mp4", "missing/b.mp4: expected a video file, found: .*No such file"),
        ({"bytes": None, "path": None}, "without content"),
        ({"bytes": b"", "path": "c.mp4"}, "c.mp4: .*empty file"),
        (5, "found int"),
        ([1, 2], "found list"),
    ],
)
def test_values_that_are_no_video(value, message):
    with pytest.raises(MediaError, match=message):
        read_video(value)


def test_a_file_without_video_stream(tmp_path):
    with pytest.raises(MediaError, match=r"sound\.mp4: expected a video stream, found none"):
        read_video(write_clip(tmp_path / "sound.mp4", times=[]))


def test_unknown_decoder():
    with pytest.raises(ValueError, match="'pyav', 'torchcodec'"):
        read_video("a.mp4", decoder="opencv")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), extension=st.sampled_from(["mp4", "mkv", "avi"]))
def test_any_damage_gives_frames_or_a_clear_error(tmp_path, data, extension):
    """Neither another exception nor frames of another number or shape."""
    path = tmp_path / f"clip.{extension}"
    content = bytearray(path.read_bytes() if path.exists() else write_clip(path).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        frames, timestamps = read_video({"bytes": content, "path": "damaged.mp4"}, spread(3))
    except MediaError as error:
        assert "damaged.mp4" in str(error)
        return
    assert frames.shape[:2] == (3, 3) and frames.dtype == torch.uint8
    assert all(math.isfinite(time) for time in timestamps.tolist())
