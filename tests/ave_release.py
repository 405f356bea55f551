"""A generated miniature of AVE's released features, in their layout: what is heard and seen tells the label."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from hf_bml.data.catalogue.ave import BACKGROUND, CLASSES, SEGMENTS

EVENTS = ("Bark", "Flute", "Truck", "Violin, fiddle")


def write_features(
    folder: Path, clips: int = 48, seed: int = 0, audio: float = 1.0, visual: float = 1.0
) -> np.ndarray:
    """Writes Annotations.txt, the three arrays and the order of the splits (2/3, 1/6, 1/6).

    Args:
        folder: exists.
        clips: rows.
        seed: of everything drawn.
        audio: how far a class moves the sound, in standard deviations of its noise.
        visual: the same for the picture, in three of its 49 positions.

    Returns:
        labels (clips, 10).
    """
    rng = np.random.default_rng(seed)
    labels = np.full((clips, SEGMENTS), BACKGROUND)
    rows = []
    for clip in range(clips):
        name = EVENTS[clip % len(EVENTS)]
        start = int(rng.integers(0, 5))
        end = start + int(rng.integers(3, SEGMENTS - start + 1))
        labels[clip, start:end] = CLASSES.index(name)
        rows.append(f"{name}&clip{clip:07d}&good&{start}&{end}")
    (folder / "Annotations.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + "\n".join(rows) + "\n")
    heard = rng.normal(size=(BACKGROUND + 1, 128))[labels]
    seen = rng.normal(size=(BACKGROUND + 1, 512))[labels]
    pictures = rng.normal(size=(clips, SEGMENTS, 7, 7, 512)).astype(np.float32)
    for row, column in rng.integers(0, 7, size=(3, 2)):
        pictures[:, :, row, column] += visual * seen
    arrays = {
        "audio_feature": (audio * heard + rng.normal(size=heard.shape)).astype(np.float32),
        "visual_feature": pictures,
        "labels": np.eye(BACKGROUND + 1, dtype=np.int64)[labels],
    }
    for name, array in arrays.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["avadataset"] = array
    order = rng.permutation(clips)
    ends = {"train": clips * 2 // 3, "val": clips * 5 // 6, "test": clips}
    start = 0
    for name, end in ends.items():
        with h5py.File(folder / f"{name}_order.h5", "w") as file:
            file["order"] = order[start:end]
        start = end
    return labels
