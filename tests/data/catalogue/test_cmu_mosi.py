from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, List, Value
from sklearn.preprocessing import StandardScaler

from hf_bml.data import load_multimodal_dataset
from hf_bml.data.catalogue.cmu_mosi import FILE, bc_lstm_splits, load, standardized


@pytest.fixture
def frame(require_data_file):
    """The file read by pandas."""
    return pd.read_parquet(require_data_file(FILE))


def raw(values):
    return np.asarray(values[:], dtype=np.float32)


def split_of_rows(dataset, frame):
    """Split of every row of the file, matched by its three feature vectors and label, independently of the loader."""
    keys = [
        b"".join(np.asarray(row[f"{name}_feature"], np.float32).tobytes() for name in ("text", "audio", "visual"))
        for _, row in frame.iterrows()
    ]
    assert len(set(keys)) == len(keys)
    position = {key: row for row, key in enumerate(keys)}
    found = np.full(len(frame), "", dtype=object)
    for split, rows in dataset.items():
        vectors = np.concatenate([raw(rows[name]) for name in ("text", "audio", "visual")], axis=1)
        for vector, label in zip(vectors, rows["labels"][:], strict=True):
            row = position[vector.tobytes()]
            assert found[row] == "" and frame["label"].iloc[row] == label
            found[row] = split
    return found


def test_bc_lstm_split_holds_out_whole_training_videos(frame):
    found = split_of_rows(load_multimodal_dataset("cmu_mosi", standardize=False), frame)
    assert {name: int((found == name).sum()) for name in set(found)} == {"train": 1270, "validation": 177, "test": 752}
    assert frame.groupby(found)["video_id"].nunique().to_dict() == {"train": 55, "validation": 7, "test": 31}
    assert (frame.assign(found=found).groupby("video_id")["found"].nunique() == 1).all()
    assert ((found == "test") == (frame["split"] == "test")).all()
    assert 0.10 <= (found == "validation").sum() / (frame["split"] == "train").sum() <= 0.15
    assert (frame.groupby(found)["label"].nunique() == 2).all()


def test_validation_can_come_from_whole_test_videos(frame):
    found = split_of_rows(load(standardize=False, validation="test_videos"), frame)
    assert (found[frame["split"] == "train"] == "train").all()
    videos = {split: set(frame["video_id"][found == split]) for split in ("train", "validation", "test")}
    assert len(videos["train"]) == 62
    assert not videos["validation"] & videos["test"]
    assert 0.2 < (found == "validation").sum() / 752 < 0.35


def test_sdk_split_of_transcripts(frame):
    dataset = load_multimodal_dataset("cmu_mosi", split="cmu_sdk", text="transcript", modalities=["text", "audio"])
    for split, released, size in (("train", "train", 1284), ("validation", "valid", 229), ("test", "test", 686)):
        expected = frame[frame["split_cmu_sdk"] == released]
        assert len(dataset[split]) == size
        assert dataset[split]["text"][:] == expected["text"].tolist()
        assert dataset[split]["labels"][:] == expected["label"].tolist()
        assert dataset[split]["group"][:] == expected["video_id"].tolist()


def test_columns(require_data_file):
    require_data_file(FILE)
    train = load()["train"]
    assert dict(train.features) == {
        "text": List(Value("float32"), length=100),
        "audio": List(Value("float32"), length=73),
        "visual": List(Value("float32"), length=100),
        "labels": ClassLabel(names=["negative", "positive"]),
        "group": Value("string"),
    }
    chosen = load(modalities=["visual", "text"], text="transcript")["test"]
    assert chosen.column_names == ["visual", "text", "labels", "group"]
    assert chosen.features["text"] == Value("string")


@pytest.mark.parametrize("modality", ["text", "audio", "visual"])
def test_standardization_equals_scikit_learn_fitted_on_train(require_data_file, modality):
    require_data_file(FILE)
    before, after = load(standardize=False), load()
    scaler = StandardScaler().fit(raw(before["train"][modality]).astype(np.float64))
    constant = np.ptp(raw(before["train"][modality]), axis=0) == 0
    assert constant.sum() == {"text": 0, "audio": 0, "visual": 33}[modality]  # 32 in the whole file
    for split in before:
        expected = np.where(constant, 0.0, scaler.transform(raw(before[split][modality]).astype(np.float64)))
        np.testing.assert_allclose(raw(after[split][modality]), expected, rtol=1e-4, atol=1e-4)


def test_loading_twice_gives_the_same(require_data_file):
    require_data_file(FILE)
    first, second = load(), load()
    for split in first:
        assert first[split].with_format("arrow")[:].equals(second[split].with_format("arrow")[:])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "text feature and the visual feature"),
        ({"modalities": ["text", "audio"]}, "text feature"),
        ({"text": "transcript"}, "visual feature"),
        ({"modalities": ["visual"]}, "visual feature"),
    ],
)
def test_leaking_combinations_are_refused(options, named):
    with pytest.raises(ValueError, match=named) as error:
        load(split="cmu_sdk", **options)
    for part in ("leak", "text='transcript'", "modalities=['text', 'audio']", "split='bc_lstm'"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ["text", "video"]}, "'video'"),
        ({"modalities": "text"}, "found 'text'"),
        ({"modalities": []}, r"found \[\]"),
        ({"modalities": ["text", "text"]}, "every modality once"),
        ({"text": "tokens"}, r"\['feature', 'transcript'\], found 'tokens'"),
        ({"split": "random"}, r"\['bc_lstm', 'cmu_sdk'\], found 'random'"),
    ],
)
def test_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        load(**options)


def small_file(folder, audio_rows):
    videos = list("aabbccddt")
    table = pa.table(
        {
            "video_id": videos,
            "split": ["train"] * 8 + ["test"],
            "split_cmu_sdk": ["train"] * 8 + ["test"],
            "text": ["WORD"] * 9,
            "audio_feature": pa.array(audio_rows, type=pa.list_(pa.float32())),
            "label": [0, 1] * 4 + [0],
        }
    )
    (folder / "mosi").mkdir()
    pq.write_table(table, folder / FILE)


@pytest.mark.parametrize("bad", [float("nan"), float("-inf"), None])
def test_value_that_is_not_finite_names_file_column_row_and_dimension(tmp_path, bad):
    small_file(tmp_path, [[1.0, float(row)] if row != 5 else [1.0, bad] for row in range(9)])
    with pytest.raises(ValueError, match=r"mosi\.parquet.*'audio_feature', row 5, dimension 1"):
        load(modalities=["audio"], data_dir=tmp_path)


def test_bad_values_of_an_unused_modality_do_not_matter(tmp_path):
    small_file(tmp_path, [[float("nan")]] * 9)
    assert load(modalities=["text"], text="transcript", data_dir=tmp_path)["test"]["text"][:] == ["WORD"]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mosi/mosi\.parquet"):
        load(data_dir=tmp_path)


def test_bc_lstm_splits_by_hand():
    # SHA-1 order of the training videos: c, a, b. Video c alone reaches 12 % of the five training rows.
    splits = bc_lstm_splits(["train", "test", "train", "train", "train", "train"], ["a", "d", "c", "a", "b", "b"])
    assert splits.tolist() == ["train", "test", "validation", "train", "train", "train"]


def test_bad_source_of_validation():
    with pytest.raises(ValueError, match="validation must be one of"):
        load(validation="test")


def test_standardized_by_hand():
    values = np.array([[1.0, 3.0], [3.0, 3.0], [4.0, 9.0]])
    result = standardized(values, np.array([True, True, False]))
    np.testing.assert_allclose(result, [[-1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])


def feature_file(folder, changed=None, label_field="regression_labels"):
    """A pickle in the layout of MMSA: 6, 3 and 3 left-padded sequences of 5 steps."""
    generator = np.random.default_rng(0)
    content = {}
    for split, count in (("train", 6), ("valid", 3), ("test", 3)):
        fields = {"vision": (5, 4), "audio": (5, 3), "text": (5, 6)}
        arrays = {name: generator.normal(size=(count, *shape)).astype(np.float32) for name, shape in fields.items()}
        for values in arrays.values():
            values[0, :2] = 0
        scores = np.array([-2.4, 0.0, 1.6, 3.0, 0.0, -0.2])[:count]
        texts = {"raw_text": [f"{split} {row}" for row in range(count)], "id": [f"v${row}" for row in range(count)]}
        content[split] = {**arrays, **texts, label_field: scores.reshape(-1, 1, 1)}
    if changed is not None:
        changed(content)
    path = folder / "mosi.pkl"
    path.write_bytes(pickle.dumps(content))
    return path, content


@pytest.mark.parametrize(
    ("neutral", "labels"),
    [("positive", [0, 1, 1, 1, 1, 0]), ("negative", [0, 0, 1, 1, 0, 0]), ("drop", [0, 1, 1, 0])],
)
def test_feature_file_labels(tmp_path, neutral, labels):
    path, _ = feature_file(tmp_path, label_field="labels" if neutral == "drop" else "regression_labels")
    dataset = load_multimodal_dataset("cmu_mosi", features_file=str(path), neutral=neutral)
    assert dataset["train"]["labels"][:] == labels
    assert dataset["test"].num_rows == (2 if neutral == "drop" else 3)


def test_feature_file_sequences_without_padding(tmp_path):
    def with_infinity(content):
        content["train"]["audio"][1, 2, 0] = -np.inf

    path, content = feature_file(tmp_path, with_infinity)
    raw_rows = load(features_file=path, standardize=False)
    assert dict(raw_rows["train"].features)["visual"] == List(List(Value("float32"), length=4))
    assert [len(row) for row in raw_rows["train"]["visual"]] == [3, 5, 5, 5, 5, 5]
    np.testing.assert_array_equal(raw_rows["validation"][0]["visual"], content["valid"]["vision"][0, 2:])
    assert raw_rows["train"][1]["audio"][2][0] == 0.0
    rows = load(features_file=path, text="transcript", modalities=["audio", "text"])
    assert rows["train"].column_names == ["audio", "text", "labels"]
    assert rows["test"]["text"][:] == ["test 0", "test 1", "test 2"]
    scaler = StandardScaler().fit(np.concatenate([np.asarray(row) for row in raw_rows["train"]["audio"]]))
    np.testing.assert_allclose(rows["test"][0]["audio"], scaler.transform(raw_rows["test"][0]["audio"]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["valid"].pop("vision"), r"\['vision'\] in '.*mosi\.pkl', split 'valid'"),
        (lambda content: content.pop("test"), r"'vision'.*split 'test', found \[\]"),
        (
            lambda content: content["test"].update(regression_labels=[-1, 5, 0]),
            r"\[-3, 3\].*'test', found 5.0 in row 1 \(1",
        ),
        (lambda content: content["test"].update(regression_labels=[-1, 0, np.nan]), "found nan in row 2"),
        (
            lambda content: content["test"].update(audio=[[[1.0]], [[1.0], [2.0]], [[1.0]]]),
            "'test', field 'audio', found",
        ),
        (lambda content: content["train"]["vision"].fill(np.nan), "field 'vision'"),
        (lambda content: content["train"].update(audio=np.ones((6, 5, 2))), r"field 'audio'.*\(2,\), \(3,\)"),
    ],
)
def test_bad_feature_file_is_named(tmp_path, change, message):
    path, _ = feature_file(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        load(features_file=path)


def test_fields_that_are_not_used_may_have_any_shape(tmp_path):
    path, _ = feature_file(
        tmp_path, lambda content: content["test"].update(id=[["a"], ["b", "c"], []], raw_text=[["x"], []])
    )
    assert load(features_file=path).num_rows == {"train": 6, "validation": 3, "test": 3}


def test_unknown_neutral():
    with pytest.raises(ValueError, match="found 'zero'"):
        load(neutral="zero")


def test_feature_file_below_the_data_folder(tmp_path):
    feature_file(tmp_path)
    assert load(features_file="mosi.pkl", data_dir=tmp_path)["test"].num_rows == 3
    with pytest.raises(FileNotFoundError, match=r"other\.pkl"):
        load(features_file="other.pkl", data_dir=tmp_path)
