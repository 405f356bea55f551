"""AVE on miniatures of the release: real annotation rows, tiny clips, generated features in the released layout."""

from __future__ import annotations

import logging
from collections import Counter

import h5py
import numpy as np
import pytest
from datasets import ClassLabel, List
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_bml.data import data_report, load_multimodal_dataset
from hf_bml.data.catalogue.ave import BACKGROUND, CLASSES, load, read_segments

PARTS = {"train": (0, 30), "val": (30, 36), "test": (36, 44)}


@pytest.fixture
def rows(annotation_text):
    """Real rows, every 94th: all classes."""
    return annotation_text("ave_Annotations.txt").splitlines()[::94]


@pytest.fixture
def clips(rows, tmp_path, write_media):
    """The release of clips."""
    for name, (start, end) in PARTS.items():
        (tmp_path / f"{name}Set.txt").write_text("\n".join(rows[start:end]) + "\n")
    for row in rows:
        write_media(tmp_path / "AVE" / f"{row.split('&')[1]}.mp4")
    return tmp_path


@pytest.fixture
def features(rows, tmp_path):
    """The release of features: row r of the audio is r + segment / 10, position p of the visual features r + p."""
    (tmp_path / "Annotations.txt").write_text("\n".join(rows))
    labels = np.zeros((len(rows), 10, 29))
    for row, text in enumerate(rows):
        name, _, _, start, end = text.split("&")
        labels[row, :, 28] = 1
        labels[row, int(start) : int(end), 28] = 0
        labels[row, int(start) : int(end), CLASSES.index(name)] = 1
    number = np.arange(len(rows), dtype=np.float32)
    audio = number[:, None, None] + np.arange(10)[:, None] / 10 + np.zeros(128)
    visual = number[:, None, None, None] + np.arange(49).reshape(7, 7, 1) + np.zeros(512)
    visual = np.repeat(visual[:, None], 10, axis=1)
    arrays = {"labels": labels, "audio_feature": audio, "visual_feature": visual}
    for name, array in arrays.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["avadataset"] = array
    for name, (start, end) in PARTS.items():
        with h5py.File(tmp_path / f"{name}_order.h5", "w") as file:
            file["order"] = np.arange(start, end)[::-1]
    return tmp_path


def test_classes_are_in_the_order_of_the_real_file(annotation_text):
    names = [line.split("&")[0] for line in annotation_text("ave_Annotations.txt").splitlines()]
    assert list(dict.fromkeys(names)) == CLASSES and len(names) == 4143
    videos = Counter(line.split("&")[1] for line in annotation_text("ave_Annotations.txt").splitlines())
    assert Counter(videos.values()) == {1: 4052, 2: 44, 3: 1}


def test_clips(clips, rows):
    dataset = load_multimodal_dataset("ave", inputs="clips", data_dir=str(clips))
    assert dataset.num_rows == {"train": 30, "validation": 6, "test": 8}
    assert dataset["train"].features["labels"] == List(ClassLabel(names=[*CLASSES, "Background"]), length=10)
    for row, text in zip(dataset["test"], rows[36:], strict=False):
        name, video, _, start, end = text.split("&")
        expected = [CLASSES.index(name) if int(start) <= second < int(end) else 28 for second in range(10)]
        assert row["labels"] == expected
        assert row["audio"] == row["visual"] == {"bytes": None, "path": str(clips / "AVE" / f"{video}.mp4")}


def test_events_and_missing_clips(clips, rows):
    video = rows[31].split("&")[1]
    (clips / "AVE" / f"{video}.mp4").unlink()
    dataset = load(inputs="clips", labels="event", data_dir=clips)
    names = [CLASSES[label] for label in dataset["validation"]["labels"]]
    assert names == [row.split("&")[0] for row in rows[30:36] if row != rows[31]]
    assert data_report(dataset) == {"validation": {"missing files": [video]}}


def test_features(features, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = load_multimodal_dataset("ave", data_dir=str(features))
    assert "differ" not in caplog.text
    assert dataset.num_rows == {"train": 30, "validation": 6, "test": 8}
    expected = [seconds for _, seconds in read_segments(features / "Annotations.txt")]
    row = dataset["validation"].with_format("numpy")[1]  # row 34 of the file
    np.testing.assert_allclose(row["audio"], 34 + np.arange(10)[:, None] / 10 + np.zeros(128), rtol=1e-6)
    np.testing.assert_allclose(row["visual"], np.full((10, 512), 34 + 24))
    assert row["labels"].tolist() == expected[34]
    dataset = load(labels="event", regions=True, data_dir=features)
    row = dataset["test"].with_format("numpy")[0]
    np.testing.assert_allclose(row["visual"][3, :, :, 7], 43 + np.arange(49).reshape(7, 7))
    assert row["labels"] == min(expected[43])


def test_another_order_of_classes_is_told(features, caplog):
    with h5py.File(features / "labels.h5", "r+") as file:
        file["avadataset"][...] = np.roll(file["avadataset"][...], 1, axis=-1)
    with caplog.at_level(logging.WARNING):
        load(data_dir=features)
    assert "labels.h5 and Annotations.txt differ" in caplog.text


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(0, 9), st.integers(1, 10)), min_size=1, max_size=5),
    header=st.booleans(),
    bom=st.booleans(),
)
def test_rows_of_any_content(tmp_path_factory, rows, header, bom):
    path = tmp_path_factory.getbasetemp() / "ave_rows.txt"
    rows = [(name, start, max(end, start + 1)) for name, start, end in rows]
    text = "".join(f"{name}&id&good&{start}&{end}\n" for name, start, end in rows)
    path.write_text(
        "Category&VideoID&Quality&StartTime&EndTime\n" * header + text, encoding="utf-8-sig" if bom else "utf-8"
    )
    for (_, seconds), (name, start, end) in zip(read_segments(path), rows, strict=True):
        assert [second for second in range(10) if seconds[second] != BACKGROUND] == list(range(start, end))
        assert min(seconds) == CLASSES.index(name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Baby cry, infant cry&id&good&0", r"line 31, found"),
        (
            "Baby cry infant cry&id&good&0&10",
            "line 31, found 'Baby cry infant cry'. Did you mean 'Baby cry, infant cry'",
        ),
        ("Bark&id&good&4&11", "start < end <= 10.*line 31, found 4 and 11"),
        ("Bark&id&good&4&4", "line 31, found 4 and 4"),
    ],
)
def test_bad_rows_are_named(clips, line, message):
    with (clips / "trainSet.txt").open("a") as file:
        file.write(line)
    with pytest.raises(ValueError, match=message):
        load(inputs="clips", data_dir=clips)


def test_bad_features_are_named(features):
    with h5py.File(features / "val_order.h5", "w") as file:
        file["order"] = [3, 45]
    with pytest.raises(ValueError, match=r"\[0, 45\) in '.*val_order\.h5', found 3 to 45"):
        load(data_dir=features)
    with h5py.File(features / "labels.h5", "r+") as file:
        file["avadataset"][2, 3, :] = 0
    with pytest.raises(ValueError, match=r"one-hot rows .*labels\.h5"):
        load(data_dir=features)
    (features / "labels.h5").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"HDF5 file with the array 'avadataset' in '.*labels\.h5'"):
        load(data_dir=features)
    (features / "labels.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels\.h5.*AVE-ECCV18"):
        load(data_dir=features)


def write_array(path, array, key="avadataset"):
    with h5py.File(path, "w") as file:
        file[key] = array


def test_features_are_read_again_when_any_file_is_another_one(features):
    before = load(data_dir=features)
    assert load(data_dir=features)["test"]._fingerprint == before["test"]._fingerprint
    with h5py.File(features / "audio_feature.h5") as file:
        audio = file["avadataset"][:]
    write_array(features / "audio_feature.h5", audio + 1)
    after = load(data_dir=features)
    np.testing.assert_allclose(after["test"]["audio"], np.asarray(before["test"]["audio"]) + 1)
    np.testing.assert_allclose(after["test"]["visual"], before["test"]["visual"])
    with h5py.File(features / "visual_feature.h5", "r+") as file:
        file["avadataset"][...] += 1
    np.testing.assert_allclose(load(data_dir=features)["test"]["visual"], np.asarray(before["test"]["visual"]) + 1)
    write_array(features / "test_order.h5", np.arange(36, 44), "order")
    assert load(data_dir=features)["test"]["labels"][:] == before["test"]["labels"][::-1]
    with h5py.File(features / "labels.h5", "r+") as file:
        file["avadataset"][...] = np.roll(file["avadataset"][...], 1, axis=-1)
    rolled = [[(label + 1) % 29 for label in row] for row in before["train"]["labels"]]
    assert load(data_dir=features)["train"]["labels"][:] == rolled


def test_features_are_opened_once_a_split(features, monkeypatch):
    opened, opener = [], h5py.File

    def file(path, *args):
        opened.append(str(path))
        return opener(path, *args)

    monkeypatch.setattr(h5py, "File", file)
    load(data_dir=features)
    assert opened.count(str(features / "visual_feature.h5")) == 4  # once more to look at its shape


@pytest.mark.parametrize("name", ["audio_feature.h5", "visual_feature.h5"])
def test_bad_feature_files_are_named_before_rows_are_read(features, name):
    with h5py.File(features / name) as file:
        array = file["avadataset"][:]
    for other in (array[:-1], array[:, :9], array[..., :-1], array[..., 0]):
        write_array(features / name, other)
        with pytest.raises(
            ValueError, match=rf"\(45, 10, .*in '.*{name}', one row .* found \({len(other)}, .*Take all"
        ):
            load(data_dir=features)
    write_array(features / name, array, "dataset")
    with pytest.raises(ValueError, match=rf"array 'avadataset' in '.*{name}', found \['dataset'\]"):
        load(data_dir=features)
    (features / name).write_bytes(b"no")
    with pytest.raises(ValueError, match=rf"Expected an HDF5 file .*{name}"):
        load(data_dir=features)
    (features / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}', found no such file.*AVE-ECCV18"):
        load(data_dir=features)


def test_bad_options():
    with pytest.raises(ValueError, match=r"inputs must be one of \['features', 'clips'\], found 'video'"):
        load(inputs="video")
    with pytest.raises(ValueError, match=r"labels must be one of .* Did you mean 'segments'"):
        load(labels="segment")
    with pytest.raises(ValueError, match="labels='event' for hub_id"):
        load(hub_id="mteb/AVE-Dataset")
