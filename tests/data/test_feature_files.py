"""Feature files: pickles of arrays and nothing else, npz, parquet."""

from __future__ import annotations

import io
import os
import pickle
from datetime import date
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hf_bml.data.feature_files import read_arrays, read_feature_file


class Harmful:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


PLAIN = st.recursive(
    st.one_of(
        st.text(),
        st.integers(),
        st.booleans(),
        st.none(),
        arrays(st.sampled_from([np.float32, np.float64, np.int64, "<U5"]), array_shapes(max_dims=3)),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def equal(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=80, deadline=None)
@given(content=PLAIN, protocol=st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_arrays_and_containers_are_read(content, protocol):
    assert equal(read_arrays(io.BytesIO(pickle.dumps(content, protocol))), content)


def test_scalars_and_object_arrays_are_read():
    content = [np.float32(1.5), np.array(["a", [1]], dtype=object)]
    read = read_arrays(io.BytesIO(pickle.dumps(content)))
    assert read[0] == 1.5 and read[1].tolist() == ["a", [1]]


def test_names_of_older_numpy_are_read():
    data = pickle.dumps({"x": np.arange(3.0)}, 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(read_arrays(io.BytesIO(data))["x"], [0.0, 1.0, 2.0])


@pytest.mark.parametrize("content", [date(2020, 1, 1), {"x": [partial(int)]}, pd.DataFrame({"a": [1]}), eval])
def test_other_objects_are_refused(tmp_path, content):
    (tmp_path / "mosi.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"mosi\.pkl', found that it refers to .*convert it to \.npz"):
        read_feature_file(tmp_path / "mosi.pkl")


def test_code_does_not_run(tmp_path):
    (tmp_path / "mosi.pkl").write_bytes(pickle.dumps({"train": Harmful(tmp_path / "made")}))
    with pytest.raises(ValueError, match=r"posix\.mkdir|nt\.mkdir"):
        read_feature_file(tmp_path / "mosi.pkl")
    assert not (tmp_path / "made").exists()


def test_kinds_of_files_agree(tmp_path):
    content = {
        split: {
            "audio": np.arange(count * 6.0).reshape(count, 3, 2),
            "labels": np.arange(count),
            "id": list("abc")[:count],
        }
        for split, count in (("train", 3), ("test", 2))
    }
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(content))
    flat = {f"{split}/{field}": np.asarray(values) for split in content for field, values in content[split].items()}
    np.savez(tmp_path / "f.npz", **flat)
    frames = []
    for split, fields in content.items():
        rows = {field: [np.asarray(value).tolist() for value in values] for field, values in fields.items()}
        frames.append(pd.DataFrame({**rows, "split": split}))
    pd.concat(frames).to_parquet(tmp_path / "f.parquet", index=False)
    for kind in ("pkl", "npz", "parquet"):
        read = read_feature_file(tmp_path / f"f.{kind}")
        assert {split: set(fields) for split, fields in read.items()} == {s: set(f) for s, f in content.items()}
        for split, fields in content.items():
            for field, values in fields.items():
                np.testing.assert_array_equal(read[split][field], np.asarray(values))


def test_errors(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a file \.pkl"):
        read_feature_file(tmp_path / "f.csd")
    with pytest.raises(FileNotFoundError, match=r"f\.npz"):
        read_feature_file(tmp_path / "f.npz")
    (tmp_path / "f.pkl").write_bytes(b"\x80\x04\x95nonsense")
    with pytest.raises(ValueError, match=r"f\.pkl"):
        read_feature_file(tmp_path / "f.pkl")
    (tmp_path / "f.pkl").write_bytes(pickle.dumps({"train": [1, 2]}))
    with pytest.raises(ValueError, match=r"\{split: \{field: array\}\}"):
        read_feature_file(tmp_path / "f.pkl")
    (tmp_path / "f.pkl").write_bytes(pickle.dumps({"train": {"a": [1, 2], "b": [1]}}))
    with pytest.raises(ValueError, match=r"one length.*'train', found \{'a': 2, 'b': 1\}"):
        read_feature_file(tmp_path / "f.pkl")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "f.parquet")
    with pytest.raises(ValueError, match=r"column 'split'.*found \['a'\]"):
        read_feature_file(tmp_path / "f.parquet")


@pytest.mark.parametrize("extension", ["npz", "parquet", "pkl"])
def test_damaged_files_are_named(tmp_path, extension):
    path = tmp_path / f"f.{extension}"
    if extension == "npz":
        np.savez(path, **{"train/a": np.ones(1000)})
    elif extension == "parquet":
        pd.DataFrame({"split": ["train"], "a": [1]}).to_parquet(path)
    else:
        path.write_bytes(pickle.dumps({"train": {"a": np.ones(1000)}}))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"version https://git-lfs.github.com/spec/v1", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"Expected .*f\.{extension}', found"):
            read_feature_file(path)
