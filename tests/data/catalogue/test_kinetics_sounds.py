"""Kinetics-Sounds on a miniature of the release: real entries, tiny media."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from datasets import Audio, ClassLabel, Video

from hf_bml.data import data_report, load_multimodal_dataset
from hf_bml.data.catalogue.kinetics_sounds import CLASSES, RELEASED, load


@pytest.fixture
def annotation(annotation_text):
    """The real annotation file."""
    return json.loads(annotation_text("bml_KS_train_val.json"))


@pytest.fixture
def release(annotation, tmp_path, write_media):
    """The first 60 training, 10 testing and 10 validation entries; videos in folders by class, start padded or not."""
    database = {}
    for subset, count in (("training", 60), ("testing", 10), ("validation", 10)):
        chosen = [name for name, entry in annotation["database"].items() if entry["subset"] == subset][:count]
        database.update({name: annotation["database"][name] for name in chosen})
    (tmp_path / "KS_train_val.json").write_text(json.dumps({"labels": annotation["labels"], "database": database}))
    for row, (name, entry) in enumerate(database.items()):
        video, start = name[:11], int(name[12:].split("_")[0])
        spelled = f"{video}_{start:06d}_{start + 10:06d}" if row % 2 else f"{video}_{start}"
        write_media(tmp_path / "videos" / entry["label"] / f"{spelled}.mp4")
    return tmp_path


def test_classes_and_counts_are_those_of_the_real_file(annotation, annotation_text):
    assert annotation["labels"] == CLASSES == sorted(CLASSES)
    subsets = [entry["subset"] for entry in annotation["database"].values()]
    assert {subset: subsets.count(subset) for subset in set(subsets)} == RELEASED
    for subset, name in (("training", "train"), ("testing", "test")):  # the conference code's lists are the same
        listed = {}
        for line in annotation_text(f"ks_ogm_{name}.txt").split():
            clip, _, label = line.split(",")
            listed[clip] = CLASSES[int(label)]
        entries = annotation["database"].items()
        assert listed == {clip: entry["label"] for clip, entry in entries if entry["subset"] == subset}


def test_split_of_the_papers(release, annotation):
    dataset = load_multimodal_dataset("kinetics_sounds", data_dir=str(release), video_dir="videos")
    assert dataset.num_rows == {"train": 60, "validation": 10, "test": 10}
    assert dict(dataset["train"].features) == {
        "audio": Audio(decode=False),
        "visual": Video(decode=False),
        "labels": ClassLabel(names=CLASSES),
    }
    for part in dataset.values():
        for row in part:
            assert row["audio"] == row["visual"]
            assert f"/{CLASSES[row['labels']]}/" in row["visual"]["path"]


def test_division_of_kinetics(release):
    dataset = load(test="validation", data_dir=release)
    assert dataset.num_rows == {"train": 63, "validation": 7, "test": 10}
    videos = [{row["audio"]["path"].rpartition("/")[2][:11] for row in part} for part in dataset.values()]
    assert not videos[0] & videos[1]


@pytest.fixture
def lists(annotation_text, tmp_path, write_media):
    """Every 150th row of the lists of the conference's code, and their videos."""
    rows = {}
    for name in ("train", "test"):
        rows[name] = annotation_text(f"ks_ogm_{name}.txt").splitlines()[::150]
        (tmp_path / f"my_{name}.txt").write_text("\n".join(rows[name]) + "\n")
        for row in rows[name]:
            write_media(tmp_path / "videos" / f"{row.split(',')[0]}.mp4")
    return tmp_path, rows


def test_lists_of_the_conference_code(lists):
    folder, rows = lists
    dataset = load_multimodal_dataset("kinetics_sounds", annotation="txt", data_dir=str(folder), video_dir="videos")
    assert (len(rows["train"]), len(rows["test"])) == (99, 18)
    assert dataset.num_rows == {"train": 89, "validation": 10, "test": 18}
    assert dataset["train"].features["labels"] == ClassLabel(names=CLASSES)
    expected = {row.split(",")[0]: int(row.split(",")[2]) for part in rows.values() for row in part}
    found = {Path(row["visual"]["path"]).stem: row["labels"] for part in dataset.values() for row in part}
    assert found == expected
    assert {Path(row["audio"]["path"]).stem for row in dataset["test"]} == {row.split(",")[0] for row in rows["test"]}
    videos = [{Path(row["audio"]["path"]).stem[:11] for row in part} for part in dataset.values()]
    assert not videos[0] & videos[1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("abc,10,31", r"class in \[0, 31\) in file '.*my_train\.txt', line 100, found '31'"),
        ("abc,10,bowling", "line 100, found 'bowling'"),
        ("abc,10,-1", "line 100, found '-1'"),
        ("abc,10", r"clip,seconds,class in file '.*my_train\.txt', line 100, found 'abc,10'"),
    ],
)
def test_bad_rows_of_the_lists_are_named(lists, row, message):
    folder, _ = lists
    with (folder / "my_train.txt").open("a") as file:
        file.write(row)
    with pytest.raises(ValueError, match=message):
        load(annotation="txt", data_dir=folder)


def test_missing_clips_and_other_version_are_told(release, caplog):
    with caplog.at_level(logging.WARNING):
        complete = load(data_dir=release)
    assert "the release {'training': 14799, 'testing': 2597, 'validation': 1320}" in caplog.text
    dead = [
        next(path for path in (release / "videos").rglob("*.mp4") if path.samefile(row["audio"]["path"]))
        for row in complete["train"].select([4, 7])
    ]
    for path in dead:
        path.unlink()
    dataset = load(data_dir=release)
    assert dataset.num_rows == {"train": 58, "validation": 10, "test": 10}
    assert [name[:11] for name in data_report(dataset)["train"]["missing files"]] == [path.name[:11] for path in dead]


def test_all_clips_missing(release):
    with pytest.raises(FileNotFoundError, match="Kinetics-Sounds's train clips, found none of 60"):
        load(data_dir=release, video_dir="no_such_folder")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"subset": "training", "label": "bowlin"}, "entry 'abc', found 'bowlin'. Did you mean 'bowling'"),
        ({"subset": "train", "label": "bowling"}, r"entry 'abc', found \{'subset': 'train'"),
        ({"subset": "training"}, "entry 'abc'"),
    ],
)
def test_bad_entries_are_named(tmp_path, entry, message):
    (tmp_path / "KS_train_val.json").write_text(json.dumps({"labels": CLASSES, "database": {"abc": entry}}))
    with pytest.raises(ValueError, match=message):
        load(data_dir=tmp_path)


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="found 'train'"):
        load(test="train")
    for options in ({"annotation": "csv"}, {"annotation": "txt", "test": "validation"}):
        with pytest.raises(ValueError, match=rf"out of \['json', 'txt'\].* found '{options['annotation']}' and"):
            load(**options)
    with pytest.raises(FileNotFoundError, match=r"my_train\.txt.*OGM-GE_CVPR2022"):
        load(annotation="txt", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"KS_train_val\.json.*BML_TPAMI2024"):
        load(data_dir=tmp_path)
