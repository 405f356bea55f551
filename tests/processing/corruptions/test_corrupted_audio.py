from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_bml.processing.corruptions import Surroundings, build_corruption, row_generator

RATE = 8000


def tone(hertz, seconds=1.0, amplitude=0.3):
    times = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    return (amplitude * torch.sin(2 * torch.pi * hertz * times)).float()


CLIP = tone(440)
OTHERS = [tone(200, 0.3), tone(300, 2.0, 0.01), None, torch.zeros(50), CLIP, tone(700), tone(900)]


def corrupted(name, options, clip=CLIP, row=0, others=OTHERS):
    around = Surroundings(sampling_rate=RATE, others=others)
    return build_corruption(name, options)(clip, row_generator(0, name, "audio", row), around)


def decibels(clean, noisy):
    clean, noise = clean.double(), (noisy - clean).double()
    return float(10 * torch.log10(clean.square().mean() / noise.square().mean()))


@pytest.mark.parametrize("name", ["white_noise", "babble"])
@pytest.mark.parametrize("snr", [40, 20, 10, 0, -5, -20])
def test_the_ratio_of_the_output_is_the_one_asked_for(name, snr):
    for clip in (CLIP, CLIP + 0.2, torch.cat([CLIP, torch.zeros(9 * RATE)]), CLIP[:3]):
        noisy = corrupted(name, {"snr": snr}, clip)
        assert abs(decibels(clip, noisy) - snr) < 0.01
        assert noisy.dtype == torch.float32 and noisy.shape == clip.shape


@pytest.mark.parametrize("name", ["white_noise", "babble"])
def test_severities_share_their_draws_and_rows_do_not(name):
    mild, strong = (corrupted(name, {"snr": snr}) - CLIP for snr in (20, 0))
    torch.testing.assert_close(10 * mild, strong, atol=1e-5, rtol=1e-4)
    assert not torch.equal(corrupted(name, {}, row=1), corrupted(name, {}, row=2))


@pytest.mark.parametrize("name", ["white_noise", "babble", "telephone"])
def test_silence_stays_silent(name):
    assert not corrupted(name, {}, torch.zeros(400)).any()


def test_white_noise_is_white():
    noise = (corrupted("white_noise", {"snr": 0}, tone(440, 8.0)) - tone(440, 8.0)).numpy()
    low, high = np.split(np.abs(np.fft.rfft(noise)[1:]) ** 2, 2)
    assert low.mean() == pytest.approx(high.mean(), rel=0.1)


def test_babble_is_never_of_the_clip_itself():
    other = tone(700)
    for row in range(5):
        noise = corrupted("babble", {"snr": 0}, row=row, others=[CLIP, other, None, torch.zeros(9), CLIP]) - CLIP
        spectrum = torch.fft.rfft(noise).abs()
        assert int(spectrum.argmax()) == 700 and spectrum[440] < 0.01 * spectrum[700]
    with pytest.raises(ValueError, match="another row with sound to mix in, found none among 2"):
        corrupted("babble", {}, others=[CLIP, torch.zeros(4)])


def test_rows_of_babble_are_equally_loud():
    noise = corrupted("babble", {"snr": 0, "num_others": 2}, others=[CLIP, tone(200, amplitude=0.5), tone(900)]) - CLIP
    spectrum = torch.fft.rfft(noise).abs()
    assert float(spectrum[200]) == pytest.approx(float(spectrum[900]), rel=1e-3)


@pytest.mark.parametrize(
    ("hertz", "level"), [(60, 0.0), (300, 0.5), (1000, 1.0), (2000, 1.0), (3400, 0.5), (3900, 0.0)]
)
def test_telephone_keeps_its_band(hertz, level):
    clip = tone(hertz, 2.0)
    middle = slice(RATE // 2, -RATE // 2)
    found = float(corrupted("telephone", {}, clip)[middle].std() / clip[middle].std())
    assert found == pytest.approx(level, abs=0.02)


def test_telephone_at_a_low_rate_cuts_the_low_end_only():
    telephone = build_corruption("telephone")
    clip = torch.sin(2 * torch.pi * 2500 * torch.arange(6000) / 6000.0)
    found = telephone(clip, None, Surroundings(sampling_rate=6000))
    assert float(found[1000:-1000].std() / clip[1000:-1000].std()) == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="above 600 Hz, found 600"):
        telephone(clip, None, Surroundings(sampling_rate=600))
    assert telephone(clip[:1], None, Surroundings(sampling_rate=8000)).shape == (1,)
