"""Where the bytes of a raw media value are, and what can go wrong with them."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import fsspec
from av.container import InputContainer

ARTICLES = {"audio": "an audio", "video": "a video", "image": "an image", "array": "an array"}
# The demuxers of FFmpeg that are used. Some of the others take any text for a video, and playlists open more files.
FORMATS_WITH_DURATION = (  # in the header; others only estimate it from what is there
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf", "mxf", "rm", "ivf"),
    *("flac", "mp3", "aiff", "au", "nistsphere", "wv", "tta"),
)
FORMATS_WITH_AN_END = ("mpeg", "mpegts", "ogg", "gif", "wav", "w64", "caf", "voc")  # seen to be cut, see `_is_cut`
FORMATS_WITHOUT_END = ("aac", "ac3", "eac3", "amr", "amrnb", "amrwb")  # any number of frames
DEMUXING = {
    "format_whitelist": ",".join([*FORMATS_WITH_DURATION, *FORMATS_WITH_AN_END, *FORMATS_WITHOUT_END]),
    "protocol_whitelist": "file",
}
TOLERATED_LOSS = 0.1  # headers round, and one stream may end a little before the other
LONGEST_OGG_PAGE = 27 + 255 + 255 * 255  # bytes
TS_PACKETS = (188, 192, 204)  # bytes
REMEDY = "The file is damaged: download it again, or set it to None."

# What is saved in place of media, by its first bytes. Texts hold no zero byte.
TEXTS = {
    b"version https://git-lfs": "a Git LFS pointer. Fetch the file itself with `git lfs pull`.",
    b"<": "an HTML or XML page. Download it again.",
    b"{": "JSON text. Download it again.",
}
ARCHIVES = {b"\x1f\x8b": "a gzip archive. Unpack it.", b"PK\x03\x04": "a zip archive. Unpack it."}
HEAD = 64  # bytes


class MediaError(ValueError):
    """A media value that cannot be used: corrupt, truncated, empty, or without the wanted stream."""


def media_file(value: Any, kind: str) -> tuple[bytes | str, str] | None:
    """File behind a path or `{"bytes": bytes | None, "path": str | None}`, and its name for messages.

    Args:
        value: any value; `None` is returned for one that is neither form.
        kind: "audio", "video", "image" or "array": the name of a file whose path is unknown.

    Raises:
        MediaError: the file is empty, missing or not a regular one; something else was saved in its place: a Git LFS
            pointer, a page, an archive; or the dict has neither bytes nor a path.
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
        head = _head(os.fspath(path)) if content is None else content[:HEAD]
    except Exception as error:  # file systems raise their own
        raise MediaError(
            f"{name}: expected {ARTICLES[kind]} file, found: {one_line(error)}. Correct the path."
        ) from error
    if not head:
        raise MediaError(f"{name}: expected {kind}, found an empty file. Download it again, or set it to None.")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for beginning, found in {**ARCHIVES, **({} if b"\0" in head else TEXTS)}.items():
        if text.startswith(beginning):
            raise MediaError(f"{name}: expected {ARTICLES[kind]} file, found {found}")
    return (os.fspath(path) if content is None else content), name


def _head(path: str) -> bytes:
    """The first bytes of a regular file; others, such as pipes, are not opened."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("a folder" if os.path.isdir(path) else "a device or a pipe")
    with open(path, "rb") as file:
        return file.read(HEAD)


def one_line(error: Exception) -> str:
    """What an error says, or its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def reading(name: str, expected: str) -> Iterator[None]:
    """Any error of a decoder becomes a MediaError that names the file, MemoryError and AttributeError included.

    Args:
        name: of the file.
        expected: for the message, such as "a readable image".
    """
    try:
        yield
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(f"{name}: expected {expected}, found: {one_line(error)}. {REMEDY}") from error


def file_name(value: Any) -> str | None:
    """Path of a raw media value, where it has one."""
    path = value.get("path") if isinstance(value, dict) else value
    return os.fspath(path) if isinstance(path, str | os.PathLike) else None


def open_container(file: bytes | str, name: str, kind: str) -> InputContainer:
    """Open with PyAV, which reads no other file and no network.

    Raises:
        MediaError: FFmpeg knows no container like it, its format is not in DEMUXING, or it is cut in the middle.
    """
    try:
        container = _opened(file)
    except Exception as error:
        found = "a format that is not read" if isinstance(error, av.ArgumentError) else one_line(error)
        raise MediaError(
            f"{name}: expected {ARTICLES[kind]} file that FFmpeg can open, found: {found}. "
            "It is damaged or of an unknown format. Convert it, download it again, or set it to None."
        ) from error
    check_end(file, name, container.format.name)
    return container


def check_end(file: bytes | str, name: str, format_name: str) -> None:
    """Raises MediaError where a file whose header does not say how long it is ends in the middle of a packet."""
    if format_name not in FORMATS_WITH_AN_END:
        return
    with reading(name, "a readable file"):
        is_cut = _is_cut(file, format_name)
    if is_cut:
        raise MediaError(
            f"{name}: expected a whole {format_name} file, found one that ends in the middle of a packet. "
            "The file is truncated: download it again, or set it to None."
        )


def _opened(file: bytes | str, **options: str) -> InputContainer:
    source = io.BytesIO(file) if isinstance(file, bytes) else f"file:{file}"
    return av.open(source, metadata_errors="replace", options={**DEMUXING, **options})


def _is_cut(file: bytes | str, format_name: str) -> bool:
    size, tail = _tail(file, LONGEST_OGG_PAGE)
    if format_name == "gif":
        return not tail.rstrip(b"\0").endswith(b";")
    if format_name == "ogg":
        page = tail[tail.rfind(b"OggS") :]
        return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
    if format_name == "mpegts":
        return all(size % packet for packet in TS_PACKETS)
    last = None
    with _opened(file, fflags="noparse") as container:  # parsed packets lose the mark
        for packet in container.demux():
            last = packet if packet.size else last
    return last is not None and last.is_corrupt


def _tail(file: bytes | str, length: int) -> tuple[int, bytes]:
    """Size of the file in bytes, and its last `length` bytes."""
    if isinstance(file, bytes):
        return len(file), file[-length:]
    with open(file, "rb") as opened:
        size = opened.seek(0, io.SEEK_END)
        opened.seek(max(size - length, 0))
        return size, opened.read()


def read_packets(container: InputContainer, stream: av.stream.Stream, name: str) -> Iterator[av.Packet]:
    """Packets of a stream, compared at the end with what the file's header announces.

    Raises:
        MediaError: more than a tenth of the packets, or of the duration, is missing.
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
    if container.format.name in FORMATS_WITH_DURATION and end - begin < (1 - TOLERATED_LOSS) * duration:
        raise MediaError(
            f"{name}: expected {duration:.2f} s as its header says, found {end - begin:.2f} s. "
            "The file is truncated: download it again, or set it to None."
        )
