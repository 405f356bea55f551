from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from datasets import Dataset, Image, List, Value
from PIL import Image as Picture

from hf_bml.processing import PROCESSORS
from hf_bml.study.column_kinds import KINDS, fitting, kind_of


def wav(seconds, rate=16000):
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(round(seconds * rate)) / 9), rate, format="wav")
    return {"bytes": file.getvalue(), "path": None}


def png(width, height, mode="RGB"):
    file = io.BytesIO()
    Picture.new(mode, (width, height)).save(file, format="png")
    return {"bytes": file.getvalue(), "path": None}


VALUES = {
    "audio": [wav(0.4), wav(0.6, 22050)],
    "image": [png(40, 20), png(40, 20)],
    "frames": [[png(12, 8, "L")] * 2, [png(12, 8, "L")] * 3],
    "text": ["see the cat", "a dog"],
    "vector": [[1.0, 2.0], [0.0, 3.0]],
    "sequence": [[[1.0, 2.0]] * 3, [[0.0, 0.0]] * 450],
}


def feature(kind):
    return Dataset.from_dict({"x": VALUES[kind]}).features["x"]


@pytest.mark.parametrize("kind", VALUES)
def test_a_kind_is_seen_and_its_processor_takes_the_values(kind):
    values = VALUES[kind]
    assert kind_of(feature(kind), values, "x") == kind
    fit = fitting(kind, values)
    options = {key: value for key, value in fit.processor.items() if key not in ("type", "standardize")}
    if kind == "text":
        options["vocabulary"] = ["a", "cat", "dog", "see", "the"]
    tensors = PROCESSORS[fit.processor["type"]](**options)(values)
    assert len(tensors) == 2
    found = {
        "audio": lambda: (tensors[0].shape, fit.encoder["in_channels"]) == ((1, 40, 36), 1),
        "image": lambda: (tensors[0].shape, fit.encoder["channels"]) == ((3, 20, 40), [16, 32, 64]),
        "frames": lambda: tensors[1].shape == (3, 1, 8, 12) and fit.encoder["in_channels"] == 1,
        "text": lambda: fit.encoder["config"]["vocab_size"] == 7 and len(tensors[0]["input_ids"]) == 3,
        "vector": lambda: fit.encoder["input_size"] == 2,
        "sequence": lambda: tensors[1].shape == (150, 2) and fit.processor["step"] == 3,
    }
    assert found[kind](), (fit, tensors)


def test_paths_tell_their_kind_and_declared_types_win(tmp_path):
    for suffix, kind in ((".wav", "audio"), (".MP4", "video"), (".jpeg", "image")):
        assert kind_of(Value("string"), [f"a{suffix}", f"b{suffix}"], "x") == kind
    assert kind_of(Value("string"), ["a.wav", "the end."], "x") == "text"
    assert kind_of(Image(decode=False), [png(4, 4)], "x") == "image"
    frames = Dataset.from_dict({"x": VALUES["frames"]}).cast_column("x", List(Image()))
    assert kind_of(frames.features["x"], frames["x"][:], "x") == "frames"  # decoded ones
    assert fitting("frames", frames["x"][:]) == fitting("frames", VALUES["frames"])
    np.save(tmp_path / "a.npy", np.zeros((5, 3)))
    assert kind_of(Value("string"), [str(tmp_path / "a.npy")], "x") == "sequence"


@pytest.mark.parametrize(
    "kind, values, message",
    [
        (Value("float64"), [0.5], "a single float64 a row"),
        (List(Value("float32")), [[1.0, 2.0], [1.0]], "found 1 to 2 numbers"),
        (Value("string"), [], "none"),
    ],
)
def test_what_no_processor_takes_is_refused(kind, values, message):
    with pytest.raises(ValueError, match=f"the column 'x', .*{message}"):
        kind_of(kind, values, "x")


def test_a_kind_that_is_given_must_be_known():
    assert set(VALUES) | {"video"} == set(KINDS)
    with pytest.raises(ValueError, match="Did you mean 'vector'"):
        fitting("vektor", [])
