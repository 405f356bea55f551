from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from datasets import Image as ImageColumn
from PIL import Image

from hf_bml.processing import FrameTransform, MultimodalProcessor, VideoFrames

GENERATOR = np.random.default_rng(0)


def image(height=20, width=30, channels=3):
    return GENERATOR.integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_same_size_image_is_only_normalised():
    pixels = image(8, 8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = ((pixels / 255 - mean) / std).transpose(2, 0, 1)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, format="PNG")
    forms = [
        Image.fromarray(pixels),
        {"bytes": png.getvalue(), "path": None},
        pixels,
        pixels.tolist(),
        torch.from_numpy(pixels).permute(2, 0, 1),
        torch.from_numpy(pixels).permute(2, 0, 1) / 255,
    ]
    for result in FrameTransform(size=8)(forms):
        assert result.shape == (3, 8, 8) and result.dtype == torch.float32
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_constant_grey_image():
    result = FrameTransform(size=(4, 6), num_channels=1)([Image.new("RGB", (50, 40), (255, 255, 255))])[0]
    torch.testing.assert_close(result, torch.ones(1, 4, 6))
    custom = FrameTransform(size=4, num_channels=1, mean=[0.0], std=[2.0])([np.full((9, 9), 255, np.uint8)])[0]
    torch.testing.assert_close(custom, torch.full((1, 4, 4), 0.5))


def test_colour_becomes_grey():
    pixels = image(8, 8)
    expected = pixels @ np.array([0.299, 0.587, 0.114]) / 255  # ITU-R 601
    options = {"size": 8, "num_channels": 1, "mean": [0.0], "std": [1.0]}
    for form in (pixels, torch.from_numpy(pixels).permute(2, 0, 1) / 255, Image.fromarray(pixels)):
        np.testing.assert_allclose(FrameTransform(**options)([form])[0][0], expected, atol=1.5 / 255)


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_whether_decoded_by_datasets_or_not(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(image(8, 12)), "PNG", exif=exif)
    column = Dataset.from_dict({"a": [{"bytes": data, "path": None}]}).cast_column("a", ImageColumn())
    transform = FrameTransform(size=(8, 12))
    decoded, undecoded, opened = transform([column[0]["a"], {"bytes": data}, Image.open(io.BytesIO(data))])
    assert torch.equal(decoded, undecoded) and torch.equal(decoded, opened)
    applied = MultimodalProcessor({"a": {"type": "frames", "size": [8, 12]}}).apply(DatasetDict(train=column))
    assert torch.equal(applied["train"][0]["a"], decoded)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_16_bits_are_scaled(kind, num_channels):
    levels = np.array([[0, 255], [32768, 65535]], dtype=np.uint16)
    options = {"mean": [0.0] * num_channels, "std": [1.0] * num_channels}
    transform = FrameTransform(size=2, num_channels=num_channels, **options)
    picture = Image.fromarray(levels)
    expected = torch.from_numpy(levels / 65535).to(torch.float32).expand(num_channels, 2, 2)
    for result in transform([picture, {"bytes": encoded(picture, kind)}]):
        torch.testing.assert_close(result, expected)
    with pytest.raises(ValueError, match="8 bits a channel, or none"):
        transform([[picture, Image.new("L", (2, 2))]])


def drawing(ink, kind, ground=None):
    """A stroke of one colour on transparent ground; with a ground, the same on that instead."""
    picture = Image.new("RGBA", (8, 8), (*ink, 0))
    picture.paste((*ink, 255), (2, 0, 4, 8))
    if kind != "GIF":
        picture.paste((*ink, 128), (4, 0, 5, 8))
    if ground is not None:
        opaque = Image.new("RGBA", picture.size, ground)
        opaque.alpha_composite(picture)
        return opaque.convert("RGB")
    return {"grey": picture.convert("LA"), "palette": picture.quantize(4)}.get(kind, picture)


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("kind", ["colour", "grey", "palette", "GIF", "WEBP", "TIFF"])
def test_transparent_images_are_drawn_on_the_background(kind, num_channels):
    plain = {"size": 8, "num_channels": num_channels, "mean": [0.0] * num_channels, "std": [1.0] * num_channels}
    for ink, ground in (((0, 0, 0), {}), ((255, 255, 255), {"background": "black"})):
        transform, picture = FrameTransform(**plain, **ground), drawing(ink, kind)
        content = encoded(picture, kind if kind.isupper() else "PNG", **({"lossless": True} if kind == "WEBP" else {}))
        expected = transform([drawing(ink, kind, ground.get("background", "white"))])[0]
        assert len(expected.unique()) > 1
        (clip,) = transform([[{"bytes": content, "path": "a"}] * 2])
        for result in (*transform([picture, {"bytes": content, "path": None}]), *clip):
            torch.testing.assert_close(result, expected, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_one_transparent_level_and_opaque_alpha(num_channels):
    options = {"size": 2, "num_channels": num_channels, "mean": [0.0] * num_channels, "std": [1.0] * num_channels}
    pixels = image(2, 2, 3)
    opaque = Image.fromarray(pixels)
    opaque.putalpha(255)
    plain, same = FrameTransform(**options)([Image.fromarray(pixels), opaque])
    assert torch.equal(plain, same)
    for dtype in (np.uint8, np.uint16):
        levels = np.array([[7, 8], [9, 7]], dtype)
        content = encoded(Image.fromarray(levels), "PNG", transparency=7)
        result = FrameTransform(**options)([{"bytes": content, "path": None}])[0]
        expected = np.where(levels == 7, 1, levels / np.iinfo(dtype).max).astype(np.float32)
        torch.testing.assert_close(result, torch.from_numpy(expected).expand(num_channels, 2, 2))


@pytest.mark.parametrize("pixel_format", ["rgb48be", "rgba64be", "ya16be"])
def test_16_bits_of_colour_or_with_transparency_keep_the_upper_8(pixel_format):
    """Scaled, not clipped."""
    channels = {"rgb48be": 3, "rgba64be": 4, "ya16be": 2}[pixel_format]
    levels = np.full((2, 2, channels), 65535, np.uint16)
    levels[..., : channels - (channels != 3)] = np.array([[1000, 20000], [40000, 65535]])[..., None]
    stream = av.CodecContext.create("png", "w")
    stream.width, stream.height, stream.pix_fmt, stream.time_base = 2, 2, pixel_format, Fraction(1, 25)
    frame = av.VideoFrame(2, 2, pixel_format)
    rows = np.zeros((2, frame.planes[0].line_size), np.uint8)
    rows[:, : 4 * channels] = levels.astype(">u2").reshape(2, -1).view(np.uint8)
    frame.planes[0].update(rows.tobytes())
    content = bytes((stream.encode(frame) + stream.encode(None))[0])
    result = FrameTransform(size=2, mean=[0.0] * 3, std=[1.0] * 3)([{"bytes": content, "path": None}])[0]
    torch.testing.assert_close(result[0], torch.tensor([[1000, 20000], [40000, 65535]]) / 65535, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_scale_are_refused(mode):
    data = encoded(Image.new(mode, (2, 2), 300), "TIFF")
    with pytest.raises(ValueError, match=rf"^deep.tif: expected 8 or 16 bits.*mode '{mode}'"):
        FrameTransform(size=2)([{"bytes": data, "path": "deep.tif"}])


def test_a_damaged_header_that_asks_for_more_memory_than_there_is(monkeypatch):
    def load(picture):
        raise MemoryError

    data = encoded(Image.new("L", (2, 2)), "TIFF")
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", load)
    with pytest.raises(ValueError, match=r"^a.tif: expected a readable image, found: MemoryError"):
        FrameTransform(size=2)([{"bytes": data, "path": "a.tif"}])


def test_centre_crop_keeps_the_shape_of_things():
    pixels = image(8, 20)
    expected = FrameTransform(size=8)([pixels[:, 6:14]])[0]
    torch.testing.assert_close(FrameTransform(size=8, evaluation="center_crop")([pixels])[0], expected)


def test_clips_gain_a_frame_axis():
    frames = [image() for _ in range(4)]
    stacked = np.stack(frames)
    forms = [
        frames,
        [Image.fromarray(frame) for frame in frames],
        stacked,
        stacked.tolist(),
        torch.from_numpy(stacked).permute(0, 3, 1, 2),
    ]
    transform = FrameTransform(size=16)
    expected = torch.stack(transform(frames))
    for result in transform(forms):
        assert result.shape == (4, 3, 16, 16)
        torch.testing.assert_close(result, expected)
    assert transform([frames[:1]])[0].shape == (1, 3, 16, 16)


def test_augmentation_is_shared_by_the_frames_of_a_clip():
    transform = FrameTransform(size=16, augment="crop_flip")
    frame = image()
    torch.manual_seed(0)
    clips = transform([[frame] * 3] * 6, training=True)
    for clip in clips:
        torch.testing.assert_close(clip[0], clip[1])
        torch.testing.assert_close(clip[0], clip[2])
    assert not torch.equal(clips[0], clips[1])
    torch.manual_seed(0)
    torch.testing.assert_close(transform([[frame] * 3] * 6, training=True)[5], clips[5])


def test_evaluation_is_deterministic():
    transform, frame = FrameTransform(size=16, augment="crop_flip"), image()
    assert transform.is_random and not FrameTransform().is_random
    plain = FrameTransform(size=16)
    torch.testing.assert_close(transform([frame])[0], plain([frame])[0])
    torch.testing.assert_close(plain([frame], training=True)[0], plain([frame])[0])


def test_flip_probability_and_crop_range_are_options():
    pixels = image(8, 8)
    whole = {"size": 8, "augment": "crop_flip", "crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0]}
    plain = FrameTransform(size=8)([pixels])[0]
    torch.testing.assert_close(FrameTransform(**whole, flip=0.0)([pixels], training=True)[0], plain)
    torch.testing.assert_close(FrameTransform(**whole, flip=1.0)([pixels], training=True)[0], plain.flip(-1))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((8, 8), np.uint8), "Expected 3 channels, found 1"),
        (np.zeros((8, 8, 4), np.uint8), "Expected 3 channels, found 4"),
        (torch.zeros(8, 8, 3), "Expected 3 channels, found 8"),
        (np.zeros((8, 8, 3), np.int64), "uint8 or float"),
        (np.full((8, 8, 3), np.nan), "finite intensities"),
        ([torch.zeros(3, 8, 8), torch.full((3, 8, 8), torch.inf)], "finite intensities"),
        ([[[300, 0, 0]]], "uint8 or float"),
        ([], "Expected a PIL image"),
        ("cat.png", "cat.png: expected an image file, found: .*No such file"),
        ({"bytes": b"GIF89a", "path": "cat.gif"}, "cat.gif: expected a readable image"),
        ({"bytes": b"", "path": "cat.gif"}, "cat.gif: .*empty"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], "one shape"),
    ],
)
def test_invalid_images(value, message):
    with pytest.raises(ValueError, match=message):
        FrameTransform(size=8)([value])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_channels": 2}, "1 or 3"),
        ({"augment": "mixup"}, "crop_flip"),
        ({"mean": [0.5]}, "3 values"),
        ({"evaluation": "five_crop"}, "center_crop"),
        ({"std": [1.0, 0.0, 1.0]}, "positive std"),
        ({"background": "transparent"}, "background to be a colour .* found 'transparent'"),
        ({"background": 255}, "background to be a colour .* found 255"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        FrameTransform(**options)


@pytest.mark.parametrize("shape", [(8, 8, 3), (2, 8, 8, 3)])
def test_floats_of_another_range_are_refused(shape):
    pixels = np.linspace(0, 255, int(np.prod(shape))).reshape(shape)
    message = r"float intensities in \[0, 1\], found -?\d.* Divide by 255, or pass uint8"
    for wrong in (pixels, pixels / 127.5 - 1, pixels.astype(np.float32), torch.from_numpy(pixels).movedim(-1, -3)):
        with pytest.raises(ValueError, match=message):
            FrameTransform(size=8)([wrong])
    rounding = pixels / 255 * 1.0008 - 0.0004
    for right in (pixels / 255, rounding):
        expected = FrameTransform(size=8)([pixels / 255])[0]
        torch.testing.assert_close(FrameTransform(size=8)([right])[0], expected, atol=3e-3, rtol=0)


def test_decoded_float_clips_do_not_wrap():
    clip = np.full((4, 8, 8, 3), 1.0005, np.float32)
    transform = VideoFrames(num_frames=2, size=8, mean=[0.0] * 3, std=[1.0] * 3)
    assert torch.equal(transform([clip])[0], torch.ones(2, 3, 8, 8))
    with pytest.raises(ValueError, match="Divide by 255"):
        transform([clip * 200])
