import io
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from hf_bml.processing import read_waveform

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
    assert read_waveform([-3.0, 0.5, 2.0], RATE).tolist() == [-1.0, 0.5, 1.0]


@pytest.mark.parametrize(("rate", "up", "down"), [(8000, 2, 1), (22050, 320, 441), (48000, 1, 3)])
def test_resampling_equals_scipy(rate, up, down):
    waveform = read_waveform({"array": TONE, "sampling_rate": rate}, 16000)
    expected = resample_poly(TONE.astype(np.float64), up, down)
    np.testing.assert_allclose(waveform.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"bytes": b"not audio", "path": "clips/a.wav"}, "clips/a.wav: expected an audio file.*Convert"),
        ({"bytes": None, "path": "missing/b.wav"}, "missing/b.wav: expected an audio file"),
        ({"bytes": wav_bytes(np.zeros(0, np.float32)), "path": "c.wav"}, "c.wav: expected at least one audio sample"),
        ({"bytes": None, "path": None}, "without content"),
        ([], "at least one audio sample"),
        ([0.0, float("nan")], "NaN or infinity"),
        ([float("inf")], "NaN or infinity"),
        (np.zeros((2, 2, 2)), "1-D or 2-D"),
        (np.zeros(4, np.uint8), "uint8"),
    ],
)
def test_invalid_audio_is_rejected(value, message):
    with pytest.raises(ValueError, match=message):
        read_waveform(value, RATE)
