"""A generated miniature of MUSIC-AVQA's annotation, with features that tell what is heard and what is seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

HEARD = ("flute", "piano", "violin")
SEEN = ("accordion", "banjo", "cello")


def entry(number: int, video: str, kind: str, template: str, fillers: list[str], answer: str) -> dict:
    return {
        "video_id": video,
        "question_id": number,
        "type": json.dumps(kind.split()),
        "question_content": template,
        "templ_values": json.dumps(fillers),
        "question_deleted": 0,
        "anser": answer,
    }


def video_entries(number: int, video: str, heard: str, seen: str) -> list[dict]:
    """Four questions about a video in which one instrument is heard and another one is seen."""
    asked_sound, asked_sight = HEARD[number // 9 % 3], SEEN[number // 27 % 3]
    return [
        entry(
            4 * number,
            video,
            "Audio Counting",
            "Is there a <Object> sound?",
            [asked_sound],
            "yes" if asked_sound == heard else "no",
        ),
        entry(
            4 * number + 1,
            video,
            "Visual Location",
            "Is there a <Object> in the entire video?",
            [asked_sight],
            "yes" if asked_sight == seen else "no",
        ),
        entry(4 * number + 2, video, "Visual Location", "What kind of musical instrument is it?", [], seen),
        entry(
            4 * number + 3,
            video,
            "Audio-Visual Counting",
            "How many instruments in the video did not sound from beginning to end?",
            [],
            "one",
        ),
    ]


def write_annotation(folder: Path, videos: int = 30, parts: tuple[str, ...] = ("train", "val", "test")) -> None:
    """Writes `json/avqa-<part>.json` with four questions about each of so many videos."""
    (folder / "json").mkdir(parents=True, exist_ok=True)
    for part in parts:
        entries = []
        for number in range(videos):
            heard, seen = HEARD[number % 3], SEEN[(number + number // 3) % 3]
            entries += video_entries(number, f"{part}{number:04d}", heard, seen)
        (folder / "json" / f"avqa-{part}.json").write_text(json.dumps(entries))


def write_features(folder: Path, parts: tuple[str, ...] = ("train", "val", "test"), seed: int = 0) -> None:
    """Writes `audio/<video>.npy` (24, 5) and `visual/<video>.npy` (24, 7) for the videos of the annotation."""
    rng = np.random.default_rng(seed)
    for modality, size in {"audio": 5, "visual": 7}.items():
        (folder / modality).mkdir(exist_ok=True)
        for part in parts:
            entries = json.loads((folder / "json" / f"avqa-{part}.json").read_text())
            for number, video in enumerate(dict.fromkeys(row["video_id"] for row in entries)):
                which = number % 3 if modality == "audio" else (number + number // 3) % 3
                array = rng.normal(size=(24, size)) * 0.3
                array[:, which] += 2
                np.save(folder / modality / f"{video}.npy", array.astype(np.float32))
