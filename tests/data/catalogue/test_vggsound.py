"""VGGSound on a miniature of the release: real rows, tiny media."""

from __future__ import annotations

import csv
import io

import pytest
from datasets import ClassLabel

from hf_bml.data import data_report, load_multimodal_dataset
from hf_bml.data.catalogue.vggsound import RELEASED, load


@pytest.fixture
def rows(annotation_text):
    """Real rows `(id, start, label)`; the file has clip names and labels."""
    found = csv.reader(io.StringIO(annotation_text("vggsound_test.csv")))
    return [(clip[:11], int(clip[12:18]), label) for clip, label in found]


@pytest.fixture
def release(rows, tmp_path, write_media):
    """70 rows as `vggsound.csv` writes them, every second start padded in the file's name; every fifth row is test."""
    text = io.StringIO()
    for row, (video, start, label) in enumerate(rows[:70]):
        csv.writer(text).writerow([video, start, label, "train" if row % 5 else "test"])
        write_media(tmp_path / "video" / (f"{video}_{start:06d}.mp4" if row % 2 else f"{video}_{start}.mp4"))
    (tmp_path / "vggsound.csv").write_text(text.getvalue())
    return tmp_path


def test_real_rows_have_the_released_counts(rows, annotation_text):
    classes = {row[0] for row in csv.reader(io.StringIO(annotation_text("vggsound_stat.csv")))}
    assert {"classes": len(classes), "test": len(rows)} == RELEASED
    assert {label for _, _, label in rows} == classes and sum("," in label for label in classes) > 20


def test_columns_splits_and_labels_with_commas(release, rows):
    dataset = load_multimodal_dataset("vggsound", data_dir=str(release))
    assert dataset.num_rows == {"train": 50, "validation": 6, "test": 14}
    names = sorted({label for _, _, label in rows[:70]})
    assert any("," in name for name in names)
    assert dataset["train"].features["labels"] == ClassLabel(names=names)
    labels = {video: label for video, _, label in rows}
    for part in dataset.values():
        for row in part:
            assert row["audio"] == row["visual"]
            assert names[row["labels"]] == labels[row["audio"]["path"].rpartition("/")[2][:11]]
    assert [row["audio"]["path"].rpartition("/")[2][:11] for row in dataset["test"]] == [row[0] for row in rows[:70:5]]


def test_missing_clips_and_own_sound_files(release, rows, write_media):
    for video, start, _ in rows[1:70]:
        write_media(release / "sound" / f"{video}_{start:06d}.wav")
    dataset = load(data_dir=release, audio_dir="sound")
    assert data_report(dataset) == {"test": {"missing files": [f"{rows[0][0]}_{rows[0][1]:06d}"]}}
    assert dataset["train"][0]["audio"]["path"].endswith(".wav")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("abcdefghijk,30,bird chirping, tweeting,test", r"line 71, found.*needs quotes"),
        ("abcdefghijk,30,rapping,tset", "line 71, found 'tset'. Did you mean 'test'"),
        ("abcdefghijk,x,rapping,test", "line 71, found 'x'"),
    ],
)
def test_bad_rows_are_named(release, line, message):
    with (release / "vggsound.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        load(data_dir=release)
