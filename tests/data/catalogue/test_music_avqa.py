"""MUSIC-AVQA on the real questions (train: those about synthetic videos), with tiny clips or generated features."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch
from datasets import Video

from hf_bml.data import data_report, load_multimodal_dataset
from hf_bml.data.catalogue.music_avqa import QUESTION_TYPES, load, read_question
from hf_bml.processing import MultimodalProcessor


@pytest.fixture
def questions(require_data_file):
    """Real annotation files by name."""

    def read(name):
        return json.loads(gzip.decompress(require_data_file(f"music_avqa/{name}.json.gz").read_bytes()))

    return read


@pytest.fixture
def release(questions, tmp_path):
    """The real annotation; train is the part that is small enough to have been kept."""
    for folder, parts in (("json", ("train_fake", "val", "test")), ("json_update", ("val", "test"))):
        (tmp_path / folder).mkdir()
        for part in parts:
            name = part.removesuffix("_fake")
            (tmp_path / folder / f"avqa-{name}.json.gz").write_bytes(
                gzip.compress(json.dumps(questions(f"{folder}_avqa-{part}")).encode())
            )
    (tmp_path / "json_update" / "avqa-train.json").write_text(json.dumps(questions("json_avqa-train_fake")[:500]))
    return tmp_path


@pytest.fixture
def videos(release, questions, tmp_path, write_media):
    """A clip for every video of the real annotation."""
    source = write_media(tmp_path / "clip.mp4")
    (tmp_path / "videos").mkdir()
    for part in ("train_fake", "val", "test"):
        for entry in questions(f"json_avqa-{part}"):
            path = tmp_path / "videos" / f"{entry['video_id']}.mp4"
            if not path.exists():
                path.hardlink_to(source)
    return tmp_path


def test_whole_annotation(videos, questions):
    dataset = load_multimodal_dataset("music_avqa", data_dir=str(videos), video_dir="videos")
    assert dataset.num_rows == {"train": 6233, "validation": 4595, "test": 9185}
    assert dataset["train"].column_names == ["text", "audio", "visual", "labels", "question_type"]
    assert dataset["train"].features["visual"] == Video(decode=False)
    answers = dataset["train"].features["labels"].names
    in_train = {entry["anser"] for entry in questions("json_avqa-train_fake")}
    assert answers[: len(in_train)] == sorted(in_train) and len(answers) == 41
    for row, entry in zip(dataset["test"], questions("json_avqa-test"), strict=True):
        assert answers[row["labels"]] == entry["anser"]
        assert QUESTION_TYPES[row["question_type"]] == " ".join(json.loads(entry["type"]))
        assert row["audio"] == row["visual"] and row["audio"]["path"].endswith(f"/{entry['video_id']}.mp4")
        assert "<" not in row["text"] and row["text"] == row["text"].strip() and row["text"][-1] not in "?？"
    assert dataset["test"]["text"][0] == "How many musical instruments were heard throughout the video"


def test_update_reads_the_corrected_files(videos):
    dataset = load(update=True, data_dir=videos)
    assert dataset.num_rows == {"train": 500, "validation": 4568, "test": 9129}


def test_missing_video_is_told_once(videos, questions):
    video = questions("json_avqa-val")[0]["video_id"]
    (videos / "videos" / f"{video}.mp4").unlink()
    dataset = load(data_dir=videos)
    asked = sum(entry["video_id"] == video for entry in questions("json_avqa-val"))
    assert len(dataset["validation"]) == 4595 - asked
    assert data_report(dataset)["validation"] == {"missing files": [video]}


@pytest.fixture
def few(tmp_path, questions, write_media):
    """Twenty questions a split, their clips, and features of both kinds: (12, 3), and (12, 2, 3) with positions."""
    for folder in ("json", "vggish", "resnet18"):
        (tmp_path / folder).mkdir()
    for name, part in (("train", "train_fake"), ("val", "val"), ("test", "test")):
        entries = questions(f"json_avqa-{part}")[:20]
        (tmp_path / "json" / f"avqa-{name}.json").write_text(json.dumps(entries))
        for number, video in enumerate(entry["video_id"] for entry in entries):
            write_media(tmp_path / f"{video}.mp4")
            np.save(tmp_path / "vggish" / f"{video}.npy", np.full((12, 3), number) + np.arange(12)[:, None] / 10)
            np.save(tmp_path / "resnet18" / f"{video}.npy", np.full((12, 2, 3), -number, np.float16))
    return tmp_path


def test_features_stay_in_their_files(few):
    dataset = load(data_dir=few, audio_features="vggish")
    assert dataset["test"].features["audio"] == Video(decode=False)
    assert dataset["test"].features["visual"] == Video(decode=False)
    name = dataset["test"][3]["visual"]["path"].rpartition("/")[2].replace("mp4", "npy")
    assert dataset["test"][3]["audio"] == {"bytes": None, "path": str(few / "vggish" / name)}


def test_features_are_read_by_the_processor(few):
    """Every sixth second, and frames with their positions; what is stored is questions, not features."""
    dataset = load(data_dir=few, audio_features="vggish", visual_features="resnet18").remove_columns("text")
    options = {"type": "features", "input_size": 3, "step": 6}
    processed = MultimodalProcessor({"audio": options, "visual": options}).apply(dataset)
    row = processed["train"][19]
    path = dataset["train"][19]["audio"]["path"]
    np.testing.assert_allclose(row["audio"], np.load(path)[[0, 6]], rtol=1e-6)
    assert row["audio"].dtype == torch.float32 and row["visual"].shape == (2, 2, 3)
    assert (
        processed["train"].data.nbytes < 20 * 1000 and processed["train"].data.schema == dataset["train"].data.schema
    )
    np.save(path, np.ones((12, 3)))
    assert processed["train"][19]["audio"].unique().tolist() == [1.0]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((10, 2, 2, 3)),
            r"\(time, dim\) or .* in '.*vggish/.*\.npy', found shape \(10, 2, 2, 3\) of float64",
        ),
        (np.zeros(3), r"found shape \(3,\)"),
        (np.array([["a"]]), r"found shape \(1, 1\) of <U1"),
        (np.zeros((4, 2)), r"features \(time, 3\) in '.*', as in '.*', found shape \(4, 2\)"),
        (np.array([None]), "npy file of numbers in '.*npy', found: .*object"),
    ],
)
def test_bad_features_are_named_beforehand(few, array, message):
    path = sorted((few / "vggish").iterdir())[-1]
    np.save(path, array)
    with pytest.raises(ValueError, match=message) as error:
        load(data_dir=few, audio_features="vggish")
    assert path.name in str(error.value)


def test_features_that_are_no_array(few):
    next((few / "vggish").iterdir()).write_bytes(b"no")
    with pytest.raises(ValueError, match=r"Expected a .npy file of numbers in '.*npy', found: "):
        load(data_dir=few, audio_features="vggish")


def test_numbers_as_ids_of_videos(few):
    entries = json.loads((few / "json" / "avqa-val.json").read_text())
    (few / f"{entries[0]['video_id']}.mp4").rename(few / "7.mp4")
    entries[0]["video_id"] = 7
    (few / "json" / "avqa-val.json").write_text(json.dumps(entries))
    assert load(data_dir=few)["validation"][0]["audio"]["path"] == str(few / "7.mp4")


ENTRY = {
    "video_id": "1",
    "type": '["Audio", "Counting"]',
    "question_content": "Is the <LR> <Object> louder?",
    "templ_values": '["left", "violin"]',
    "anser": "yes",
}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, "Is the left violin louder"),
        (
            {"question_content": "How many sounding <Object> in the video？", "templ_values": '["flute"]'},
            "How many sounding flute in the video",
        ),
        (
            {"question_content": "Are there <Object> and <Object> sound? ", "templ_values": '["a", "b"]'},
            "Are there a and b sound",
        ),
    ],
)
def test_templates_are_filled_in_order(tmp_path, changed, text):
    assert read_question({**ENTRY, **changed}, tmp_path, 0) == {"video": "1", "text": text, "answer": "yes", "type": 0}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"templ_values": '["left"]'}, r"filler for each slot .*entry 3, found \['left'\]"),
        ({"templ_values": "left"}, "entry 3.*JSONDecodeError"),
        ({"type": '["Audio", "Colour"]'}, "entry 3, found 'Audio Colour'"),
        ({"anser": ...}, "entry 3.*KeyError"),
        ({"anser": None}, "entry 3.*TypeError: one of them is not text"),
        ({"templ_values": '["left", 3]'}, "entry 3.*not text"),
        ({"templ_values": "3"}, "entry 3.*TypeError"),
        ({"question_content": None}, "entry 3.*not text"),
        ({"video_id": None}, "entry 3.*not text"),
    ],
)
def test_bad_entries_are_named(tmp_path, changed, message):
    entry = {key: value for key, value in {**ENTRY, **changed}.items() if value is not ...}
    with pytest.raises(ValueError, match=message):
        read_question(entry, tmp_path, 3)
