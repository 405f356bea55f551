from __future__ import annotations

import pytest
import torch
from media_samples import write_clip

from hf_bml.processing import MediaError, RGBDifference


def coloured(*levels):
    """A clip of uniform frames (frames, 3, 8, 8)."""
    return torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)


def means(result):
    return [round(float(value) * 255) for value in result.mean(dim=(1, 2, 3))]


def test_next_minus_this_at_the_native_rate():
    clip = coloured(0, 10, 30, 60, 100, 50)
    assert means(RGBDifference(num_frames=3, size=8)([clip])[0]) == [10, 30, -50]  # from frames 0, 2 and 4
    assert means(RGBDifference(num_frames=1, new_length=5, size=8)([clip])[0]) == [10, 20, 30, 40, -50]
    assert means(RGBDifference(num_frames=3, sampling="segment", size=8)([clip])[0]) == [10, 30, -50]


def test_fps_chooses_snippets_but_not_their_frames(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", times=[100 * index for index in range(20)])  # 12 grey levels a frame
    result = RGBDifference(num_frames=2, fps=1, size=[32, 48])([clip])[0]
    assert result.shape == (2, 3, 32, 48) and result.dtype == torch.float32
    assert all(abs(level - 12) <= 2 for level in means(result))


def test_range_and_scale():
    result = RGBDifference(num_frames=1, size=8)([coloured(255, 0)])[0]
    torch.testing.assert_close(result, torch.full((1, 3, 8, 8), -1.0))
    torch.testing.assert_close(RGBDifference(num_frames=1, size=8, std=0.5)([coloured(255, 0)])[0], 2 * result)


def test_both_frames_of_a_pair_are_cropped_alike():
    picture = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    transform = RGBDifference(num_frames=3, size=16, augment="crop_flip")
    torch.manual_seed(0)
    for result in transform([picture.expand(6, -1, -1, -1)] * 4, training=True):
        assert not result.any()
    assert transform.is_random and transform.has_extract


def test_cached_part():
    clip = torch.randint(0, 256, (9, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for options in ({}, {"fps": 0.5, "sampling": "segment"}, {"new_length": 2}):
        transform = RGBDifference(num_frames=2, size=16, **options)
        stored = transform.extract([clip])
        assert stored[0].dtype == torch.uint8
        torch.testing.assert_close(transform.finish(stored)[0], transform([clip])[0])


def test_a_single_frame_has_no_difference(tmp_path):
    with pytest.raises(MediaError, match=r"one\.mp4: Expected more than 1 frame, found 1"):
        RGBDifference()([write_clip(tmp_path / "one.mp4", times=[0], tone=None)])


def test_invalid_options():
    with pytest.raises(ValueError, match="std > 0"):
        RGBDifference(std=0.0)
    with pytest.raises(ValueError, match="'segment'"):
        RGBDifference(sampling="all")
