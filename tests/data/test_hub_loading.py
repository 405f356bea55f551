"""Data sets from the Hub: repositories with the columns of the real ones, on a Hub of this machine."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from datasets import Audio, ClassLabel, Dataset, Features, Value, Video
from media_samples import needs_media_columns

from hf_bml.data.catalogue import ave, cremad, kinetics_sounds, ucf101, vggsound

LOAD = """
import json, sys
from datasets import IterableDatasetDict
from hf_bml.data import load_multimodal_dataset

facts = []
for name, options in json.loads(sys.argv[1]):
    dataset = load_multimodal_dataset(name, **options)
    features = dataset["train"].features
    facts.append({
        "columns": list(features),
        "undecoded": all(not getattr(features[column], "decode", False) for column in features),
        "classes": features["labels"].names,
        "rows": {split: [row["labels"] for row in rows] for split, rows in dataset.items()},
        "media": sorted(row["visual"]["bytes"].decode() for rows in dataset.values() for row in rows),
        "groups": {
            split: sorted({row["visual"]["bytes"].decode()[:2] for row in rows}) for split, rows in dataset.items()
        },
        "streamed": isinstance(dataset, IterableDatasetDict),
    })
print(json.dumps(facts))
"""


def parquet(label, names, count, **columns):
    """Clips `v0` to `v<count>` as the Hub's parquet converters write them: undecoded bytes, declared types."""
    needs_media_columns()
    features = Features(
        {
            "video": Video(),
            "audio": Audio(sampling_rate=16000),
            label: ClassLabel(names=names),
            **{name: Value("string") for name in columns},
        }
    )
    rows = Dataset.from_dict(
        {
            "video": [{"bytes": b"%02d film" % row, "path": None} for row in range(count)],
            "audio": [{"bytes": b"%02d sound" % row, "path": None} for row in range(count)],
            label: [row % len(names) for row in range(count)],
            **columns,
        },
        features=features,
    )
    file = io.BytesIO()
    rows.to_parquet(file)
    return file.getvalue()


def run(hub, tmp_path, requests):
    process = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(requests)],
        env=hub.environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
def test_known_copies_and_streaming(fake_hub, tmp_path):
    kinetics = ["bowling", "abseiling", "singing", "tap dancing", "zumba"]
    youtube = [f"id{row // 2}" for row in range(20)]
    pinned = {
        "mteb/AVE-Dataset": {
            "data/train-0.parquet": parquet("label", ["Bark", "Flute"], 20, youtube_id=youtube),
            "data/test-0.parquet": parquet("label", ["Bark", "Flute"], 4, youtube_id=youtube[:4]),
        },
        "mteb/RAVDESS_AV": {"data/test-0.parquet": parquet("emotion", ["angry", "calm", "sad"], 30)},
        "mteb/VGGSound": {"data/test-0.parquet": parquet("label", ["rapping", "wind noise, howling"], 20)},
        "mteb/kinetics-400": {
            "data/train-0.parquet": parquet("label", kinetics, 30),
            "data/test-0.parquet": parquet("label", kinetics, 10),
        },
        "mteb/UCF101-51VA": {
            "data/train-0.parquet": parquet("label", ["Archery", "Bowling"], 20),
            "data/test-0.parquet": parquet("label", ["Archery", "Bowling"], 6),
        },
    }
    revisions = {}
    for repository, files in pinned.items():
        revisions[repository] = fake_hub.add("dataset", repository, files)
        fake_hub.add("dataset", repository, dict.fromkeys(files, b"a later version that cannot be read"))
    names = ["ave", "cremad", "vggsound", "kinetics_sounds", "ucf101"]
    requests = [
        (
            name,
            {
                "hub_id": repository,
                "revision": revisions[repository],
                **({"labels": "event"} if name == "ave" else {}),
            },
        )
        for name, repository in zip(names, pinned, strict=True)
    ]
    fake_hub.add("dataset", "user/clips", {"train.parquet": parquet("mood", ["glad", "sad"], 60)})
    columns = {"modalities": {"audio": "audio", "visual": "video"}, "label": "mood", "path": "user/clips"}
    requests += [("from_columns", columns), ("from_columns", {**columns, "streaming": True})]
    facts = dict(zip([*names, "map", "stream"], run(fake_hub, tmp_path, requests), strict=True))

    assert all(fact["undecoded"] for fact in facts.values())
    columns = {name: fact["columns"] for name, fact in facts.items()}
    assert columns.pop("ucf101") == ["visual", "flow", "labels"]
    assert columns.pop("ave") == ["audio", "visual", "labels", "group"]  # clips of one video
    assert all(names == ["audio", "visual", "labels"] for names in columns.values())
    sizes = {name: [len(rows) for rows in fact["rows"].values()] for name, fact in facts.items()}
    assert sizes["ave"] == [18, 2, 4] and sizes["cremad"] == [24, 3, 3] and sizes["vggsound"] == [16, 2, 2]
    assert sizes["kinetics_sounds"] == [16, 2, 6] and sizes["ucf101"] == [18, 2, 6]
    assert facts["kinetics_sounds"]["classes"] == [name.replace("_", " ") for name in kinetics_sounds.CLASSES]
    kept = [kinetics[row % 5] for row in range(10) if row % 5 in (0, 2, 3)]
    labels = facts["kinetics_sounds"]["rows"]["test"]
    assert [kinetics_sounds.CLASSES[label].replace("_", " ") for label in labels] == kept
    held_out = [int(group) // 2 for group in facts["ave"]["groups"]["validation"]]
    assert len(set(held_out)) == 1 and not {int(group) // 2 for group in facts["ave"]["groups"]["train"]} & {*held_out}
    assert not facts["map"]["streamed"] and facts["stream"]["streamed"]
    assert facts["map"]["media"] == facts["stream"]["media"] == [f"{row:02d} film" for row in range(60)]


@pytest.mark.parametrize("module", [ave, cremad, kinetics_sounds, ucf101, vggsound])
def test_known_copies_are_pinned(module):
    for options in module.HUB.values():
        assert len(options["revision"]) == 40 and set(options["revision"]) <= set("0123456789abcdef")


@pytest.mark.slow
def test_a_hub_id_is_loaded(fake_hub, tmp_path):
    fake_hub.add("dataset", "user/clips", {"train.parquet": parquet("mood", ["glad", "sad"], 20)})
    code = """
from hf_bml.data import from_columns
dataset = from_columns("user/clips", modalities={"audio": "audio", "visual": "video"}, label="mood")
print(dataset.num_rows, dataset["train"].features["labels"].names)
from_columns("user/clips", modalities={"audio": "sound"}, label="mood")
"""
    process = subprocess.run(
        [sys.executable, "-c", code], env=fake_hub.environment(tmp_path), capture_output=True, text=True, timeout=180
    )
    assert process.stdout.splitlines()[-1] == "{'train': 16, 'validation': 2, 'test': 2} ['glad', 'sad']"
    assert "Expected a column 'sound' in 'user/clips', found" in process.stderr
