from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import List, Value
from music_avqa_release import HEARD, SEEN, write_annotation

from hf_bml.data import load_multimodal_dataset
from hf_bml.data.catalogue.music_avqa import QUESTION_TYPES
from recipes.music_avqa_generated.music_scene import SOUND_SIZE
from recipes.music_avqa_generated.questions import load, projection, read_part, split_videos, video_seed

ROOT = Path(__file__).parents[2]
VIDEOS = 40  # of each part


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music_avqa")
    write_annotation(folder, videos=VIDEOS)
    return folder


@pytest.fixture(scope="module")
def dataset(release):
    return load(data_dir=release, visual_size=96, audio_size=70)


@pytest.fixture(scope="module")
def entries(release):
    return [
        entry for part in ("val", "test") for entry in json.loads((release / f"json/avqa-{part}.json").read_text())
    ]


def test_every_question_is_there_as_annotated(dataset, entries):
    assert set(dataset.num_rows) == {"train", "validation", "test"} and sum(dataset.num_rows.values()) == len(entries)
    features = dataset["train"].features
    assert list(features) == ["text", "audio", "visual", "labels", "question_type", "agrees"]
    assert features["audio"] == features["visual"] == List(List(Value("float32")))
    assert features["question_type"].names == QUESTION_TYPES
    answers = features["labels"].names
    assert answers == sorted({entry["anser"] for entry in entries})
    splits = split_videos([entry["video_id"] for entry in entries])
    for split, rows in dataset.items():
        own = [entry for entry in entries if splits[entry["video_id"]] == split]
        assert [answers[label] for label in rows["labels"]] == [entry["anser"] for entry in own]
        assert [QUESTION_TYPES[kind] for kind in rows["question_type"]] == [
            " ".join(json.loads(e["type"])) for e in own
        ]
        assert all("<" not in text and "?" not in text for text in rows["text"])
        assert np.mean(rows["agrees"][:]) > 0.95  # a search may end early
        assert np.array(rows["audio"][:]).shape == (len(own), 10, 70)
        assert np.array(rows["visual"][:]).shape == (len(own), 10, 96)


def test_splits_share_no_video(entries):
    splits = split_videos([entry["video_id"] for entry in entries])
    assert set(splits) == {entry["video_id"] for entry in entries}
    shares = {
        split: sum(splits[e["video_id"]] == split for e in entries) / len(entries) for split in set(splits.values())
    }
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.02)
    assert split_videos([entry["video_id"] for entry in entries][::-1]) == splits


def test_questions_about_a_video_have_its_features(dataset, entries):
    splits = split_videos([entry["video_id"] for entry in entries])
    rows = iter(zip(dataset["test"]["audio"][:], dataset["test"]["visual"][:], strict=True))
    found = defaultdict(list)
    for entry in entries:
        if splits[entry["video_id"]] == "test":
            found[entry["video_id"]].append(next(rows))
    for given in found.values():
        assert len(given) == 4
        for modality in zip(*given, strict=True):  # a matrix product may round by where its operands lie in memory
            np.testing.assert_allclose(modality, [modality[0]] * 4, atol=1e-5)
    assert len({json.dumps(given[0][0]) for given in found.values()}) == len(found)


SAVED = """
import sys
import numpy as np
from recipes.music_avqa_generated.questions import load
rows = load(data_dir=sys.argv[1], visual_size=96, audio_size=70)["test"]
np.savez(sys.argv[2], audio=rows["audio"][:], visual=rows["visual"][:])
"""


@pytest.mark.slow
def test_another_process_generates_the_same(release, dataset, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "7", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", SAVED, str(release), str(tmp_path / "rows.npz")]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)
    with np.load(tmp_path / "rows.npz") as saved:
        for modality in ("audio", "visual"):
            np.testing.assert_allclose(saved[modality], np.array(dataset["test"][modality][:]), atol=1e-5)


def test_the_noise(release):
    clear, noisy, other = (
        np.array(load(data_dir=release, visual_size=96, audio_size=70, **options)["test"]["visual"][:])
        for options in ({"noise": 0.0}, {"noise": 0.5}, {"noise": 0.5, "seed": 1})
    )
    assert (noisy - clear).std() == pytest.approx(0.5, rel=0.05) and abs((noisy - clear).mean()) < 0.02
    assert np.abs(clear - clear[:, :1]).max() < 1e-5  # a picture does not change, unless by noise
    assert not np.allclose(noisy, other)


def test_projections_lose_nothing():
    matrix = projection(SOUND_SIZE, 70, seed=1)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(SOUND_SIZE), atol=1e-5)
    assert video_seed("a", 0) == int(hashlib.sha1(b"0 a").hexdigest()[:12], 16)
    assert video_seed("a", 0) != video_seed("a", 1) != video_seed("b", 1)


def linear_answers(dataset, modality, chosen):
    """Test accuracy of a ridge regression from a modality's mean on the answers, and that of the commonest answer."""
    parts = []
    for split in ("train", "test"):
        rows = dataset[split]
        kept = [index for index, text in enumerate(rows["text"]) if text == chosen]
        values = np.array(rows[modality][:])[kept].mean(1)
        labels = np.array(rows["labels"][:])[kept]
        parts.append((np.concatenate([values, np.ones((len(kept), 1))], 1), labels))
    (x, y), (x_test, y_test) = parts
    targets = np.eye(len(dataset["train"].features["labels"].names))[y]
    weights = np.linalg.solve(x.T @ x + 0.5 * np.eye(x.shape[1]), x.T @ targets)
    return ((x_test @ weights).argmax(1) == y_test).mean(), np.bincount(y_test).max() / len(y_test)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    write_annotation(folder, videos=150, parts=("val",))
    return load(parts=("val",), data_dir=folder, visual_size=96, audio_size=70)


def test_the_sound_answers_questions_about_the_sound_and_the_picture_those_about_the_picture(many):
    for modality, question, other in [
        ("audio", f"Is there a {HEARD[0]} sound", "visual"),
        ("visual", "What kind of musical instrument is it", "audio"),
    ]:
        found, commonest = linear_answers(many, modality, question)
        assert found > commonest + 0.15 and found > 0.8
        assert linear_answers(many, other, question)[0] < found - 0.15


def test_it_is_found_by_the_name_in_the_recipes(release):
    name = yaml.safe_load((ROOT / "recipes" / "music_avqa_generated" / "avsd.yaml").read_text())["dataset"]
    options = {"data_dir": str(release), "parts": ["train"]}
    assert sum(load_multimodal_dataset(name, **options).num_rows.values()) == 4 * VIDEOS


def test_answers_that_train_lacks_come_last(tmp_path, caplog):
    write_annotation(tmp_path, videos=20, parts=("val",))
    path = tmp_path / "json/avqa-val.json"
    entries = json.loads(path.read_text())
    splits = split_videos([entry["video_id"] for entry in entries])
    changed = next(e for e in entries if splits[e["video_id"]] == "test" and e["anser"] in SEEN)
    changed["anser"] = "bagpipe"
    path.write_text(json.dumps(entries))
    with caplog.at_level(logging.WARNING):
        names = load(parts=["val"], data_dir=tmp_path)["test"].features["labels"].names
    assert names[-1] == "bagpipe" and "never occur in train: bagpipe" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audio_size": 66}, "audio_size >= 67, so that nothing is lost, found 66"),
        ({"visual_size": 89}, "visual_size >= 90"),
        ({"noise": -0.1}, "noise >= 0, found -0.1"),
        ({"parts": ["validation"]}, r"parts out of \['train', 'val', 'test'\], found \['validation'\]"),
        ({"parts": []}, r"found \[\]"),
    ],
)
def test_bad_options(release, options, message):
    with pytest.raises(ValueError, match=message):
        load(data_dir=release, **options)


def test_an_unknown_template_is_named(tmp_path):
    write_annotation(tmp_path, videos=2, parts=("val",))
    path = tmp_path / "json/avqa-val.json"
    entries = json.loads(path.read_text())
    entries[5]["question_content"] = "Who plays the <Object>?"
    path.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r"avqa-val.json', entry 5, found 'Who plays the <Object>'"):
        read_part("val", tmp_path)


@pytest.mark.slow
def test_the_real_annotation(require_data_file):
    require_data_file("music_avqa/json_avqa-val.json.gz")
    dataset = load(parts=["val"])
    assert sum(dataset.num_rows.values()) == 4595
    assert len(dataset["train"].features["labels"].names) == 41
    agrees = np.concatenate([np.array(rows["agrees"][:]) for rows in dataset.values()])
    assert agrees.mean() > 0.975
