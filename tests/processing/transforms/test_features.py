from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, List, Value, Video, load_dataset
from datasets.table import embed_table_storage
from media_samples import needs_media_columns
from sklearn.preprocessing import StandardScaler

from hf_bml.processing import FeatureVector, MultimodalProcessor


def test_vectors_and_sequences():
    vector, array, sequence = FeatureVector()([[1, 2.5], np.array([3, 4]), [[1, 2], [3, 4], [5, 6]]])
    assert vector.tolist() == [1.0, 2.5] and array.tolist() == [3.0, 4.0]
    assert sequence.shape == (3, 2) and sequence.dtype == torch.float32


def test_the_tensor_does_not_share_the_input():
    source = np.ones(2, np.float32)
    FeatureVector()([source])[0].zero_()
    assert source.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0, float("nan")], "1 NaN or infinite of 2"),
        ([[1.0], [float("-inf")]], "NaN or infinite"),
        ([[1.0, 2.0], [3.0]], "same length"),
        (["a"], "Expected numbers"),
        ([], "non-empty"),
        (1.0, "non-empty array of shape"),
        (np.zeros((1, 2, 3, 4)), r"shape \(1, 2, 3, 4\)"),
        (np.array(["a"]), "Expected numbers"),
    ],
)
def test_invalid_features(value, message):
    with pytest.raises(ValueError, match=message):
        FeatureVector()([value])


def test_input_size():
    assert FeatureVector(input_size=2)([[[1, 2], [3, 4], [5, 6]]])[0].shape == (3, 2)
    with pytest.raises(ValueError, match=r"input_size=2.*\(3,\)"):
        FeatureVector(input_size=2)([[1, 2, 3]])


def test_frames_with_positions():
    assert FeatureVector(input_size=4)([np.zeros((2, 3, 4))])[0].shape == (2, 3, 4)


def test_step():
    steps = np.arange(13.0)[:, None]
    assert FeatureVector(step=6)([steps, steps.tolist(), steps[:6]])[1].tolist() == [[0.0], [6.0], [12.0]]
    assert FeatureVector(step=6)([steps[:6]])[0].tolist() == [[0.0]]
    assert FeatureVector(step=5)([np.zeros((12, 2, 3))])[0].shape == (3, 2, 3)
    with pytest.raises(ValueError, match=r"for step=2, found shape \(3,\)"):
        FeatureVector(step=2)([[1.0, 2.0, 3.0]])
    for step in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"step to be an integer >= 1, found {step}"):
            FeatureVector(step=step)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "<i8"])
def test_files(tmp_path, dtype):
    array = np.arange(24).reshape(6, 4).astype(dtype)
    path = tmp_path / "clip.npy"
    np.save(path, array)
    values = [str(path), path, {"bytes": None, "path": str(path)}, {"bytes": path.read_bytes(), "path": "clip.npy"}]
    for tensor in FeatureVector(input_size=4, step=2)(values):
        assert tensor.dtype == torch.float32 and tensor.tolist() == array[::2].tolist()
    FeatureVector()([path])[0].zero_()
    assert np.load(path).tolist() == array.tolist()


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "clip.npy"
    reader = FeatureVector(input_size=2)
    with pytest.raises(ValueError, match=r"clip\.npy: expected an array file, found: .*No such file"):
        reader([path])
    np.save(path, np.array([[1.0, np.inf]]))
    with pytest.raises(ValueError, match=r"clip\.npy: Expected finite features"):
        reader([path])
    np.save(path, np.array([{}]))
    for value in (path, {"bytes": path.read_bytes(), "path": "clip.npy"}):
        with pytest.raises(ValueError, match=r"clip\.npy: Expected a \.npy file of numbers, found: .*[Oo]bject"):
            reader([value])
    np.save(path, np.zeros((100, 2)))
    for value in (path.read_bytes()[:200], b"text"):
        path.write_bytes(value)
        for file in (path, {"bytes": value, "path": "clip.npy"}):
            with pytest.raises(ValueError, match=r"clip\.npy: Expected a \.npy file of numbers, found"):
                reader([file])


@pytest.mark.parametrize(
    "kind", [Value("string"), Video(decode=False), {"bytes": Value("binary"), "path": Value("string")}]
)
def test_files_are_not_copied_into_the_cache(tmp_path, kind):
    needs_media_columns()
    np.save(tmp_path / "clip.npy", np.ones((4, 2)))
    path = str(tmp_path / "clip.npy")
    values = [path if kind == Value("string") else {"bytes": None, "path": path}, None]
    rows = Dataset.from_dict({"a": values, "b": [[1.0], [2.0]]}, Features({"a": kind, "b": List(Value("float32"))}))
    configs = {"a": {"type": "features"}, "b": {"type": "features"}}
    for on_error in ("raise", "mask"):
        train = MultimodalProcessor(configs, on_error).apply(DatasetDict({"train": rows}))["train"]
        assert train.data.schema.field("a").type == rows.data.schema.field("a").type
        assert train[0]["a"].tolist() == [[1.0, 1.0]] * 4 and train[1]["a"] is None and train[0]["b"].tolist() == [1.0]


def test_files_travel_with_a_pushed_data_set(tmp_path):
    """`push_to_hub` embeds them in the way shown here."""
    np.save(tmp_path / "clip.npy", np.ones((4, 2)))
    rows = Dataset.from_dict({"a": [str(tmp_path / "clip.npy")]}).cast_column("a", Video(decode=False))
    processor = MultimodalProcessor({"a": {"type": "features", "step": 2}})
    prepared = processor.apply(DatasetDict({"train": rows}))["train"].with_format(None)
    embedded = prepared.with_format("arrow").map(embed_table_storage, batched=True).with_format(None)
    embedded.to_parquet(tmp_path / "train.parquet")
    (tmp_path / "clip.npy").unlink()
    loaded = load_dataset("parquet", data_files=str(tmp_path / "train.parquet"))
    assert processor.apply(loaded)["train"][0]["a"].tolist() == [[1.0, 1.0]] * 2


def test_standardized_by_hand():
    """Means 2 and 5 over all times; deviations 1 and 0."""
    transform = FeatureVector(input_size=2, standardize=True)
    assert not transform.is_fitted and FeatureVector().is_fitted
    state = transform.fit(transform.extract([[[1.0, 5.0], [3.0, 5.0]], [[1.0, 5.0]], [3.0, 5.0]]))
    assert {name: tensor.tolist() for name, tensor in state.items()} == {"mean": [2.0, 5.0], "std": [1.0, 0.0]}
    with pytest.raises(ValueError, match="that were fitted"):
        transform([[1.0, 5.0]])
    transform.load_state(state)
    assert transform.is_fitted and "average" in transform.zeros
    (result,) = transform([[[4.0, 9.0], [2.0, 5.0]]])
    assert result.tolist() == [[2.0, 0.0], [0.0, 0.0]] and result.dtype == torch.float32


def test_standardizing_equals_scikit_learn_on_train_alone_and_travels(tmp_path):
    generator = np.random.default_rng(0)
    columns = {
        split: generator.normal(1e4 * scale, scale, (rows, 3)).astype(np.float32)
        for split, rows, scale in (("train", 40, 1.0), ("test", 5, 3.0))
    }
    raw = DatasetDict(
        {
            split: Dataset.from_dict({"sensor": [*rows.tolist(), None]}, Features({"sensor": List(Value("float32"))}))
            for split, rows in columns.items()
        }
    )
    processor = MultimodalProcessor({"sensor": {"type": "features", "standardize": True}}, on_error="mask")
    data = processor.apply(raw)
    scaler = StandardScaler().fit(columns["train"].astype(np.float64))
    for split, rows in columns.items():
        found = torch.stack([row["sensor"] for row in data[split]])
        np.testing.assert_allclose(found, scaler.transform(rows.astype(np.float64)), atol=1e-5)
    processor.save_pretrained(tmp_path)
    loaded = MultimodalProcessor.from_pretrained(tmp_path)
    value = [1.0, 2.0, 3.0]
    assert loaded.prepare(sensor=value)["sensor"].equal(processor.prepare(sensor=value)["sensor"])
    with pytest.raises(ValueError, match=r"3 features that were standardized by, found shape \(2,\)"):
        loaded.transforms["sensor"]([[1.0, 2.0]])


def test_what_cannot_be_standardized():
    with pytest.raises(ValueError, match="true or false, found 'train'"):
        FeatureVector(standardize="train")
    transform = FeatureVector(standardize=True)
    with pytest.raises(ValueError, match="found none in the training split"):
        transform.fit([])
    with pytest.raises(ValueError, match="one size to standardize, found 2 and 3"):
        transform.fit([torch.zeros(2), torch.zeros(3)])
    with pytest.raises(ValueError, match=r"Expected a state with \{'mean': \(3,\), 'std': \(3,\)\}, found"):
        FeatureVector(input_size=3, standardize=True).load_state({"mean": torch.zeros(2), "std": torch.zeros(2)})
