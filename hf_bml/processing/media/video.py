"""Read the frames that are needed out of a video file.

Two decoders give identical pixels on healthy mp4, mkv and webm files. PyAV is the default: its wheels carry FFmpeg, it
reports damage that torchcodec 0.17 passes on as frames of garbage, and it reads the AVI and MPEG-PS files on which
torchcodec returns wrong frames or fails. torchcodec needs FFmpeg on the machine.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np
import torch
from av.container import InputContainer
from PIL import Image
from torch import Tensor

from ...ground.suggestion import check_name
from .file import REMEDY, MediaError, media_file, open_container, read_packets, reading
from .image import on_background

Select = Callable[[Tensor], Tensor]
DECODERS = ("pyav", "torchcodec")
FORMATS_WITHOUT_TIMESTAMPS = ("avi",)  # frames are counted instead; FFmpeg's guesses mix up reordered frames


def read_video(value: Any, select: Select | None = None, decoder: str = "pyav") -> tuple[Tensor, Tensor]:
    """Decode all frames of the best video stream, or only some.

    The timestamps of all frames are read first, from the packets and without decoding; then only what `select` asks
    for is decoded, from the nearest key frame on.

    Args:
        value: a file path, `{"bytes": bytes | None, "path": str | None}`, or a torchcodec `VideoDecoder`, whose
            timestamps are taken to be equally spaced.
        select: called with the timestamps of all frames, float64 (frames,) in seconds, strictly increasing; returns
            the wanted indices, int64 (selected,), in any order and with repetitions. `None`: all.
        decoder: "pyav" or "torchcodec".

    Returns:
        frames, uint8 RGB (selected, 3, height, width), rotated as the file says, and drawn on white where they are
        transparent; their timestamps, (selected,).

    Raises:
        MediaError: the file has another format than those in `media_file.DEMUXING`, no video stream or no frame, is
            truncated, or the wanted part is damaged. The message names the file. Bit errors that happen to form a
            valid stream cannot be noticed.
        ValueError: see `check_decoder`.
    """
    check_decoder(decoder)
    if hasattr(value, "get_frames_at"):  # of torchcodec, which need not be installed
        count, rate = value.metadata.num_frames, value.metadata.average_fps
        timestamps = (value.metadata.begin_stream_seconds or 0.0) + torch.arange(count, dtype=torch.float64) / rate
        return _torchcodec_frames(value, timestamps, select, "video decoder")
    source = media_file(value, "video")
    if source is None:
        raise MediaError(
            f"Expected a video file's path or a dict with 'bytes' or 'path', found {type(value).__name__}. "
            "Load the column with datasets.Video(decode=False)."
        )
    file, name = source
    with open_container(file, name, "video") as container:
        with reading(name, "a readable video"):
            index = _index(container, name)
            if decoder == "pyav":
                return _pyav_frames(container, file, index, select, name)
            if _has_alpha(_video_stream(container, name).format):
                raise MediaError(
                    f"{name}: expected opaque frames, found {container.format.name} with transparency, which "
                    "torchcodec drops. Use decoder='pyav', which puts them on white."
                )
        return _torchcodec_frames(_torchcodec_decoder(file, name), index.timestamps, select, name)


def check_decoder(decoder: str) -> None:
    """Raises ValueError for a decoder that does not exist, or that cannot be loaded on this machine."""
    check_name("decoder", decoder, DECODERS)
    if decoder == "torchcodec" and (failure := _torchcodec_failure()):
        raise ValueError(
            "decoder='torchcodec' needs the package torchcodec and FFmpeg's libraries on this machine, found: "
            f"{failure}. Install both, or use decoder='pyav'."
        )


@cache
def _torchcodec_failure() -> str | None:
    """Why torchcodec cannot open a video of one frame, in one line; None where it can.

    Releases differ in when they fail without FFmpeg (as they are imported, or as a file is opened) and in what they
    raise, so it is tried on a sound file: what fails then is not a fault of the user's.
    """
    clip = io.BytesIO()
    with av.open(clip, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    try:
        from torchcodec.decoders import VideoDecoder

        VideoDecoder(clip.getvalue())
    except Exception as error:
        return _first_sentence(error) or type(error).__name__
    return None


def _first_sentence(error: Exception) -> str:
    """The first line of a message that may have many."""
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".")


@dataclass
class _Index:
    """Frames of a video in order of presentation."""

    timestamps: Tensor  # float64 (frames,), seconds
    pts: list[int] | None  # in the stream's time base; None where frames can only be counted
    keys: list[int]  # pts from which decoding can begin


def _video_stream(container: InputContainer, name: str) -> av.VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        raise MediaError(f"{name}: expected a video stream, found none. Set an absent modality to None.")
    stream.thread_type = "NONE"  # the workers of a dataset are parallel already
    return stream


def _index(container: InputContainer, name: str) -> _Index:
    """Read all packets without decoding."""
    stream = _video_stream(container, name)
    packets = [
        (packet.pts, packet.dts, packet.is_keyframe)
        for packet in read_packets(container, stream, name)
        if not packet.is_discard
    ]
    if not packets:
        raise MediaError(f"{name}: expected at least one frame, found none. {REMEDY}")
    pts, dts, _ = zip(*packets, strict=True)
    if _are_distinct(pts) and container.format.name not in FORMATS_WITHOUT_TIMESTAMPS:
        times = torch.tensor(sorted(pts), dtype=torch.float64) * float(stream.time_base)
        return _Index(times, sorted(pts), sorted(time for time, _, is_key in packets if is_key))
    if _are_distinct(dts):  # the order of decoding counts dropped frames, too
        return _Index(torch.tensor(sorted(dts), dtype=torch.float64) * float(stream.time_base), None, [])
    return _Index(torch.arange(len(packets), dtype=torch.float64) / float(stream.average_rate or 25), None, [])


def _are_distinct(times: Sequence[int | None]) -> bool:
    return None not in times and len(set(times)) == len(times)


def _pyav_frames(
    container: InputContainer, file: bytes | str, index: _Index, select: Select | None, name: str
) -> tuple[Tensor, Tensor]:
    stream, timestamps = _video_stream(container, name), index.timestamps
    chosen = _select(timestamps, select, name)
    if index.pts is None:
        frames, count = _decode_counted(container, stream, set(chosen), name)
        if count is not None and count < len(timestamps):  # some packets hold no frame of their own
            if not count:
                raise MediaError(f"{name}: expected frames, found none that can be decoded. {REMEDY}")
            timestamps = timestamps[:count]
            chosen = _select(timestamps, select, name)
            frames, _ = _decode_counted(container, stream, set(chosen), name)
    else:
        frames = _decode_timed(container, stream, index, set(chosen), name)
        if len(frames) < len(set(chosen)):  # some containers (MPEG-PS) cannot seek exactly
            with open_container(file, name, "video") as fresh:
                frames = _decode_timed(fresh, _video_stream(fresh, name), index, set(chosen), name, may_seek=False)
    missing = [number for number in chosen if number not in frames]
    if missing:
        raise MediaError(
            f"{name}: expected a frame at {timestamps[missing[0]]:.3f} s, found none that can be decoded. {REMEDY}"
        )
    if len({frame.shape for frame in frames.values()}) > 1:
        raise MediaError(f"{name}: expected frames of one size, found several. Re-encode the video with one size.")
    return torch.stack([frames[number] for number in chosen]), timestamps[chosen]


def _decode_timed(
    container: InputContainer,
    stream: av.VideoStream,
    index: _Index,
    wanted: set[int],
    name: str,
    may_seek: bool = True,
) -> dict[int, Tensor]:
    """Decode by timestamp, skipping to a key frame wherever that saves frames."""
    frames: dict[int, Tensor] = {}
    decoded: Iterator[av.VideoFrame] = container.decode(stream)
    position = None if may_seek else index.pts[0]  # pts of the last frame decoded
    for number in sorted(wanted):
        target = index.pts[number]
        key = index.keys[max(bisect_right(index.keys, target) - 1, 0)] if may_seek and index.keys else index.pts[0]
        if position is None or key > position:
            container.seek(key, stream=stream)
            decoded = container.decode(stream)
        for frame in decoded:
            if frame.pts is None or frame.pts < key:  # frames before the key frame may lack their references
                continue
            position = frame.pts
            _check_intact(frame, name)
            if frame.pts >= target:
                if frame.pts == target:
                    frames[number] = _pixels(frame)
                break
    return frames


def _decode_counted(
    container: InputContainer, stream: av.VideoStream, wanted: set[int], name: str
) -> tuple[dict[int, Tensor], int | None]:
    """Decode from the start; also the number of frames in the file if its end was reached."""
    frames: dict[int, Tensor] = {}
    container.seek(stream.start_time or 0, stream=stream)
    count = 0
    for count, frame in enumerate(container.decode(stream), start=1):
        _check_intact(frame, name)
        if count - 1 in wanted:
            frames[count - 1] = _pixels(frame)
            if len(frames) == len(wanted):
                return frames, None
    return frames, count


def _check_intact(frame: av.VideoFrame, name: str) -> None:
    if frame.is_corrupt:
        raise MediaError(f"{name}: expected intact frames, found a damaged one at {frame.time or 0:.3f} s. {REMEDY}")


def _has_alpha(pixel_format: av.VideoFormat) -> bool:
    return any(component.is_alpha for component in pixel_format.components)


def _pixels(frame: av.VideoFrame) -> Tensor:
    if _has_alpha(frame.format):
        pixels = np.asarray(on_background(Image.fromarray(frame.to_ndarray(format="rgba")), "white"))
    else:
        pixels = frame.to_ndarray(format="rgb24")
    if frame.rotation:
        pixels = np.rot90(pixels, round(frame.rotation / 90))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _torchcodec_decoder(file: bytes | str, name: str) -> Any:
    from torchcodec.decoders import VideoDecoder

    try:
        return VideoDecoder(file)
    except (RuntimeError, ValueError) as error:
        raise MediaError(f"{name}: torchcodec cannot open it: {_first_sentence(error)}. {REMEDY}") from error


def _torchcodec_frames(decoder: Any, timestamps: Tensor, select: Select | None, name: str) -> tuple[Tensor, Tensor]:
    chosen = _select(timestamps, select, name)
    try:
        batch = decoder.get_frames_at(chosen)
    except (RuntimeError, IndexError) as error:
        raise MediaError(
            f"{name}: torchcodec cannot decode it: {_first_sentence(error)}. "
            "Use decoder='pyav', which reads more formats."
        ) from error
    return batch.data, batch.pts_seconds


def _select(timestamps: Tensor, select: Select | None, name: str) -> list[int]:
    try:
        return list(range(len(timestamps))) if select is None else select(timestamps).tolist()
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from error
