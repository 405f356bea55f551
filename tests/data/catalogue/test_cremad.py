"""CREMA-D on a miniature of the release: real rows, tiny media."""

from __future__ import annotations

import logging

import pytest
from datasets import Audio, ClassLabel, Video

from hf_bml.data import data_report, load_multimodal_dataset
from hf_bml.data.catalogue.cremad import load, official_rows

EMOTIONS = ["neutral", "happy", "sad", "fear", "disgust", "anger"]


@pytest.fixture
def rows(annotation_text):
    """Real csv rows `(clip, emotion)` of both parts."""
    return {
        part: [tuple(line.split(",")) for line in annotation_text(f"cremad_{part}.csv").split()]
        for part in ("train", "test")
    }


@pytest.fixture
def release(rows, tmp_path, write_media):
    """The first 60 and 20 rows, with their media."""
    for part, count in (("train", 60), ("test", 20)):
        (tmp_path / f"{part}.csv").write_text("".join(f"{clip},{name}\r\n" for clip, name in rows[part][:count]))
        for clip, _ in rows[part][:count]:
            write_media(tmp_path / "AudioWAV" / f"{clip}.wav")
            write_media(tmp_path / "VideoFlash" / f"{clip}.flv")
    return tmp_path


def test_whole_annotation_has_the_papers_counts(annotation_text, tmp_path, caplog):
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text(annotation_text(f"cremad_{part}.csv"))
    with caplog.at_level(logging.WARNING):
        clips, labels, splits = official_rows(tmp_path)
    assert not caplog.records
    assert len(set(clips)) == 7442
    assert {part: splits.count(part) for part in set(splits)} == {"train": 6028, "validation": 670, "test": 744}
    spelled = {"NEU": 0, "HAP": 1, "SAD": 2, "FEA": 3, "DIS": 4, "ANG": 5}
    assert labels == [spelled[clip.split("_")[2]] for clip in clips]


def test_official_split(release, rows):
    dataset = load_multimodal_dataset("cremad", data_dir=str(release))
    assert dict(dataset["train"].features) == {
        "audio": Audio(decode=False),
        "visual": Video(decode=False),
        "labels": ClassLabel(names=EMOTIONS),
    }
    assert dataset.num_rows == {"train": 54, "validation": 6, "test": 20}
    for row, (clip, _) in zip(dataset["test"], rows["test"], strict=False):
        assert row["audio"] == {"bytes": None, "path": str(release / "AudioWAV" / f"{clip}.wav")}
        assert row["visual"] == {"bytes": None, "path": str(release / "VideoFlash" / f"{clip}.flv")}
        assert EMOTIONS[row["labels"]][:2].upper() == clip.split("_")[2][:2]


def test_speakers_are_disjoint(release):
    dataset = load(split="speaker", data_dir=release)
    actors = [{row["audio"]["path"].split("/")[-1][:4] for row in part} for part in dataset.values()]
    assert sum(map(len, actors)) == len(set.union(*actors))
    assert sum(dataset.num_rows.values()) == 80


def test_extracted_frames(release, rows, write_media):
    for clip, _ in [*rows["train"][:60], *rows["test"][:20]]:
        write_media(release / "Image-01-FPS" / clip / "00002.jpg")
        write_media(release / "Image-01-FPS" / clip / "00001.jpg")
    row = load(data_dir=release, frames_dir="Image-01-FPS")["test"][0]
    assert [frame["path"].rpartition("/")[2] for frame in row["visual"]] == ["00001.jpg", "00002.jpg"]


def test_missing_clips(release, rows):
    sound, video = rows["test"][3][0], rows["test"][5][0]
    (release / "AudioWAV" / f"{sound}.wav").unlink()
    (release / "VideoFlash" / f"{video}.flv").unlink()
    dataset = load(data_dir=release)
    assert len(dataset["test"]) == 18
    assert data_report(dataset) == {"test": {"missing files": [sound, video]}}


def test_stray_files_of_sound_are_named(release):
    for name, message in (
        ("noise.wav", r"<actor>_<sentence>_<emotion>_<level>.*found '.*AudioWAV/noise\.wav'"),
        ("1001_DFA_BAD_XX.wav", r"AudioWAV/1001_DFA_BAD_XX\.wav', its name, found 'BAD'"),
    ):
        path = release / "AudioWAV" / name
        path.write_bytes(b"")
        with pytest.raises(ValueError, match=message):
            load(split="speaker", data_dir=release)
        path.unlink()
    for path in (release / "AudioWAV").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"sound files in '.*AudioWAV', found none"):
        load(split="speaker", data_dir=release)


def test_errors(release, tmp_path):
    with pytest.raises(ValueError, match="found 'random'"):
        load(split="random")
    with pytest.raises(FileNotFoundError, match="folder of 'cremad'"):
        load(data_dir=tmp_path / "absent")
    (release / "train.csv").write_text("1001_IEO_HAP_LO,HAP\n1001_IEO_HAP_MD,HAPPY\n")
    with pytest.raises(ValueError, match=r"train\.csv', line 2, found 'HAPPY'"):
        load(data_dir=release)
    (release / "train.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.csv.*OGM-GE_CVPR2022"):
        load(data_dir=release)
