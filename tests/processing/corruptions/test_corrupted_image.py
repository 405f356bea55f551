from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from hf_bml.processing.corruptions import Surroundings, build_corruption, row_generator

GREY = torch.full((4, 3, 40, 60), 0.5)


def corrupted(name, options, signal, row=0):
    return build_corruption(name, options)(signal, row_generator(0, name, "visual", row), Surroundings())


@pytest.mark.parametrize("name", ["gaussian_noise", "blur", "jpeg"])
@pytest.mark.parametrize("shape", [(1, 20, 30), (3, 20, 30), (2, 3, 20, 30), (2, 2, 1, 20, 30), (2, 4, 20, 30)])
def test_kind_and_shape_stay(name, shape):
    floats = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    levels = (floats * 255).round().to(torch.uint8)
    for signal in (floats, levels):
        before = signal.clone()
        found = corrupted(name, {}, signal)
        assert found.shape == shape and found.dtype == signal.dtype
        assert torch.equal(signal, before) and not torch.equal(found, before)
    assert corrupted(name, {}, floats).min() >= 0 and corrupted(name, {}, floats).max() <= 1
    # 8 bits differ from floats by the rounding of input and output, which compression can enlarge
    difference = (corrupted(name, {}, levels) / 255 - corrupted(name, {}, levels / 255)).abs().max()
    assert difference <= 0.51 / 255 + 1e-6


def test_noise_has_its_size_and_is_that_of_the_clip():
    found = corrupted("gaussian_noise", {"sigma": 0.1}, GREY)
    assert float((found - GREY)[0].std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(found[0], found[3])
    own = corrupted("gaussian_noise", {"sigma": 0.1, "per_frame": True}, GREY)
    assert not torch.equal(own[0], own[3])


def test_blur_is_a_gaussian_of_its_share_of_the_short_side():
    image = torch.zeros(1, 100, 160)
    image[0, 50, 80] = 1
    found = corrupted("blur", {"fraction": 0.04}, image)[0].double()
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    for axis, size in ((0, 160), (1, 100)):
        density, places = found.sum(axis), torch.arange(size, dtype=torch.float64)
        mean = (density * places).sum()
        assert float((density * (places - mean) ** 2).sum()) == pytest.approx(16, rel=0.04)  # cut at three sigmas
    frames = torch.rand(2, 3, 9, 9)
    assert torch.equal(corrupted("blur", {}, frames)[1], corrupted("blur", {}, frames[1]))


@pytest.mark.parametrize("quality", [25, 7])
def test_jpeg_is_pillows(quality):
    colour = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colour).save(buffer, format="JPEG", quality=quality)
    expected = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)
    clip = torch.from_numpy(colour).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    assert torch.equal(corrupted("jpeg", {"quality": quality}, clip)[1], expected)


def test_a_stronger_severity_does_more():
    image = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0))
    for name in ("gaussian_noise", "blur", "jpeg"):
        found = type(build_corruption(name))
        errors = [
            float((corrupted(name, {found.severity: value}, image) - image).square().mean())
            for value in found.severities
        ]
        assert errors == sorted(errors) and errors[0] > 0
