from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image

from hf_bml.processing import MediaError, MultimodalProcessor, OpticalFlow, encode_flow, optical_flow


@pytest.fixture
def opencv():
    return pytest.importorskip("cv2", reason="optical flow needs opencv-python-headless")


def moving_texture(dx, dy, count=3, size=96):
    """Smooth noise that moves by (dx, dy) pixels a frame: uint8 (count, size, size)."""
    generator = np.random.default_rng(0)
    spectrum = np.fft.fft2(generator.normal(size=(256, 256)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    texture = np.fft.ifft2(spectrum * np.exp(-((frequency * 12) ** 2))).real
    texture = (127 + 100 * texture / np.abs(texture).max()).astype(np.uint8)
    frames = [
        np.roll(texture, (dy * index, dx * index), axis=(0, 1))[64 : 64 + size, 64 : 64 + size]
        for index in range(count)
    ]
    return torch.from_numpy(np.stack(frames))


@pytest.mark.parametrize("method", ["dis", "farneback"])
@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (0, -2), (-4, 1)])
def test_a_known_displacement_is_found(opencv, method, dx, dy):
    flow = optical_flow(moving_texture(dx, dy), method)
    assert flow.shape == (2, 2, 96, 96) and flow.dtype == torch.float32
    centre = flow[:, :, 20:-20, 20:-20].flatten(2).median(dim=2).values
    torch.testing.assert_close(centre, torch.tensor([[dx, dy]] * 2, dtype=torch.float32), atol=0.2, rtol=0)


def test_encoding():
    flow = torch.tensor([-100.0, -20.0, -10.0, 0.0, 10.0, 20.0, 100.0])
    assert encode_flow(flow).tolist() == [0, 0, 64, 128, 191, 255, 255]
    assert encode_flow(flow, bound=40.0).tolist() == [0, 64, 96, 128, 159, 191, 255]


def clip_of(texture):
    return texture[:, None].expand(-1, 3, -1, -1)


def test_model_input(opencv):
    result = OpticalFlow(num_frames=2, size=96)([clip_of(moving_texture(4, -2, count=5))])[0]
    assert result.shape == (2, 2, 96, 96) and result.dtype == torch.float32
    centre = result[:, :, 20:-20, 20:-20].flatten(2).median(dim=2).values
    torch.testing.assert_close(centre, torch.tensor([[4 / 40, -2 / 40]] * 2), atol=0.008, rtol=0)


def test_new_length_stacks_pairs_as_channels(opencv):
    clip = clip_of(moving_texture(2, 1, count=9))
    stacked = OpticalFlow(num_frames=1, new_length=3, size=96)([clip])[0]
    single = OpticalFlow(num_frames=8, size=96)([clip])[0]  # pairs from frame 0 to 7
    assert stacked.shape == (1, 6, 96, 96)
    torch.testing.assert_close(stacked[0], single[2:5].flatten(0, 1))  # the middle of frames 0 to 5: frame 2


def test_a_flip_negates_u(opencv):
    options = {"num_frames": 1, "size": 96, "augment": "crop_flip", "crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0]}
    clip = clip_of(moving_texture(4, -2))
    plain = OpticalFlow(num_frames=1, size=96)([clip])[0]
    flipped = OpticalFlow(**options, flip=1.0)([clip], training=True)[0]
    torch.testing.assert_close(flipped[:, 0], -plain[:, 0].flip(-1))
    torch.testing.assert_close(flipped[:, 1], plain[:, 1].flip(-1))
    torch.testing.assert_close(OpticalFlow(**options, flip=0.0)([clip], training=True)[0], plain)
    mirrored = OpticalFlow(num_frames=1, size=96)([clip.flip(-1)])[0]  # flow of the mirrored video
    difference = (mirrored - flipped)[..., 20:-20, 20:-20].abs().median()
    assert difference < 0.01


def test_flow_of_a_real_video(opencv, require_data_file):
    path = require_data_file("clips/flipping_a_pancake.mkv")
    result = OpticalFlow(num_frames=3, short_side=120, size=112, sampling="segment")([path])[0]
    assert result.shape == (3, 2, 112, 112) and result.abs().max() <= 0.5
    assert result.abs().mean() > 0.003  # something moves


def save_flow(folder, count=6, size=(10, 12)):
    """The released layout; u is 10 * i and v is 200 - 10 * i."""
    for component, level in (("u", lambda i: 10 * i), ("v", lambda i: 200 - 10 * i)):
        (folder / component / "v_Archery_g01_c01").mkdir(parents=True)
        for index in range(count):
            image = Image.new("L", (size[1], size[0]), level(index))
            image.save(folder / component / "v_Archery_g01_c01" / f"frame{index + 1:06d}.jpg", quality=100)
    return {component: str(folder / component / "v_Archery_g01_c01") for component in ("u", "v")}


def test_the_released_images_need_no_opencv(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    value = save_flow(tmp_path)
    result = OpticalFlow(num_frames=3, size=[10, 12])([value])[0]
    assert result.shape == (3, 2, 10, 12)
    levels = ((result.mean(dim=(2, 3)) + 0.5) * 255).round().int().tolist()
    assert levels == [[0, 200], [20, 180], [50, 150]]
    stacked = OpticalFlow(num_frames=1, sampling="segment", new_length=2, size=[10, 12])([value])[0]
    levels = ((stacked.mean(dim=(2, 3)) + 0.5) * 255).round().int().tolist()
    assert levels == [[20, 180, 30, 170]]
    images = {name: [Image.open(path) for path in sorted((tmp_path / name).glob("*/*.jpg"))] for name in ("u", "v")}
    torch.testing.assert_close(OpticalFlow(num_frames=3, size=[10, 12])([images])[0], result)
    with pytest.raises(ValueError, match=r"pip install hf_bml\[flow\]"):
        OpticalFlow()([clip_of(moving_texture(1, 1))])


def test_released_images_have_a_rate_of_their_own(tmp_path):
    """Six images at 4 per second reduced to 2 per second: 0, 2 and 4 are the grid, and are cached."""
    transform = OpticalFlow(num_frames=1, sampling="segment", fps=2, image_fps=4, size=[10, 12])
    grid = transform.extract([save_flow(tmp_path)])[0]
    levels = grid.float().mean(dim=(2, 3)).round().int().tolist()
    assert levels == [[0, 200], [20, 180], [40, 160]]
    torch.manual_seed(0)
    drawn = {round(float(transform.finish([grid], training=True)[0][0, 0].mean() + 0.5) * 255) for _ in range(30)}
    assert drawn == {0, 20, 40}


def test_released_images_without_leading_zeros(tmp_path):
    value = save_flow(tmp_path, count=12)
    for path in tmp_path.glob("*/*/frame*.jpg"):
        path.rename(path.with_name(f"frame{int(path.stem[5:])}.jpg"))
    result = OpticalFlow(num_frames=12, size=[10, 12])([value])[0]
    assert ((result.mean(dim=(2, 3)) + 0.5) * 255).round().int()[:, 0].tolist() == [10 * i for i in range(12)]


def test_damaged_layouts(tmp_path):
    value = save_flow(tmp_path)
    with pytest.raises(MediaError, match=r"nowhere: expected a folder with frame000001\.jpg"):
        OpticalFlow()([{**value, "v": str(tmp_path / "nowhere")}])
    (tmp_path / "v" / "v_Archery_g01_c01" / "frame000006.jpg").unlink()
    with pytest.raises(MediaError, match=r"as many images of u as of v, found \{'u': 6, 'v': 5\}"):
        OpticalFlow()([value])


def test_computed_once(opencv, monkeypatch, tmp_path):
    frames = [Image.fromarray(frame.numpy()) for frame in moving_texture(3, 1, count=8)]
    Dataset.from_dict({"flow": [frames], "labels": [0]}).save_to_disk(tmp_path / "data")
    data = DatasetDict({"train": Dataset.load_from_disk(tmp_path / "data")})
    options = {"type": "optical_flow", "num_frames": 2, "size": 48, "augment": "crop_flip"}
    rows = MultimodalProcessor({"flow": options}).apply(data)["train"]
    monkeypatch.setitem(sys.modules, "cv2", None)
    first, second = rows[0]["flow"], rows[0]["flow"]
    assert first.shape == (2, 2, 48, 48) and not torch.equal(first, second)
    again = MultimodalProcessor({"flow": options}).apply(data)["train"]
    assert again._fingerprint == rows._fingerprint and again[0]["flow"].shape == (2, 2, 48, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "raft"}, "'dis', 'farneback'"),
        ({"bound": 0}, "bound > 0"),
        ({"new_length": 0}, "new_length"),
        ({"image_fps": 0}, "image_fps > 0"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        OpticalFlow(**options)


def test_invalid_videos(opencv):
    with pytest.raises(MediaError, match="Expected more than 1 frame"):
        OpticalFlow()([clip_of(moving_texture(1, 1, count=1))])
    with pytest.raises(MediaError, match=r"size \(4, 4\)"):
        OpticalFlow()([torch.zeros(3, 3, 4, 4, dtype=torch.uint8)])
