"""Transforms that learn from the training split, through `MultimodalProcessor`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset, DatasetDict, Features, IterableDatasetDict, Value, load_from_disk

from hf_bml.processing import MultimodalProcessor
from hf_bml.processing.transforms.ivector import IVector

IVECTOR = {
    "type": "ivector",
    "num_components": 2,
    "size": 2,
    "iterations": 2,
    "sampling_rate": 8000,
    "num_coefficients": 4,
    "num_mel_bins": 8,
}
ROWS = 12


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No state of another test is found."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def wav(seed):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(seed).uniform(-1, 1, 1200), 8000, format="WAV")
    return {"bytes": buffer.getvalue(), "path": f"{seed}.wav"}


def split(seeds):
    raw = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"audio": raw, "labels": Value("int64")})
    values = [wav(seed) if isinstance(seed, int) else seed for seed in seeds]
    return Dataset.from_dict({"audio": values, "labels": range(len(values))}, features=features)


def data(train=range(ROWS), test=(100, 101)):
    return DatasetDict({"train": split(train), "test": split(test)})


def name_of(processor):
    return processor.modalities["audio"]["fitted"]


def applied(dataset, options=None, on_error="raise", **keywords):
    processor = MultimodalProcessor({"audio": {**IVECTOR, **(options or {})}}, on_error)
    return processor, processor.apply(dataset, **keywords)


def test_apply_fits_on_the_training_split_alone():
    processor, rows = applied(data())
    by_hand = IVector(**{key: value for key, value in IVECTOR.items() if key != "type"})
    by_hand.load_state(by_hand.fit(by_hand.extract([wav(seed) for seed in range(ROWS)])))
    torch.testing.assert_close(rows["train"][3]["audio"], by_hand([wav(3)])[0])
    torch.testing.assert_close(rows["test"][1]["audio"], by_hand([wav(101)])[0])
    other_test, _ = applied(data(test=(200, 201, 202)))
    assert name_of(other_test) == name_of(processor)
    other_train, _ = applied(data(train=range(1, ROWS + 1)))
    other_options, _ = applied(data(), {"seed": 1})
    assert len({name_of(processor), name_of(other_train), name_of(other_options)}) == 3
    renamed = DatasetDict({"fit": split(range(ROWS)), "train": split(range(50, 70))})
    assert name_of(applied(renamed, training_split="fit")[0]) == name_of(processor)


def test_whatever_fitting_raises_follows_on_error(monkeypatch):
    extract = IVector.extract

    def fail_on_the_second(transform, values):
        if values[0]["path"] == "1.wav":
            raise MemoryError
        return extract(transform, values)

    monkeypatch.setattr(IVector, "extract", fail_on_the_second)
    with pytest.raises(ValueError, match=r"split 'train', modality 'audio': 1\.wav: .* found MemoryError.*\(row 1\)"):
        applied(data())
    masked, _ = applied(data(), on_error="mask")
    without, _ = applied(data(train=[0, *range(2, ROWS)]))
    assert name_of(masked) == name_of(without)

    def fail(transform, clips):
        raise RuntimeError("Matrix is not positive definite")

    monkeypatch.setattr(IVector, "fit", fail)
    with pytest.raises(
        ValueError, match=r"split 'train', modality 'audio': .* RuntimeError: Matrix is not positive"
    ) as error:
        applied(data(train=range(20, 40)))
    assert isinstance(error.value.__cause__, RuntimeError)


def test_words_are_counted_where_a_value_is_no_text():
    rows = DatasetDict({"train": Dataset.from_dict({"text": [1, 2], "labels": [0, 1]})})
    with pytest.raises(ValueError, match=r"modality 'text': Expected a string, found int: 1\..*\(row 0\)"):
        MultimodalProcessor({"text": {"type": "words"}}).apply(rows)


def test_a_fitted_processor_stays_as_it_is():
    processor, _ = applied(data())
    name = name_of(processor)
    again = processor.apply(data(train=range(50, 50 + ROWS)))
    assert name_of(processor) == name
    torch.testing.assert_close(again["train"][0]["audio"], processor({"audio": [wav(50)]})["audio"][0])


def test_save_and_load_without_the_cache(tmp_path, monkeypatch):
    processor, rows = applied(data())
    paths = processor.save_pretrained(tmp_path / "model")
    assert [path.rsplit("/")[-1] for path in paths] == ["processor_config.json", "processor_state.safetensors"]
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"modality 'audio': expected the fitted state .* from_pretrained"):
        MultimodalProcessor(processor.modalities)
    loaded = MultimodalProcessor.from_pretrained(tmp_path / "model")
    assert loaded.to_dict() == processor.to_dict()
    torch.testing.assert_close(loaded.prepare(audio=wav(3))["audio"][0], rows["train"][3]["audio"])
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    applied(data(train=range(50, 50 + ROWS)))[0].save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "processor_state.safetensors").replace(tmp_path / "model" / "processor_state.safetensors")
    with pytest.raises(ValueError, match="of different processors"):
        MultimodalProcessor.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("on_error", ["raise", "mask", "skip"])
def test_an_unfitted_processor_says_so(on_error, tmp_path):
    processor = MultimodalProcessor({"audio": IVECTOR}, on_error)
    for use in (lambda: processor.prepare(audio=wav(0)), lambda: processor({"audio": [wav(0)]})):
        with pytest.raises(
            ValueError, match=r"modality 'audio': expected a fitted IVector.*MultimodalProcessor\.apply"
        ):
            use()
    assert [path.rsplit("/")[-1] for path in processor.save_pretrained(tmp_path)] == ["processor_config.json"]
    assert MultimodalProcessor.from_pretrained(tmp_path).to_dict() == processor.to_dict()


def test_streams_are_transformed_but_not_fitted_on():
    stream = IterableDatasetDict({"train": split(range(ROWS)).to_iterable_dataset()})
    with pytest.raises(ValueError, match=r"\['audio'\] unfitted: fitting reads the training split several times"):
        MultimodalProcessor({"audio": IVECTOR}).apply(stream)
    processor, rows = applied(data())
    streamed = next(iter(processor.apply(stream)["train"]))
    torch.testing.assert_close(streamed["audio"], rows["train"][0]["audio"])


def test_no_training_split_and_no_audio():
    with pytest.raises(ValueError, match=r"split 'train' to fit \['audio'\] on, found \['test'\]"):
        applied(DatasetDict({"test": split(range(ROWS))}))
    with pytest.raises(ValueError, match=r"split 'train', modality 'audio': Expected more clips .* size=2, found 0"):
        applied(data(train=[None, None]))
    with pytest.raises(ValueError, match=r"\['audio'\] missing"):
        applied(DatasetDict({"train": Dataset.from_dict({"labels": [0]})}))


@pytest.mark.parametrize("num_proc", [None, 2])
def test_values_that_cannot_be_used(num_proc):
    broken = [*range(ROWS), {"bytes": b"?", "path": "broken.wav"}, None]
    with pytest.raises(ValueError, match=r"split 'train', modality 'audio': broken\.wav: expected .*\(row 12\)"):
        applied(data(train=broken), num_proc=num_proc)
    whole, _ = applied(data())
    processor, rows = applied(data(train=broken), on_error="skip", num_proc=num_proc)
    states = [p.transforms["audio"]._variability.loadings for p in (whole, processor)]
    np.testing.assert_array_equal(*states)
    assert len(rows["train"]) == ROWS
    assert [(f["row"], f["file"]) for f in processor.failures["train"]] == [(12, "broken.wav"), (13, None)]


SCRIPT = """
import json, sys
from datasets import DatasetDict, config, disable_progress_bars, load_from_disk
from hf_bml.processing import MultimodalProcessor
from hf_bml.processing.transforms.ivector import IVector
disable_progress_bars()
IVector.fit = None  # nothing may be computed again
config.HF_DATASETS_CACHE = sys.argv[3]
processor = MultimodalProcessor({"audio": json.loads(sys.argv[2])})
rows = processor.apply(DatasetDict({"train": load_from_disk(sys.argv[1])}))["train"]
print(json.dumps([processor.modalities["audio"]["fitted"], rows._fingerprint]))
"""


def test_other_processes_find_the_fit(tmp_path):
    path = str(tmp_path / "data")
    split(range(ROWS)).save_to_disk(path)
    processor, rows = applied(DatasetDict({"train": load_from_disk(path)}))
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, path, json.dumps(IVECTOR), str(tmp_path / "cache")]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(output.splitlines()[-1]) == [name_of(processor), rows["train"]._fingerprint]


def test_other_modalities_do_not_count():
    """Another option of the video does not fit the audio again."""
    both = data()
    both["train"] = both["train"].add_column("sensor", [[1.0, 2.0]] * ROWS)
    both["test"] = both["test"].add_column("sensor", [[1.0, 2.0]] * 2)
    names = set()
    for size in (2, None):
        processor = MultimodalProcessor({"audio": IVECTOR, "sensor": {"type": "features", "input_size": size}})
        processor.apply(both)
        names.add(name_of(processor))
    assert len(names) == 1
    assert len(list((datasets.config.HF_DATASETS_CACHE / "hf_bml_fitted").glob("*.fit"))) == 1


def test_a_type_that_is_not_fitted_has_no_such_option():
    with pytest.raises(ValueError, match=r"frames has no option 'fitted'"):
        MultimodalProcessor({"sensor": {"type": "frames", "fitted": "abc"}})
