"""What was processed is found again, by other processes, and until a file changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, DatasetDict, Features, Image, List, Value
from media_samples import needs_media_columns

from hf_bml.data.splits import cut_table
from hf_bml.processing import MultimodalProcessor
from hf_bml.processing.cached_map import file_states
from hf_bml.processing.modality_transforms import ModalityTransforms

AUDIO = {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.1, "window_length": 128, "overlap": 64}
IVECTOR = {
    "type": "ivector",
    "sampling_rate": 8000,
    "num_components": 2,
    "size": 2,
    "iterations": 2,
    "num_coefficients": 4,
    "num_mel_bins": 8,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Of this test alone."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def write_tone(path, amplitude=0.5):
    soundfile.write(path, amplitude * np.sin(np.arange(1200) * (1 + len(path.stem))), 8000)
    return str(path)


def paths(files):
    return DatasetDict({"train": Dataset.from_dict({"audio": [str(file) for file in files]})})


def processed_table(cache):
    """A fitted modality of a table that lies in memory: fingerprints, cache files and rows of its splits."""
    datasets.config.HF_DATASETS_CACHE = Path(cache)
    waves = np.random.default_rng(0).uniform(-1, 1, (12, 1200)).astype(np.float32)
    features = Features({"audio": List(Value("float32")), "labels": Value("int64")})
    table = pa.table({"audio": list(waves), "labels": range(12)})
    data = cut_table(table, ["train"] * 8 + ["validation"] * 2 + ["test"] * 2, features)
    splits = MultimodalProcessor({"audio": IVECTOR}).apply(data)
    return {
        name: [rows._fingerprint, rows.cache_files, rows["labels"][:], [row["audio"].tolist() for row in rows]]
        for name, rows in splits.items()
    }


SCRIPT = """
import json, sys
from hf_bml.processing.transforms.ivector import IVector
from hf_bml.processing.modality_transforms import ModalityTransforms
from test_cached_map import processed_table
IVector.fit = ModalityTransforms.__call__ = ModalityTransforms.extract = None  # nothing may be computed again
print(json.dumps(processed_table(sys.argv[1])))
"""


def test_another_process_finds_tables_in_memory(cache):
    found = processed_table(cache)
    for split, (_, files, labels, values) in found.items():
        assert [Path(file["filename"]).parent for file in files] == [cache / "hf_bml"]
        assert labels == {"train": [*range(8)], "validation": [8, 9], "test": [10, 11]}[split]
        assert len(values) == len(labels) and len(values[0]) == 2
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", SCRIPT, str(cache)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(output.splitlines()[-1]) == found


def test_workers_write_it_and_one_process_reads_it(cache, tmp_path, monkeypatch):
    files = [write_tone(tmp_path / f"{'a' * row}b.wav") for row in range(4)]
    rows = MultimodalProcessor({"audio": AUDIO}).apply(paths(files), num_proc=2)["train"]
    assert len(rows.cache_files) == 2 and not [name for name in os.listdir(cache / "hf_bml") if "tmp" in name]
    monkeypatch.setattr(ModalityTransforms, "__call__", None)
    again = MultimodalProcessor({"audio": AUDIO}).apply(paths(files))["train"]
    assert again._fingerprint == rows._fingerprint and torch.equal(again[3]["audio"], rows[3]["audio"])


def test_caching_can_be_switched_off(cache, tmp_path):
    data = paths([write_tone(tmp_path / "a.wav")])
    datasets.disable_caching()
    try:
        rows = MultimodalProcessor({"audio": AUDIO}).apply(data)["train"]
        assert rows[0]["audio"].shape == (1, 65, 11) and not rows.cache_files and not cache.exists()
    finally:
        datasets.enable_caching()


def test_tables_on_the_disk_are_cached_beside_them(cache, tmp_path):
    paths([write_tone(tmp_path / "a.wav")])["train"].save_to_disk(tmp_path / "data")
    data = DatasetDict({"train": datasets.load_from_disk(tmp_path / "data")})
    rows = MultimodalProcessor({"audio": AUDIO}).apply(data)["train"]
    assert [os.path.dirname(file["filename"]) for file in rows.cache_files] == [str(tmp_path / "data")]
    assert not cache.exists()


def test_another_config_is_not_found(tmp_path):
    data = paths([write_tone(tmp_path / "a.wav")])
    plain = MultimodalProcessor({"audio": AUDIO}).apply(data)["train"]
    other = MultimodalProcessor({"audio": {**AUDIO, "standardize": False}}).apply(data)["train"]
    assert not torch.equal(plain[0]["audio"], other[0]["audio"])


def test_a_repaired_file_is_tried_again(tmp_path):
    good, broken, absent = write_tone(tmp_path / "good.wav"), tmp_path / "broken.wav", tmp_path / "absent.wav"
    broken.write_bytes(b"RIFF")
    processor = MultimodalProcessor({"audio": AUDIO}, on_error="skip")
    assert len(processor.apply(paths([good, broken, absent]))["train"]) == 1
    assert [failure["file"] for failure in processor.failures["train"]] == [str(broken), str(absent)]
    write_tone(broken)
    assert len(processor.apply(paths([good, broken, absent]))["train"]) == 2
    write_tone(absent)
    assert len(processor.apply(paths([good, broken, absent]))["train"]) == 3 and processor.failures == {}


def test_a_rewritten_file_gives_its_new_values(tmp_path, monkeypatch):
    options = {**AUDIO, "standardize": False}
    file = write_tone(tmp_path / "a.wav", 0.5)
    old = MultimodalProcessor({"audio": options}).apply(paths([file]))["train"][0]["audio"]
    status = os.stat(file)
    write_tone(tmp_path / "a.wav", 0.25)  # as long as before
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    new = MultimodalProcessor({"audio": options}).apply(paths([file]))["train"][0]["audio"]
    assert not torch.equal(old, new)
    monkeypatch.setattr(ModalityTransforms, "__call__", None)  # untouched: found
    again = MultimodalProcessor({"audio": options}).apply(paths([file]))["train"][0]["audio"]
    assert torch.equal(new, again)


def states(values, kind, rows=None):
    split = Dataset.from_dict({"media": values}, features=Features({"media": kind}))
    return file_states(split if rows is None else split.select(rows), ["media"])


def test_which_files_count(tmp_path):
    needs_media_columns()
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    first.write_bytes(b"a")
    second.write_bytes(b"bb")
    folder = tmp_path / "flow"
    folder.mkdir()
    (folder / "frame1.jpg").write_bytes(b"u")
    files = [str(first), str(second)]
    flow = {"u": Value("string"), "v": Value("string")}
    forms = {
        "text": (files, Value("string")),
        "media": ([{"bytes": None, "path": file} for file in files], Audio(decode=False)),
        "frames": ([[{"bytes": None, "path": file} for file in files], None], List(Image(decode=False))),
        "flow": ([{"u": str(folder), "v": files[1]}, None], flow),
        "mixed": ([{"bytes": b"x", "path": "named.png"}, {"bytes": None, "path": files[1]}], Audio(decode=False)),
    }
    before = {name: states(*form) for name, form in forms.items()}
    assert before == {name: states(*form) for name, form in forms.items()}
    not_second = states(*forms["text"], rows=[0])
    second.write_bytes(b"bbb")
    after = {name: states(*form) for name, form in forms.items()}
    assert all(after[name] != before[name] for name in forms) and states(*forms["text"], rows=[0]) == not_second
    (folder / "frame1.jpg").write_bytes(b"uu")
    changed = {name: states(*form) for name, form in forms.items()}
    assert [name for name in forms if changed[name] != after[name]] == ["flow"]
    second.unlink()
    assert states(*forms["text"]) != changed["text"]
    embedded = [{"bytes": b"x", "path": "named.png"}, None]
    assert states(embedded, Audio(decode=False)) == states([[1.0], None], List(Value("float32"))) == ""
    assert states(["https://host/a.wav"], Value("string")) == ""
