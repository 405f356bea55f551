"""What a file can do to the readers of media: give a tensor, or one line that names it."""

from __future__ import annotations

import gzip
import io
import os
import time
import zipfile

import av
import numpy as np
import pandas as pd
import pytest
import soundfile
from media_samples import write_clip
from PIL import Image

from hf_bml.processing import MediaError, read_video, read_waveform
from hf_bml.processing.media.image import read_image
from hf_bml.processing.modality_transforms import ModalityTransforms
from hf_bml.processing.transforms.features import FeatureVector

READERS = {
    "audio": {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.5, "window_length": 256, "overlap": 128},
    "video": {"type": "video", "num_frames": 2, "size": 16},
    "image": {"type": "frames", "size": 16},
    "array": {"type": "features"},
}
CLIPS = (
    *("bento.mp4", "flipping_a_pancake.mkv", "grid_s1_bbaf2n.mpg"),
    *("mmaction2_test.avi", "testsrc2_vp9_noaudio.webm", "mmaction2_demo_noaudio.mp4"),
)
SOUNDS = ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64", "NIST", "VOC")
PICTURES = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")
CPU_SECONDS = 5  # of this process, so that other load on the machine does not count

SDP = (
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
TEXTS = {
    "clip.sdp": SDP,
    "notes.txt": b"These are notes on a clip, not a clip.\n" * 20,
    "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nclip.ts\n#EXT-X-ENDLIST\n",
    "list.ffconcat": b"ffconcat version 1.0\nfile clip.mp4\n",
    "clip.srt": b"1\n00:00:00,000 --> 00:00:02,000\nHello\n\n2\n00:00:02,000 --> 00:00:04,000\nYou\n",
    "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
    "clip.mpd": b'\xef\xbb\xbf<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "page.mp4": b"\n<!DOCTYPE html><html>Not found</html>",
    "error.wav": b'{"error": "rate limit"}',
    "clip.mp4": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
}


def real_files(require_data_file):
    """(name, kind, content) of whole files of all kinds, all from real data."""
    files = [(name, "video", require_data_file(f"clips/{name}").read_bytes()) for name in CLIPS]
    digit = pd.read_parquet(require_data_file("avdigits/avdigits.parquet")).iloc[0]
    samples, rate = soundfile.read(io.BytesIO(digit.audio["bytes"]))
    for kind in SOUNDS:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format=kind)
        files.append((f"digit.{kind.lower()}", "audio", buffer.getvalue()))
    mouth = pd.read_parquet(require_data_file("grid/grid_s1_letter_words.parquet")).iloc[0].frames[0]
    with Image.open(io.BytesIO(mouth["bytes"])) as picture:
        for kind in PICTURES:
            buffer = io.BytesIO()
            picture.save(buffer, format=kind)
            files.append((f"mouth.{kind.lower()}", "image", buffer.getvalue()))
    buffer = io.BytesIO()
    np.save(buffer, samples[:400].reshape(20, 20))
    return [*files, ("digit.npy", "array", buffer.getvalue())]


def damages(content, other, random):
    """Each is the file with one kind of damage."""
    size = len(content)
    yield content[: random.integers(1, 32)]
    for _ in range(3):
        yield content[: random.integers(32, size)]
    for count in (1, 20):
        flipped = np.frombuffer(content, np.uint8).copy()
        flipped[random.integers(0, size, count)] ^= np.uint8(1 << random.integers(8))
        yield flipped.tobytes()
    for span in (4, 16):  # of the header
        start = random.integers(0, min(size, 200))
        yield content[:start] + random.bytes(span) + content[start + span :]
    start = random.integers(0, min(size, 200))
    yield content[:start] + b"\xff\xff\xff\x7f" + content[start + 4 :]  # a huge size, wherever it is one
    start = random.integers(0, size)
    yield content[:start] + bytes(min(size - start, 4096)) + content[start + 4096 :]
    yield content[: size // 2] + other
    yield content + other[:5000]
    yield random.bytes(16) + content


def test_any_file_gives_a_tensor_or_one_line_that_names_it(require_data_file):
    random = np.random.default_rng(0)
    files = real_files(require_data_file)
    cases = [(kind, name, content) for name, kind, content in files]
    whole = len(cases)
    for name, kind, content in files:
        _, _, other = files[random.integers(len(files))]
        for number, damaged in enumerate(damages(content, other, random)):
            cases += [(each, f"{number}_{name}", damaged) for each in {kind, "audio" if kind == "video" else kind}]
        cases += [(each, name, content) for each in READERS if each != kind]  # in the column of another modality
    cases += [(kind, name, content) for name, content in TEXTS.items() for kind in READERS]
    transforms = ModalityTransforms(READERS, on_error="mask")
    usable = []
    for kind, name, content in cases:
        failures, began = [], time.process_time()
        tensor = transforms(kind, [{"bytes": content, "path": name}], failures=failures)[0]
        assert time.process_time() - began < CPU_SECONDS, (kind, name)
        usable.append(tensor is not None)
        if tensor is None:
            (failure,) = failures
            assert failure.file == name and name in failure.reason and "\n" not in failure.reason
        else:
            assert not failures and tensor.isfinite().all()
    assert all(usable[:whole]) and not any(usable[-len(TEXTS) * len(READERS) :])
    assert usable.count(False) > 200 and usable[whole:].count(True) > 50


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("clip.wav", b"RIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXTS["clip.mp4"], r"found a Git LFS pointer\. Fetch the file itself with `git lfs pull`"),
        (TEXTS["page.mp4"], "found an HTML or XML page"),
        (TEXTS["clip.mpd"], "found an HTML or XML page"),
        (TEXTS["error.wav"], "found JSON text"),
        (gzip.compress(b"RIFF", mtime=0), "found a gzip archive. Unpack it"),
        (archive(), "found a zip archive. Unpack it"),
        (b"", "found an empty file"),
    ],
    ids=["lfs", "html", "xml", "json", "gzip", "zip", "empty"],
)
def test_what_lies_in_place_of_a_file_is_named(tmp_path, content, message):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    for value in (path, {"bytes": content, "path": str(path)}):
        for read in (read_video, lambda value: read_waveform(value, 8000), lambda value: read_image(value, 3)):
            with pytest.raises(MediaError, match=rf"clip\.mp4: expected .*{message}"):
                read(value)
        with pytest.raises(MediaError, match=message):
            FeatureVector()([value])


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    (tmp_path / "link.wav").symlink_to(tmp_path / "missing.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    for path, message in ((tmp_path, "a folder"), ("/dev/zero", "a device or a pipe"), ("a\0b", "null byte")):
        with pytest.raises(MediaError, match=f"expected an audio file, found: .*{message}"):
            read_waveform(path, 8000)
    for name, message in (("link.wav", "No such file"), ("pipe.wav", "a device or a pipe")):
        with pytest.raises(MediaError, match=rf"{name}: expected an image file, found: .*{message}"):
            read_image(tmp_path / name, 3)


@pytest.mark.parametrize("name", ["clip.sdp", "notes.txt", "list.m3u8", "list.ffconcat"])
def test_demuxers_that_guess_or_open_other_files_are_not_used(tmp_path, name):
    """The playlists would read a good clip beside them."""
    write_clip(tmp_path / "clip.ts")
    write_clip(tmp_path / "clip.mp4")
    path = tmp_path / name
    path.write_bytes(TEXTS[name])
    for value in (path, {"bytes": path.read_bytes(), "path": name}):
        for read in (read_video, lambda value: read_waveform(value, 8000)):
            with pytest.raises(
                MediaError, match=rf"{name}: expected .* found: (a format that is not read|.*Invalid data)"
            ):
                read(value)


def test_a_file_whose_name_looks_like_a_protocol(tmp_path, monkeypatch):
    write_clip(tmp_path / "concat:a.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(read_video("concat:a.mp4")[0]) == 20


@pytest.mark.parametrize("kept", [0.3, 0.55, 0.85])
@pytest.mark.parametrize("kind", ["AIFF", "AU", "CAF", "W64", "RF64", "NIST", "VOC", "OGG"])
def test_truncated_sounds(kind, kept):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).uniform(-0.5, 0.5, (16000, 2)), 16000, format=kind)
    content = buffer.getvalue()
    for subtype in {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"} & set(soundfile.available_subtypes(kind)):
        buffer = io.BytesIO()
        soundfile.write(buffer, np.random.default_rng(0).uniform(-0.5, 0.5, (99, 2)), 16000, subtype, format=kind)
        expected = soundfile.read(io.BytesIO(buffer.getvalue()))[0].mean(axis=1).astype(np.float32)
        assert np.array_equal(read_waveform({"bytes": buffer.getvalue()}, 16000), expected)
    with pytest.raises(MediaError, match=rf"a\.{kind}: expected "):
        read_waveform({"bytes": content[: int(len(content) * kept)], "path": f"a.{kind}"}, 16000)


@pytest.mark.parametrize("kept", [0.3, 0.55, 0.75])
@pytest.mark.parametrize("extension", ["mpg", "ts", "ogv", "gif", "flv", "wmv", "mxf", "nut"])
def test_truncated_videos(tmp_path, extension, kept):
    path = write_video(tmp_path / f"clip.{extension}")
    content = path.read_bytes()
    if extension == "nut":  # has no end that could be missed
        with pytest.raises(MediaError, match=r"clip\.nut: .*a format that is not read"):
            read_video(path)
    else:
        assert len(read_video(path)[0]) == 20
    path.write_bytes(content[: int(len(content) * kept) | 1])
    with pytest.raises(MediaError, match=rf"clip\.{extension}: expected .*"):
        read_video(path)


def write_video(path):
    """20 frames of noise in the container that the extension names, with its usual codec."""
    size = (720, 576) if path.suffix == ".mxf" else (48, 32)
    with av.open(str(path), "w") as container:
        codec = "libvpx" if path.suffix == ".ogv" else container.default_video_codec
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if path.suffix == ".gif" else "yuv420p"
        random = np.random.default_rng(0)
        for _ in range(20):
            pixels = random.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_truncated_real_mpeg(require_data_file):
    content = require_data_file("clips/grid_s1_bbaf2n.mpg").read_bytes()
    for read in (read_video, lambda value: read_waveform(value, 8000)):
        with pytest.raises(MediaError, match=r"a\.mpg: expected a whole mpeg file"):
            read({"bytes": content[:200001], "path": "a.mpg"})


def test_rates_that_no_resampling_fits():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(800), 999_983, format="WAV")
    with pytest.raises(MediaError, match=r"a\.wav: expected a usual rate, found 999983 Hz"):
        read_waveform({"bytes": buffer.getvalue(), "path": "a.wav"}, 16000)
    for rate in (96_001, 999_000):  # a little off, or with factors in common
        assert len(read_waveform({"array": np.zeros(800), "sampling_rate": rate}, 16000))


def test_more_channels_than_a_planar_frame_can_be_read_with():
    """The interpreter would end."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (100, 37))
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 8000, format="AU", subtype="DOUBLE")
    np.testing.assert_allclose(read_waveform({"bytes": buffer.getvalue()}, 8000), samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(20, 21)", "(-1,)", "(10**99,)", "x"])
def test_an_array_file_that_declares_more_than_it_holds(tmp_path, shape):
    """No memory is taken for it."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(3200)
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    for value in (path, {"bytes": content, "path": "a.npy"}):
        with pytest.raises(ValueError, match=r"a\.npy: Expected a \.npy file of numbers, found"):
            FeatureVector()([value])


def test_complex_features_do_not_lose_a_part():
    with pytest.raises(ValueError, match="found: complex ones"):
        FeatureVector()([np.ones(3, np.complex64)])
