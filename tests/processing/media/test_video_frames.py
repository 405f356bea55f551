from __future__ import annotations

import numpy as np
import pytest
import torch
from media_samples import grey_levels, write_clip
from PIL import Image

from hf_bml.processing import FrameTransform, MediaError, VideoFrames, read_video

PLAIN = {"mean": [0.0] * 3, "std": [1.0] * 3, "size": [32, 48]}


def levels(clip):
    return grey_levels(clip * 255)


@pytest.fixture
def clip(tmp_path):
    """Frame i has grey level 12 * i; 20 frames at 10 per second."""
    return write_clip(tmp_path / "clip.mp4")


def test_frames_are_those_of_the_video_normalised(clip):
    result = VideoFrames(num_frames=3, size=24)([clip])[0]
    frames, _ = read_video(clip, lambda times: torch.tensor([0, 9, 19]))
    expected = FrameTransform(size=24)([frames])[0]
    assert result.shape == (3, 3, 24, 24) and result.dtype == torch.float32
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_frames": 1}, [9]),
        ({"num_frames": 3, "new_length": 2}, [0, 1, 9, 10, 18, 19]),
        ({"num_frames": 2, "sampling": "segment"}, [5, 15]),
        ({"num_frames": 2, "fps": 1}, [0, 10]),
        ({"num_frames": 2, "fps": 1, "new_length": 2}, [0, 1, 10, 11]),
        ({"num_frames": 4, "fps": 2, "sampling": "segment"}, [0, 5, 10, 15]),
        ({"num_frames": 3, "sampling": "random"}, [0, 9, 19]),
    ],
)
def test_sampling(clip, options, expected):
    transform = VideoFrames(**options, **PLAIN)
    assert levels(transform([clip])[0]) == expected
    if transform.has_extract:
        assert levels(transform.finish(transform.extract([clip]))[0]) == expected


@pytest.mark.parametrize(
    "options", [{"sampling": "segment"}, {"sampling": "segment", "fps": 5}, {"sampling": "random"}]
)
def test_random_sampling_in_training(clip, options):
    transform = VideoFrames(num_frames=2, **options, **PLAIN)
    assert transform.is_random and transform.has_extract == ("fps" in options)
    torch.manual_seed(0)
    draws = [levels(transform([clip], training=True)[0]) for _ in range(20)]
    assert len({tuple(draw) for draw in draws}) > 5
    assert all(draw == sorted(draw) for draw in draws)
    if options["sampling"] == "segment":
        assert all(draw[0] < 10 <= draw[1] for draw in draws)
    if transform.has_extract:
        stored = transform.extract([clip])
        assert stored[0].dtype == torch.uint8 and grey_levels(stored[0].flatten(0, 1)) == list(range(0, 20, 2))
        cached = {tuple(levels(transform.finish(stored, training=True)[0])) for _ in range(60)}
        assert {draw[0] for draw in cached} == set(range(0, 10, 2))


def test_augmentation_is_shared_by_the_frames_of_a_clip():
    picture = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    transform = VideoFrames(num_frames=3, size=16, augment="crop_flip")
    assert transform.is_random and transform.has_extract
    stored = transform.extract([picture.expand(5, -1, -1, -1)])
    assert stored[0].shape == (3, 1, 3, 40, 60) and stored[0].dtype == torch.uint8
    torch.manual_seed(0)
    first, second = transform.finish(stored * 2, training=True)
    assert torch.equal(first[0], first[2]) and not torch.equal(first, second)
    torch.testing.assert_close(transform.finish(stored)[0], transform([picture.expand(5, -1, -1, -1)])[0])


def test_decoded_frames_in_every_form():
    arrays = [np.full((8, 8, 3), 12 * index, np.uint8) for index in range(5)]
    transform = VideoFrames(num_frames=2, mean=[0.0] * 3, std=[1.0] * 3, size=8)
    forms = [
        arrays,
        [Image.fromarray(array) for array in arrays],
        np.stack(arrays),
        torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2),
        torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 255,
    ]
    for value in forms:
        assert levels(transform([value])[0]) == [0, 4]


def test_grey_and_short_side(clip):
    transform = VideoFrames(num_frames=2, num_channels=1, short_side=16, size=16, mean=[0.0], std=[1.0])
    assert transform.extract([clip])[0].shape == (2, 1, 1, 16, 24)
    assert levels(transform([clip])[0]) == [0, 19]
    assert VideoFrames(num_frames=1, short_side=64).extract([clip])[0].shape == (1, 1, 3, 32, 48)


def test_centre_crop_keeps_the_shape_of_things():
    picture = torch.zeros(1, 3, 20, 40, dtype=torch.uint8)
    picture[..., 10:30] = 255  # the central square is white
    options = {"num_frames": 1, "size": 10, "mean": [0.0] * 3, "std": [1.0] * 3}
    assert VideoFrames(evaluation="center_crop", **options)([picture])[0].min() == 1
    assert VideoFrames(**options)([picture])[0].min() == 0


def test_one_frame_video(tmp_path):
    clip = write_clip(tmp_path / "one.mp4", times=[0], tone=None)
    assert levels(VideoFrames(num_frames=3, new_length=2, **PLAIN)([clip])[0]) == [0] * 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 0}, "num_frames >= 1, found 0"),
        ({"new_length": 0}, "new_length >= 1"),
        ({"short_side": -1}, "short_side >= 1"),
        ({"sampling": "dense"}, "'segment'"),
        ({"fps": 0}, "fps > 0"),
        ({"decoder": "opencv"}, "'pyav'"),
        ({"augment": "mixup"}, "crop_flip"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        VideoFrames(**options)


def test_invalid_values():
    with pytest.raises(MediaError, match=r"missing\.mp4: expected a video file"):
        VideoFrames()(["missing.mp4"])
    with pytest.raises(MediaError, match="found int"):
        VideoFrames()([3])
