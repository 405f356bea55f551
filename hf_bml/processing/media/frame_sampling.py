"""Which frames of a clip are used: times are chosen first, then the frames shown at those times.

Working in time makes clips of constant and of variable frame rate alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .file import MediaError

SAMPLINGS = ("uniform", "random", "segment")
MAX_GRID = 100_000


def frame_grid(timestamps: Tensor, fps: float | None = None, length: int = 1) -> tuple[Tensor, Tensor, float]:
    """Frames that sampling may choose from.

    Args:
        timestamps: of all frames, strictly increasing, float64 (frames,), seconds.
        fps: keep the frames shown at `k / fps` seconds, k = 0, 1, ...; `None` keeps all.
        length: leave room for that many consecutive frames where the clip is long enough.

    Returns:
        indices of the frames, int64 (grid,); their times since the first frame, float64 (grid,); the time from one
        to the next in seconds (the median, where it varies).

    Raises:
        MediaError: the grid would have more than MAX_GRID frames.

    Example:
        >>> frame_grid(torch.arange(75, dtype=torch.float64) / 25, fps=1.0)
        (tensor([ 0, 25, 50]), tensor([0., 1., 2.], dtype=torch.float64), 1.0)
    """
    times = timestamps - timestamps[0]
    period = float(times.diff().median()) if len(times) > 1 else 1.0
    last_start = max(len(times) - length, 0)
    if fps is None:
        return torch.arange(last_start + 1), times[: last_start + 1], period
    duration = float(times[-1]) + period
    if duration * fps > MAX_GRID:
        raise MediaError(
            f"Expected at most {MAX_GRID} frames at fps={fps}, found a duration of {duration:.0f} s. "
            "Cut the video, lower fps, or set a clip with damaged timestamps to None."
        )
    grid = torch.arange(max(1, int(duration * fps + 1 - 1e-6)), dtype=torch.float64) / fps
    return shown_at(grid, times).clamp(max=last_start), grid, 1 / fps


def sample_grid(
    times: Tensor, period: float, num_frames: int, sampling: str = "uniform", training: bool = False
) -> Tensor:
    """Choose from a grid.

    | sampling | training | evaluation |
    |---|---|---|
    | uniform | evenly spread from the first to the last; one frame: the middle | the same |
    | random | each at a random time of the clip, in order | as uniform |
    | segment | one at a random time of each of `num_frames` equal segments | the centre of each segment |

    "segment" is that of temporal segment networks (TSN). Random draws come from the global torch RNG. A short clip
    yields frames repeatedly.

    Args:
        times: times of the grid, increasing from 0, float64 (grid,), seconds.
        period: how long the last frame of the grid lasts, in seconds.
        num_frames: how many to choose.
        sampling: "uniform", "random" or "segment".
        training: see the table.

    Returns:
        indices into the grid, ascending, int64 (num_frames,).

    Example:
        >>> sample_grid(torch.arange(30) / 10.0, 0.1, 3, "segment"), sample_grid(torch.arange(30) / 10.0, 0.1, 3)
        (tensor([ 5, 15, 25]), tensor([ 0, 14, 29]))
    """
    end = float(times[-1]) + period
    if sampling == "segment":
        offsets = torch.rand(num_frames, dtype=torch.float64) if training else torch.full((num_frames,), 0.5)
        return shown_at((torch.arange(num_frames) + offsets) * end / num_frames, times)
    if sampling == "random" and training:
        return shown_at(torch.rand(num_frames, dtype=torch.float64).sort().values * end, times)
    last = float(times[-1])
    if num_frames == 1:
        return shown_at(torch.tensor([last / 2], dtype=torch.float64), times)
    return shown_at(torch.linspace(0, last, num_frames, dtype=torch.float64), times)


def snippets(starts: Tensor, length: int, num_frames: int) -> Tensor:
    """Indices of `length` consecutive frames from each start: int64 (starts * length,), the last frame repeated."""
    return (starts[:, None] + torch.arange(length)).flatten().clamp(max=num_frames - 1)


def shown_at(moments: Tensor, times: Tensor) -> Tensor:
    """Index of the frame on the screen at each moment: the last that has begun, with a microsecond of tolerance."""
    return (torch.searchsorted(times.contiguous(), moments.to(times) + 1e-6, right=True) - 1).clamp(min=0)
