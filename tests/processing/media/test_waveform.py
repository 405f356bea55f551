from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_samples import needs_torchcodec, write_clip
from scipy.signal import resample_poly

from hf_bml.processing import MediaError, read_waveform

RATE = 8000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(800) / RATE)).astype(np.float32)


def wav_bytes(array, rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, array, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def test_every_form_gives_the_same_waveform(tmp_path):
    path = tmp_path / "tone.wav"
    path.write_bytes(wav_bytes(TONE))
    decoder = SimpleNamespace(
        get_all_samples=lambda: SimpleNamespace(data=torch.from_numpy(TONE)[None], sample_rate=RATE)
    )
    values = [
        {"bytes": path.read_bytes(), "path": None},
        {"bytes": None, "path": str(path)},
        {"array": TONE, "sampling_rate": RATE},
        {"array": TONE.tolist(), "sampling_rate": RATE},
        decoder,
        path,
        str(path),
        TONE,
        TONE.tolist(),
        torch.from_numpy(TONE),
        np.stack([TONE, TONE]),
        np.stack([TONE, TONE], axis=1),
    ]
    for value in values:
        waveform = read_waveform(value, RATE)
        assert waveform.dtype == torch.float32 and waveform.shape == (800,)
        torch.testing.assert_close(waveform, torch.from_numpy(TONE))


def test_channels_are_averaged():
    stereo = np.array([[0.2, 0.4], [0.6, -0.4], [1.0, 0.0]])  # (samples, channels)
    torch.testing.assert_close(read_waveform(stereo, RATE), torch.tensor([0.3, 0.1, 0.5]))
    in_file = {"bytes": wav_bytes(stereo.astype(np.float32)), "path": None}
    torch.testing.assert_close(read_waveform(in_file, RATE), torch.tensor([0.3, 0.1, 0.5]))


def test_integers_are_scaled_and_floats_are_bounded():
    assert read_waveform(np.array([-32768, 16384], dtype=np.int16), RATE).tolist() == [-1.0, 0.5]
    assert read_waveform(np.array([1 << 30], dtype=np.int32), RATE).tolist() == [0.5]
    assert read_waveform([-1.9, 0.5, 2], RATE).tolist() == [-1.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "value",
    [
        np.array([0.0, 12000.0, -9000.0]),
        [0.0, 12000.0, -9000.0],
        {"bytes": wav_bytes(np.array([0.0, 12000.0, -9000.0], np.float32)), "path": "a.wav"},
    ],
)
def test_another_scale_is_refused(value):
    with pytest.raises(MediaError, match=r"expected amplitudes in \[-1, 1\], found 12000\. Divide"):
        read_waveform(value, RATE)


@pytest.mark.parametrize("value", [[0, 12000, -9000], {"array": [0, 12000], "sampling_rate": RATE}, [[0, 1], [1, 0]]])
def test_a_list_of_integers_has_no_scale(value):
    with pytest.raises(ValueError, match=r"found a list of integers\. Declare the column as List\(Value\('int16'\)\)"):
        read_waveform(value, RATE)


@pytest.mark.parametrize(("rate", "up", "down"), [(8000, 2, 1), (22050, 320, 441), (48000, 1, 3)])
def test_resampling_equals_scipy(rate, up, down):
    waveform = read_waveform({"array": TONE, "sampling_rate": rate}, 16000)
    expected = resample_poly(TONE.astype(np.float64), up, down)
    np.testing.assert_allclose(waveform.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"bytes": b"not audio", "path": "clips/a.wav"},
            "clips/a.wav: expected an audio file that FFmpeg can open.*Convert",
        ),
        ({"bytes": None, "path": "missing/b.wav"}, "missing/b.wav: expected an audio file"),
        ({"bytes": wav_bytes(np.zeros(0, np.float32)), "path": "c.wav"}, "c.wav: expected at least one audio sample"),
        ({"bytes": None, "path": None}, "without content"),
        ([], "at least one audio sample"),
        ([0.0, float("nan")], "NaN or infinity"),
        ([float("inf")], "NaN or infinity"),
        ({"array": TONE, "sampling_rate": 2**31 - 1}, "found 2147483647"),
        ({"array": TONE, "path": "d.wav"}, "d.wav: expected the sampling_rate of the array in Hz, found None"),
        ({"array": TONE, "sampling_rate": None}, "expected the sampling_rate.*found None"),
        ({"array": TONE, "sampling_rate": "fast"}, "expected the sampling_rate.*found 'fast'"),
        ({"array": TONE, "sampling_rate": 0}, "expected the sampling_rate.*found 0"),
        (np.zeros((2, 2, 2)), "1-D or 2-D"),
        (np.zeros(4, np.uint8), "uint8"),
    ],
)
def test_invalid_audio_is_rejected(value, message):
    with pytest.raises(ValueError, match=message):
        read_waveform(value, RATE)


CLIPS = {  # samples at the track's own rate, rate
    "bento.mp4": (44032, 44100),
    "flipping_a_pancake.mkv": (497651, 48000),
    "grid_s1_bbaf2n.mpg": (131328, 44100),
    "mmaction2_test.avi": (289152, 44100),
    "nasa_13013.mp4": (208896, 16000),
}


@pytest.mark.parametrize("name", CLIPS)
def test_sound_tracks_of_real_videos(require_data_file, name):
    path = require_data_file(f"clips/{name}")
    samples, rate = CLIPS[name]
    waveform = read_waveform(path, rate)
    assert waveform.shape == (samples,) and 0.005 < waveform.square().mean().sqrt() < 0.5
    assert len(read_waveform({"bytes": path.read_bytes(), "path": None}, 16000)) == -(-samples * 16000 // rate)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.system
def test_torchcodec_gives_the_same_samples(require_data_file, name):
    needs_torchcodec()
    from torchcodec.decoders import AudioDecoder

    path = require_data_file(f"clips/{name}")
    torch.testing.assert_close(read_waveform(path, 16000), read_waveform(AudioDecoder(path), 16000), atol=1e-5, rtol=0)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "avi"])
def test_the_tone_of_a_video_is_found_again(tmp_path, extension):
    waveform = read_waveform(write_clip(tmp_path / f"clip.{extension}"), 16000).double()
    assert len(waveform) == pytest.approx(32000, abs=2048)
    assert waveform.square().mean().sqrt() == pytest.approx(0.5 / 2**0.5, rel=0.1)
    spectrum = torch.fft.rfft(waveform[4000:20000]).abs()
    assert int(spectrum.argmax()) == 440


def test_silence_is_audio(tmp_path):
    waveform = read_waveform(write_clip(tmp_path / "silent.mp4", tone=0.0), 16000)
    assert len(waveform) > 30000 and waveform.abs().max() == 0


def test_a_video_without_sound(tmp_path, require_data_file):
    for path in (write_clip(tmp_path / "mute.mp4", tone=None), require_data_file("clips/mmaction2_demo_noaudio.mp4")):
        with pytest.raises(MediaError, match=rf"{path.name}: expected an audio stream, found none"):
            read_waveform(path, 16000)


@pytest.mark.parametrize("kind", ["truncated", "flipped", "empty"])
@pytest.mark.parametrize("extension", ["mp4", "mkv", "avi", "wav", "flac", "mp3", "ogg"])
def test_damaged_files(tmp_path, kind, extension):
    path = tmp_path / f"clip.{extension}"
    if extension in ("wav", "flac", "mp3", "ogg"):
        noise = np.random.default_rng(0).uniform(-1, 1, 32000)
        soundfile.write(path, noise, 16000)
    else:
        write_clip(path)
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[len(content) // 2 :]
    elif kind == "empty":
        content.clear()
    else:
        for position in range(len(content) // 4, len(content) * 3 // 4, 97):
            content[position] ^= 0x55
    value = {"bytes": bytes(content), "path": f"damaged.{extension}"}
    if kind == "flipped" and extension == "wav":  # any bytes are valid samples
        assert read_waveform(value, 16000).isfinite().all()
    else:
        with pytest.raises(MediaError, match=f"damaged.{extension}: expected "):
            read_waveform(value, 16000)


def test_a_header_that_announces_more_than_the_memory_holds(tmp_path):
    """The 36 bits of FLAC's STREAMINFO that count samples: 512 GiB of float64."""
    path = tmp_path / "clip.flac"
    soundfile.write(path, TONE, RATE)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    with pytest.raises(MediaError, match=r"damaged\.flac: expected "):
        read_waveform({"bytes": bytes(content), "path": "damaged.flac"}, RATE)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
def test_long_files_are_read_in_blocks(tmp_path, extension, monkeypatch):
    path = tmp_path / f"clip.{extension}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (20000, 2)), 16000)
    whole = read_waveform(path, 16000)
    monkeypatch.setattr("hf_bml.processing.media.waveform.BLOCK", 6001)
    torch.testing.assert_close(read_waveform(path, 16000), whole)


def test_wav_of_unknown_length_as_written_into_a_pipe():
    content = bytearray(wav_bytes(TONE))
    size = content.index(b"data") + 4
    content[size : size + 4] = b"\xff\xff\xff\xff"
    torch.testing.assert_close(read_waveform({"bytes": bytes(content), "path": None}, RATE), torch.from_numpy(TONE))


def test_flac_of_unknown_length_as_written_into_a_pipe(tmp_path):
    path = tmp_path / "clip.flac"
    soundfile.write(path, TONE, RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    waveform = read_waveform({"bytes": bytes(content), "path": None}, RATE)
    torch.testing.assert_close(waveform, read_waveform(path, RATE))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), extension=st.sampled_from(["mp4", "wav"]))
def test_any_damage_gives_audio_or_a_clear_error(tmp_path, data, extension):
    path = tmp_path / f"clip.{extension}"
    if not path.exists():
        path.write_bytes(wav_bytes(TONE)) if extension == "wav" else write_clip(path, times=[0])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        waveform = read_waveform({"bytes": content, "path": "damaged"}, RATE)
    except MediaError as error:
        assert "damaged" in str(error)
        return
    assert waveform.ndim == 1 and waveform.isfinite().all() and waveform.abs().max() <= 1
