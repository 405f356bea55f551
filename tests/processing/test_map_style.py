"""Media files through map-style data sets: both modalities of a video, and values that cannot be used."""

from __future__ import annotations

import io
import json

import av
import numpy as np
import pytest
import torch
from datasets import (
    Audio,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDatasetDict,
    List,
    Value,
    Video,
    load_from_disk,
)
from media_samples import grey_levels, write_clip
from PIL import Image as PILImage

from hf_bml.processing import FrameTransform, MultimodalProcessor
from hf_bml.processing.modality_transforms import ModalityTransforms

AUDIO = {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 1.0, "window_length": 256, "overlap": 128}
VISUAL = {"type": "video", "num_frames": 2, "size": 16, "mean": [0.0] * 3, "std": [1.0] * 3}
SEGMENT = {**VISUAL, "sampling": "segment"}
BOTH = {"audio": AUDIO, "visual": VISUAL}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One clip of each kind, by name."""
    folder = tmp_path_factory.mktemp("clips")
    good = write_clip(folder / "good.mp4")
    written = {
        "good": good,
        "mute": write_clip(folder / "mute.mp4", tone=None),
        "silent": write_clip(folder / "silent.mp4", tone=0.0),
        "sound": write_clip(folder / "sound.mp4", times=[]),
        "vfr": write_clip(folder / "vfr.mp4", times=[0, 40, 700, 1500]),
        "truncated": folder / "truncated.mp4",
        "empty": folder / "empty.mp4",
    }
    written["truncated"].write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    written["empty"].write_bytes(b"")
    return written


def clips(files, names, embedded=True, decodable=False):
    """The same video value in both columns."""
    values = [
        None if name is None else {"bytes": files[name].read_bytes() if embedded else None, "path": str(files[name])}
        for name in names
    ]
    raw = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"audio": raw, "visual": raw, "labels": Value("int64")})
    data = Dataset.from_dict({"audio": values, "visual": values, "labels": range(len(names))}, features=features)
    if decodable:
        data = data.cast_column("audio", Audio()).cast_column("visual", Video())
    return DatasetDict({"train": data})


def test_video_columns_serve_both_modalities(files):
    for options in ({}, {"embedded": False}, {"decodable": True}):
        data = clips(files, ["good", None, "vfr"], **options)
        if options.get("decodable"):
            data["train"] = data["train"].select([0, 2])
        rows = MultimodalProcessor(BOTH).apply(data)["train"]
        assert rows[0]["audio"].shape == (1, 129, 61)
        assert grey_levels(rows[0]["visual"] * 255) == [0, 19]
        assert grey_levels(rows[len(rows) - 1]["visual"] * 255) == [0, 3]
        assert options.get("decodable") or (rows[1]["audio"] is None and rows[1]["visual"] is None)


@pytest.mark.parametrize("num_proc", [None, 2])
def test_the_default_raises_with_the_files_name(files, num_proc):
    with pytest.raises(ValueError, match=r"modality 'visual': .*truncated\.mp4: expected .*\(row 1\)"):
        MultimodalProcessor({"visual": VISUAL}).apply(clips(files, ["good", "truncated"]), num_proc=num_proc)


ODD = ["good", "mute", "truncated", "sound", "silent", None, "empty", "vfr"]


@pytest.mark.parametrize("visual", [VISUAL, SEGMENT], ids=["cached", "random"])
def test_mask(files, visual):
    processor = MultimodalProcessor({"audio": AUDIO, "visual": visual}, on_error="mask")
    rows = processor.apply(clips(files, ODD), num_proc=2)["train"]
    assert list(rows["labels"]) == [0, 1, 3, 4, 7]
    assert [row["audio"] is None for row in rows] == [False, True, False, False, False]
    assert [row["visual"] is None for row in rows] == [False, False, True, False, False]
    assert not rows[3]["audio"].any()  # a silent track is audio: standardised, all zeros
    failures = processor.failures["train"]
    assert [(f["row"], f["modality"], f["dropped"]) for f in failures] == [
        (1, "audio", False),
        (2, "audio", True),
        (2, "visual", True),
        (3, "visual", False),
        (5, None, True),
        (6, "audio", True),
        (6, "visual", True),
    ]
    assert failures[0]["file"] == str(files["mute"]) and "expected an audio stream" in failures[0]["reason"]
    assert json.loads(json.dumps(processor.failures)) == processor.failures


def test_skip(files):
    processor = MultimodalProcessor(BOTH, on_error="skip")
    rows = processor.apply(clips(files, ODD))["train"]
    assert list(rows["labels"]) == [0, 4, 7]
    assert all(row["audio"] is not None and row["visual"] is not None for row in rows)
    assert {failure["row"] for failure in processor.failures["train"]} == {1, 2, 3, 5, 6}
    assert all(failure["dropped"] for failure in processor.failures["train"])


def test_silence_is_absent_by_option(files):
    processor = MultimodalProcessor({**BOTH, "audio": {**AUDIO, "min_rms": 1e-4}}, on_error="mask")
    rows = processor.apply(clips(files, ["good", "silent"]))["train"]
    assert rows[0]["audio"] is not None and rows[1]["audio"] is None
    assert "silent.mp4: expected a level of at least min_rms=0.0001" in processor.failures["train"][0]["reason"]


def test_nothing_failed(files):
    processor = MultimodalProcessor(BOTH, on_error="mask")
    rows = processor.apply(clips(files, ["good", "vfr"]))["train"]
    assert processor.failures == {} and len(rows) == 2 and rows.column_names == ["audio", "visual", "labels"]


def test_damaged_images(tmp_path):
    """In a column of images, and in one of lists of them."""
    good = io.BytesIO()
    PILImage.new("RGB", (8, 8)).save(good, format="PNG")
    images = [
        {"bytes": good.getvalue(), "path": "a.png"},
        {"bytes": good.getvalue()[:40], "path": "b.png"},
        {"bytes": good.getvalue(), "path": "c.png"},
    ]
    features = Features({"photo": Image(), "frames": List(Image())})
    data = Dataset.from_dict({"photo": images, "frames": [[image] * 2 for image in images]}, features=features)
    for augment in ("none", "crop_flip"):
        modalities = {name: {"type": "frames", "size": 8, "augment": augment} for name in ("photo", "frames")}
        processor = MultimodalProcessor(modalities, on_error="skip")
        rows = processor.apply(DatasetDict({"train": data}))["train"]
        assert len(rows) == 2 and rows[1]["photo"].shape == (3, 8, 8) and rows[1]["frames"].shape == (2, 3, 8, 8)
        assert [failure["modality"] for failure in processor.failures["train"]] == ["photo", "frames"]
        with pytest.raises(ValueError, match=r"modality 'photo': b\.png: expected a readable image"):
            rows = MultimodalProcessor(modalities).apply(DatasetDict({"train": data}))["train"]
            rows[1]


class Broken(Exception):
    """No ValueError, with two lines."""


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("error", [MemoryError(), AttributeError("x\ny"), RecursionError("x"), Broken("x\ny")])
def test_whatever_a_transform_raises_follows_on_error(tmp_path, monkeypatch, error, streamed):
    read = FrameTransform.read

    def fail_on_the_second(transform, value):
        if value["path"] == "b.png":
            raise error
        return read(transform, value)

    monkeypatch.setattr(FrameTransform, "read", fail_on_the_second)
    png = io.BytesIO()
    PILImage.new("RGB", (8, 8)).save(png, format="PNG")
    images = [{"bytes": png.getvalue(), "path": f"{name}.png"} for name in "abc"]
    data = Dataset.from_dict({"photo": images, "labels": [0, 1, 2]}).cast_column("photo", Image())
    data = DatasetDict({"train": data})
    if streamed:
        data = IterableDatasetDict({"train": data["train"].to_iterable_dataset()})
    modalities = {"photo": {"type": "frames", "size": 8}}
    message = rf"modality 'photo': b\.png: expected a value that can be transformed, found {type(error).__name__}: .*"
    with pytest.raises(ValueError, match=rf"{message} \(row 1\)") as caught:
        list(MultimodalProcessor(modalities).apply(data)["train"])
    assert "\n" not in str(caught.value)
    causes = [caught.value, caught.value.__cause__, getattr(caught.value.__cause__, "__cause__", None)]
    assert error in causes  # with its traceback
    for on_error in ("mask", "skip"):
        processor = MultimodalProcessor(modalities, on_error=on_error)
        assert [row["labels"] for row in processor.apply(data)["train"]] == [0, 2]
        assert streamed or processor.failures["train"][0]["file"] == "b.png"


def test_files_that_made_a_decoder_fail_with_other_errors(tmp_path):
    """A truncated WavPack and an array that declares more than any memory holds."""
    sound = tmp_path / "a.wv"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("wavpack", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.random.default_rng(0).random((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame) + stream.encode(None))
    content = sound.read_bytes()
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(80)
    good = io.BytesIO()
    np.save(good, np.ones(3))
    raw = {"bytes": Value("binary"), "path": Value("string")}
    columns = {
        "audio": [{"bytes": content, "path": "a.wv"}, {"bytes": content[: len(content) // 2], "path": "b.wv"}],
        "vector": [{"bytes": good.getvalue(), "path": "a.npy"}, {"bytes": array, "path": "b.npy"}],
    }
    data = DatasetDict({"train": Dataset.from_dict(columns, Features({"audio": raw, "vector": raw}))})
    modalities = {"audio": AUDIO, "vector": {"type": "features"}}
    for name, file in (("audio", "b.wv"), ("vector", "b.npy")):
        processor = MultimodalProcessor({name: modalities[name]}, on_error="skip")
        assert len(processor.apply(data)["train"]) == 1
        assert [failure["file"] for failure in processor.failures["train"]] == [file]
        with pytest.raises(ValueError, match=rf"modality '{name}': {file}: [Ee]xpected .*\(row \d\)"):
            list(MultimodalProcessor({name: modalities[name]}).apply(data)["train"])


def test_no_usable_row(files):
    with pytest.raises(
        ValueError, match=r"split 'train': expected some usable rows, found that all 2 failed: .*empty"
    ):
        MultimodalProcessor(BOTH, on_error="skip").apply(clips(files, ["empty", "truncated"]))


def test_a_file_that_vanishes_after_the_check_is_masked(files, tmp_path, caplog):
    moved = tmp_path / "moved.mp4"
    moved.write_bytes(files["good"].read_bytes())
    data = clips({"good": moved}, ["good"], embedded=False)
    rows = MultimodalProcessor({"audio": AUDIO, "visual": SEGMENT}, on_error="mask").apply(data)["train"]
    assert rows[0]["visual"].shape == (2, 3, 16, 16)
    moved.unlink()
    assert rows[0]["visual"] is None and "moved.mp4" in caplog.text


def test_damage_that_only_random_frames_meet(files, tmp_path, caplog):
    """The trial sees the first and the last frame; the second half second cannot be decoded."""
    content = bytearray(files["good"].read_bytes())
    with av.open(str(files["good"])) as container:
        video = [packet for packet in container.demux(video=0) if packet.size]
        for packet in video[5:10]:
            content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    hurt = tmp_path / "hurt.mp4"
    hurt.write_bytes(content)
    data = clips({"good": files["good"], "hurt": hurt}, ["good", "hurt"]).select_columns(["visual", "labels"])
    sampled = {**VISUAL, "sampling": "random"}
    processor = MultimodalProcessor({"visual": sampled}, on_error="mask")
    rows = processor.apply(data)["train"]
    assert processor.failures == {}
    torch.manual_seed(0)
    drawn = [tuple(grey_levels(rows[1]["visual"] * 255)) for _ in range(20)]
    assert drawn.count((0, 19)) > 2 and len(set(drawn)) > 5  # the evaluation's frames, and other random ones
    assert caplog.text.count("hurt.mp4: expected a readable video") == 1
    rows = MultimodalProcessor({"visual": sampled}).apply(data)["train"]
    with pytest.raises(ValueError, match=r"hurt.mp4: expected a readable video"):
        [rows[1] for _ in range(20)]


def test_the_deterministic_part_of_random_sampling_is_cached(files, tmp_path):
    moved = tmp_path / "moved.mp4"
    moved.write_bytes(files["good"].read_bytes())
    data = clips({"good": moved}, ["good"], embedded=False)
    processor = MultimodalProcessor({"visual": {**SEGMENT, "fps": 5}})
    rows = processor.apply(DatasetDict({"train": data["train"], "test": data["train"]}))
    moved.unlink()
    torch.manual_seed(0)
    drawn = {tuple(grey_levels(rows["train"][0]["visual"] * 255)) for _ in range(20)}
    assert len(drawn) > 3 and all(first < 10 <= second for first, second in drawn)
    assert grey_levels(rows["test"][0]["visual"] * 255) == [4, 14]


def test_failures_are_found_in_the_cache(files, tmp_path, monkeypatch):
    path = str(tmp_path / "data")
    clips(files, ["good", "mute", "empty"])["train"].save_to_disk(path)
    first = MultimodalProcessor(BOTH, on_error="mask")
    rows = first.apply(DatasetDict({"train": load_from_disk(path)}))["train"]
    for method in ("__call__", "extract"):  # nothing may be computed again
        monkeypatch.setattr(ModalityTransforms, method, None)
    second = MultimodalProcessor(BOTH, on_error="mask")
    again = second.apply(DatasetDict({"train": load_from_disk(path)}))["train"]
    assert again._fingerprint == rows._fingerprint
    assert second.failures == first.failures and len(first.failures["train"]) == 3
