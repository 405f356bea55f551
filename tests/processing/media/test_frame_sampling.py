from __future__ import annotations

import pytest
import torch

from hf_bml.processing import MediaError
from hf_bml.processing.media.frame_sampling import frame_grid, sample_grid, shown_at, snippets


def at(rate, count):
    return torch.arange(count, dtype=torch.float64) / rate


def test_grid_without_fps_holds_all_frames_with_room_for_a_snippet():
    starts, times, period = frame_grid(at(25, 10) + 3.2, length=4)
    assert starts.tolist() == [0, 1, 2, 3, 4, 5, 6]
    torch.testing.assert_close(times, at(25, 7))
    assert period == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("rate", "count", "fps", "expected"),
    [
        (25, 75, 1.0, [0, 25, 50]),
        (25, 76, 1.0, [0, 25, 50, 75]),
        (30000 / 1001, 90, 1.0, [0, 29, 59, 89]),
        (10, 20, 4.0, [0, 2, 5, 7, 10, 12, 15, 17]),
        (2, 3, 4.0, [0, 0, 1, 1, 2, 2]),
        (25, 1, 1.0, [0]),
    ],
)
def test_grid_at_a_lower_rate(rate, count, fps, expected):
    starts, times, period = frame_grid(at(rate, count), fps)
    assert starts.tolist() == expected
    torch.testing.assert_close(times, at(fps, len(expected)))
    assert period == 1 / fps or count == 1


def test_a_grid_of_damaged_timestamps_is_refused():
    times = torch.tensor([0.0, 0.04, 1e12], dtype=torch.float64)
    assert len(frame_grid(times)[0]) == 3
    with pytest.raises(MediaError, match="100000 frames at fps=1"):
        frame_grid(times, fps=1)


def test_uniform_takes_first_middle_and_last():
    assert sample_grid(at(10, 30), 0.1, 1).tolist() == [14]
    assert sample_grid(at(10, 31), 0.1, 1).tolist() == [15]
    assert sample_grid(at(10, 31), 0.1, 3).tolist() == [0, 15, 30]
    assert sample_grid(at(10, 31), 0.1, 3, "random").tolist() == [0, 15, 30]
    assert sample_grid(at(10, 2), 0.1, 4).tolist() == [0, 0, 0, 1]


def test_variable_frame_rate_is_sampled_in_time():
    times = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 2.0, 4.0], dtype=torch.float64)
    assert sample_grid(times, 0.1, 3).tolist() == [0, 6, 7]
    assert sample_grid(times, 0.1, 2, "segment").tolist() == [5, 6]  # 1.025 s and 3.075 s of 4.1 s
    assert frame_grid(times, 1.0)[0].tolist() == [0, 5, 6, 6, 7]


def test_segment_centres_are_those_of_tsn():
    """TSN: average duration 10, offsets 0, 10, 20, plus half."""
    assert sample_grid(at(25, 30), 0.04, 3, "segment").tolist() == [5, 15, 25]
    assert sample_grid(at(25, 2), 0.04, 3, "segment").tolist() == [0, 1, 1]


def test_training_draws_one_frame_from_every_segment():
    torch.manual_seed(0)
    draws = torch.stack([sample_grid(at(25, 30), 0.04, 3, "segment", training=True) for _ in range(400)])
    for segment in range(3):
        assert draws[:, segment].unique().tolist() == list(range(10 * segment, 10 * segment + 10))


def test_random_draws_cover_the_clip_in_order():
    torch.manual_seed(0)
    single = torch.cat([sample_grid(at(25, 8), 0.04, 1, "random", training=True) for _ in range(300)])
    assert single.unique().tolist() == list(range(8))
    assert single.bincount().float().std() < 10  # about uniform: 37.5 each
    many = sample_grid(at(25, 100), 0.04, 20, "random", training=True)
    assert many.tolist() == sorted(many.tolist())


def test_snippets_repeat_the_last_frame_of_a_short_clip():
    assert snippets(torch.tensor([0, 4]), 3, 10).tolist() == [0, 1, 2, 4, 5, 6]
    assert snippets(torch.tensor([0]), 4, 2).tolist() == [0, 1, 1, 1]


def test_the_frame_on_screen_is_the_last_that_began():
    moments = torch.tensor([-1.0, 0.0, 0.0999, 0.1 - 1e-9, 5.0])
    assert shown_at(moments.double(), at(10, 3)).tolist() == [0, 0, 0, 1, 2]
