"""Where the bytes of a raw media value are, and what can go wrong with them."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import fsspec
from av.container import InputContainer

ARTICLES = {"audio": "an audio", "video": "a video", "image": "an image", "array": "an array"}
FORMATS_WITH_DURATION = ("mov", "matroska", "avi", "flv", "asf", "flac")  # others only estimate it from what is there
TOLERATED_LOSS = 0.1  # headers round, and one stream may end a little before the other


class MediaError(ValueError):
    """A media value that cannot be used: corrupt, truncated, empty, or without the wanted stream."""


def media_file(value: Any, kind: str) -> tuple[bytes | str, str] | None:
    """File behind a path or `{"bytes": bytes | None, "path": str | None}`, and its name for messages.

    Args:
        value: Any value; `None` is returned for one that is neither form.
        kind: "audio", "video", "image" or "array": the name of a file whose path is unknown.

    Raises:
        MediaError: The file is empty or missing, or the dict has neither bytes nor a path.
    """
    if isinstance(value, str | os.PathLike):
        value = {"bytes": None, "path": os.fspath(value)}
    if not isinstance(value, dict) or not ({"bytes", "path"} & set(value)):
        return None
    content, path = value.get("bytes"), value.get("path")
    name = path or f"{kind} without a path"
    if content is None and not path:
        raise MediaError(
            f"{kind}: expected a dict with 'bytes' or 'path', found keys {sorted(value)} without content. "
            "Set an absent clip to None."
        )
    try:
        if content is None and "://" in path:  # a remote file of a streamed dataset
            with fsspec.open(path, "rb") as remote:
                content = remote.read()
        size = Path(path).stat().st_size if content is None else len(content)
    except OSError as error:
        raise MediaError(f"{name}: expected {ARTICLES[kind]} file, found: {error}. Correct the path.") from error
    if size == 0:
        raise MediaError(f"{name}: expected {kind}, found an empty file. Download it again, or set it to None.")
    return (os.fspath(path) if content is None else content), name


def file_name(value: Any) -> str | None:
    """Path of a raw media value, where it has one."""
    path = value.get("path") if isinstance(value, dict) else value
    return os.fspath(path) if isinstance(path, str | os.PathLike) else None


def open_container(file: bytes | str, name: str, kind: str) -> InputContainer:
    """Open with PyAV. Raises MediaError when FFmpeg knows no container like it."""
    try:
        return av.open(io.BytesIO(file) if isinstance(file, bytes) else file, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{name}: expected {ARTICLES[kind]} file that FFmpeg can open, found: {error}. "
            "It is damaged or of an unknown format. Convert it, download it again, or set it to None."
        ) from error


def read_packets(container: InputContainer, stream: av.stream.Stream, name: str) -> Iterator[av.Packet]:
    """Packets of a stream, compared at the end with what the file's header announces.

    Raises:
        MediaError: More than a tenth of the packets, or of the duration, is missing.
    """
    num_packets, ends, next_dts = 0, {}, {}
    for packet in container.demux():
        if not packet.size:
            continue
        index = packet.stream_index
        if packet.pts is not None:
            ends[index] = max(ends.get(index, 0), packet.pts + (packet.duration or 0))
        if packet.dts is not None:
            next_dts[index] = packet.dts + 1
        if index == stream.index:
            num_packets += 1
            yield packet
    counts = []  # (announced, found)
    if container.format.name.startswith("mov"):
        counts = [(stream.frames, num_packets)]
    elif container.format.name == "avi":  # a step of time per frame, dropped frames included
        counts = [(video.frames, next_dts.get(video.index, 0)) for video in container.streams.video]
    for announced, found in counts:
        if found < (1 - TOLERATED_LOSS) * announced:
            raise MediaError(
                f"{name}: expected {announced} frames as its header says, found {found}. "
                "The file is truncated: download it again, or set it to None."
            )
    begin, duration = (container.start_time or 0) / av.time_base, (container.duration or 0) / av.time_base
    end = max((float(end * container.streams[index].time_base) for index, end in ends.items()), default=begin)
    if container.format.name.startswith(FORMATS_WITH_DURATION) and end - begin < (1 - TOLERATED_LOSS) * duration:
        raise MediaError(
            f"{name}: expected {duration:.2f} s as its header says, found {end - begin:.2f} s. "
            "The file is truncated: download it again, or set it to None."
        )
