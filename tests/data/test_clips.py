from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from datasets import Audio, ClassLabel, Features, Image, List, Value, Video

from hf_bml.data import data_report
from hf_bml.data.clips import (
    AUDIO,
    FRAMES,
    VIDEO,
    audio_visual_files,
    clip_dataset,
    index_files,
    index_frames,
    youtube_key,
)

LABELS = {"labels": ClassLabel(names=["no", "yes"])}
FLOW = {"u": Value("string"), "v": Value("string")}


def test_nested_files_are_stored_as_paths():
    files = {
        "audio": ["a.wav", "b.wav", "c.wav"],
        "visual": [["a/1.jpg", "a/2.jpg"], ["b/1.jpg"], ["c/1.jpg"]],
        "flow": [{"u": "u/a", "v": "v/a"}, {"u": "u/b", "v": "v/b"}, {"u": "u/c", "v": "v/c"}],
    }
    features = Features({"audio": AUDIO, "visual": FRAMES, "flow": FLOW, **LABELS})
    dataset = clip_dataset("Pets", "abc", ["train", "validation", "test"], files, {"labels": [0, 1, 1]}, features)
    assert dataset["train"][0] == {
        "audio": {"bytes": None, "path": "a.wav"},
        "visual": [{"bytes": None, "path": "a/1.jpg"}, {"bytes": None, "path": "a/2.jpg"}],
        "flow": {"u": "u/a", "v": "v/a"},
        "labels": 0,
    }
    assert dataset["test"][0]["visual"] == [{"bytes": None, "path": "c/1.jpg"}]


def test_missing_clips_are_logged_and_reported(caplog):
    clips = [f"c{row}" for row in range(10)] + ["c0"]
    row_splits = ["train"] * 7 + ["validation", "test", None, "train"]
    files = {
        "audio": [None, "x", "x", None, "x", "x", "x", "x", "x", None, None],
        "visual": ["y"] * 5 + [None, *"yyyyy"],
    }
    features = Features({"audio": AUDIO, "visual": VIDEO, **LABELS})
    with caplog.at_level(logging.WARNING):
        dataset = clip_dataset("Pets", clips, row_splits, files, {"labels": list(range(11))}, features)
    assert data_report(dataset) == {"train": {"missing files": ["c0", "c3", "c5"]}}
    assert "Pets, train: 3 missing files left out: c0, c3, c5" in caplog.text
    assert dataset["train"]["labels"][:] == [1, 2, 4, 6]
    assert data_report(dataset.map(lambda row: {"more": 1})) == data_report(dataset)


def test_nothing_left_of_a_split():
    features = Features({"audio": AUDIO, **LABELS})
    with pytest.raises(FileNotFoundError, match="Pets's test clips, found none of 1: c2"):
        clip_dataset(
            "Pets",
            ["c0", "c1", "c2"],
            ["train", "validation", "test"],
            {"audio": ["x", "x", None]},
            {"labels": [0] * 3},
            features,
        )


def test_sound_of_its_own_or_of_the_video(tmp_path, write_media):
    for name in ("v/a.mp4", "v/sub/b.MP4", "s/a.wav", "f/a/02.jpg", "f/a/01.jpg", "f/b/1.png", "v/a.txt"):
        write_media(tmp_path / name)
    files, features = audio_visual_files(["a", "b", "c"], tmp_path / "v")
    expected = [str(tmp_path / "v/a.mp4"), str(tmp_path / "v/sub/b.MP4"), None]
    assert files == {"audio": expected, "visual": expected}
    assert features == {"audio": Audio(decode=False), "visual": Video(decode=False)}
    files, features = audio_visual_files(["a", "b"], tmp_path, "v", tmp_path / "s", "f")
    assert files["audio"] == [str(tmp_path / "s/a.wav"), None]
    assert files["visual"][0] == [str(tmp_path / "f/a/01.jpg"), str(tmp_path / "f/a/02.jpg")]
    assert features["visual"] == List(Image(decode=False))


def test_first_of_two_files_with_one_key(tmp_path, write_media):
    write_media(tmp_path / "b" / "abcdefghijk_000007_000017.mp4")
    write_media(tmp_path / "a" / "abcdefghijk_7.mp4")
    files = index_files(tmp_path, frozenset({".mp4"}), youtube_key)
    assert files == {"abcdefghijk_7": str(tmp_path / "a" / "abcdefghijk_7.mp4")}


def test_frames_are_in_the_order_of_their_numbers(tmp_path, write_media):
    for number in (11, 10, 2, 1, 9):
        write_media(tmp_path / "plain" / f"frame_{number}.jpg")
        write_media(tmp_path / "padded" / f"c1_{number:03d}.JPG")
        write_media(tmp_path / "bare" / f"{number}.png")
    for name in ("t2_f9.jpg", "t10_f1.jpg", "t2_f10.jpg", "cover.jpg"):
        write_media(tmp_path / "mixed" / name)
    frames = {name: [Path(path).name for path in paths] for name, paths in index_frames(tmp_path).items()}
    assert frames == {
        "plain": [f"frame_{number}.jpg" for number in (1, 2, 9, 10, 11)],
        "padded": [f"c1_{number:03d}.JPG" for number in (1, 2, 9, 10, 11)],
        "bare": [f"{number}.png" for number in (1, 2, 9, 10, 11)],
        "mixed": ["cover.jpg", "t2_f9.jpg", "t2_f10.jpg", "t10_f1.jpg"],
    }


def test_first_of_two_folders_of_frames_with_one_key(tmp_path, write_media, monkeypatch):
    for folder in ("b/clip", "a/clip", "c/clip"):
        write_media(tmp_path / folder / "1.jpg")
    walk = os.walk
    for order in (iter, reversed):  # file systems list folders in any order
        monkeypatch.setattr(os, "walk", lambda top, order=order: order(list(walk(top))))
        assert index_frames(tmp_path) == {"clip": [str(tmp_path / "a/clip/1.jpg")]}


def test_undecoded_video_needs_no_decoder(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchcodec", None)
    features = Features({"visual": VIDEO, "text": Value("string")})
    dataset = clip_dataset(
        "Pets", "abc", ["train", "validation", "test"], {"visual": ["no.mp4"] * 3}, {"text": ["t"] * 3}, features
    )
    assert dataset["train"][0]["visual"] == {"bytes": None, "path": "no.mp4"}
