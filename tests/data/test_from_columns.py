"""A user's own data: every source that `load_dataset` reads, joins, held-out groups, labels of any kind."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pandas as pd
import pytest
import soundfile
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Image,
    IterableDatasetDict,
    List,
    Value,
    Video,
    load_dataset,
)
from datasets.distributed import split_dataset_by_node
from media_samples import needs_media_columns
from PIL import Image as PILImage
from torch.utils.data import DataLoader

from hf_bml.data import check_dataset_dict, data_report, from_columns, load_multimodal_dataset

MODALITIES = {"audio": "wav", "visual": "mp4"}
MOODS = ["sad", "glad"]
SPLITS = ("train", "validation", "test")


def media(name):
    return {"bytes": name.encode(), "path": f"{name}"}


def clips(count=20, **columns):
    """Row r: sound `a<r>.wav`, film `v<r>.mp4`, mood r % 2, speaker r // 2."""
    return (
        Dataset.from_dict(
            {
                "wav": [media(f"a{row}.wav") for row in range(count)],
                "mp4": [media(f"v{row}.mp4") for row in range(count)],
                "mood": [MOODS[row % 2] for row in range(count)],
                "speaker": [row // 2 for row in range(count)],
                **columns,
            },
        )
        .cast_column("wav", Audio())
        .cast_column("mp4", Video())
    )


def numbers(split, modality="audio"):
    """Row numbers of the source, read from the names of the files."""
    return [int(value["bytes"].decode()[1:].split(".")[0]) for value in split[modality]]


def test_columns_labels_and_alignment():
    dataset = from_columns(clips(), MODALITIES, label="mood", dataset_name="mine")
    check_dataset_dict(dataset, "mine")
    assert dict(dataset["train"].features) == {
        "audio": Audio(decode=False),
        "visual": Video(decode=False),
        "labels": ClassLabel(names=["glad", "sad"]),
    }
    assert dataset.num_rows == {"train": 16, "validation": 2, "test": 2}
    rows = []
    for split in SPLITS:
        assert numbers(dataset[split]) == numbers(dataset[split], "visual")
        assert dataset[split]["labels"][:] == [1 - row % 2 for row in numbers(dataset[split])]
        rows += numbers(dataset[split])
    assert sorted(rows) == list(range(20))
    assert data_report(dataset) == {}


def test_types_are_of_paths_and_leave_media_as_they_are():
    typed = from_columns(clips(), MODALITIES, label="mood", types={"audio": "audio"})
    assert typed["train"][:] == from_columns(clips(), MODALITIES, label="mood")["train"][:]


def test_groups_stay_together():
    dataset = from_columns(clips(), MODALITIES, label="mood", group="speaker")
    speakers = [{row // 2 for row in numbers(dataset[split])} for split in SPLITS]
    assert [len(part) for part in speakers] == [8, 1, 1]
    assert len(set.union(*speakers)) == 10
    assert {name for split in SPLITS for name in dataset[split]["group"]} == set(map(str, clips()["speaker"]))


def test_released_splits_are_kept_and_named():
    source = DatasetDict(training=clips(6), dev=clips(4), test=clips(2))
    dataset = from_columns(source, MODALITIES, label="mood")
    assert dataset.num_rows == {"train": 6, "validation": 4, "test": 2}
    dataset = from_columns(source, MODALITIES, label="mood", splits={"train": "dev", "test": "training"})
    assert dataset.num_rows == {"train": 3, "validation": 1, "test": 6}


@pytest.mark.parametrize(
    ("values", "kind", "names", "labels"),
    [
        (["b", "a", "c", "a"], Value("string"), ["a", "b", "c"], [1, 0, 2, 0]),
        ([10, 2, 2, 1], Value("int64"), ["1", "2", "10"], [2, 1, 1, 0]),
        ([True, False, True, True], Value("bool"), ["False", "True"], [1, 0, 1, 1]),
        ([0, 1, 0, 1], ClassLabel(names=["z", "a"]), ["z", "a"], [0, 1, 0, 1]),
    ],
)
def test_labels_of_any_kind(values, kind, names, labels):
    rows = Dataset.from_dict({"text": list("wxyz"), "kind": values}).cast_column("kind", kind)
    dataset = from_columns(DatasetDict(train=rows, validation=rows, test=rows), {"text": "text"}, label="kind")
    assert dataset["test"].features["labels"].names == names
    assert dataset["test"]["labels"][:] == labels


NUMBER, NAMED = Value("float32"), List(ClassLabel(names=["a", "b"]))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("columns", "options", "kind", "labels"),
    [
        ({"label": [0.5, 2.0, -1.0]}, {}, NUMBER, [0.5, 2.0, -1.0]),
        ({"label": [3, 1, 2]}, {"numbers": True}, NUMBER, [3.0, 1.0, 2.0]),
        (
            {"x": [3, 1, 2], "y": [0.5, 0.0, 1.0]},
            {"label": ["x", "y"], "numbers": True},
            List(NUMBER, length=2),
            [[3.0, 0.5], [1.0, 0.0], [2.0, 1.0]],
        ),
        ({"label": [["b"], [], ["b", "a", "b"]]}, {"classes": ["a", "b"]}, NAMED, [[1], [], [0, 1]]),
        ({"label": [["c", "b"], [], ["a"]]}, {"classes": ["a", "b"]}, NAMED, [[1], [], [0]]),
        ({"label": [[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]]}, {"classes": ["a", "b"]}, NAMED, [[1], [], [0, 1]]),
        ({"a": [False, False, True], "b": [1, 0, 1]}, {"label": ["a", "b"]}, NAMED, [[1], [], [0, 1]]),
        (
            {"a": [False, False, True], "b": [1.0, 0.0, 1.0]},
            {"label": ["a", "b"], "classes": ["b"]},
            List(ClassLabel(names=["b"])),
            [[0], [], [0]],
        ),
    ],
)
def test_numbers_and_several_classes_a_row(columns, options, kind, labels, streaming):
    rows = Dataset.from_dict({"text": list("xyz"), **columns})
    source = DatasetDict(train=rows, validation=rows, test=rows)
    if streaming:
        source = IterableDatasetDict({split: own.to_iterable_dataset() for split, own in source.items()})
    dataset = check_dataset_dict(from_columns(source, {"text": "text"}, **options), "mine")
    assert dataset["test"].features["labels"] == kind
    assert [row["labels"] for row in dataset["test"]] == labels


@pytest.mark.parametrize(
    ("values", "names", "labels"),
    [
        ([["b"], ["c", "a"]], ["a", "b", "c"], [[1], [0, 2]]),
        ([[10, 2], [3]], ["2", "3", "10"], [[0, 2], [1]]),
        ([[0, 1, 1], [1, 0, 0]], ["0", "1", "2"], [[1, 2], [0]]),  # equally many, 0 and 1 only
    ],
)
def test_names_of_several_classes_a_row(values, names, labels):
    rows = Dataset.from_dict({"text": ["x", "y"], "label": values})
    dataset = from_columns(DatasetDict(train=rows, validation=rows, test=rows), {"text": "text"})
    assert dataset["train"].features["labels"] == List(ClassLabel(names=names))
    assert dataset["train"]["labels"][:] == labels


def test_names_that_classes_lack_are_reported():
    rows = Dataset.from_dict({"text": list("xyz"), "label": [["c", "b"], [], ["a"]]})
    dataset = from_columns(DatasetDict(train=rows, validation=rows, test=rows), {"text": "text"}, classes=["a"])
    assert dataset.num_rows["train"] == 3
    assert data_report(dataset)["train"] == {"other classes": ["b", "c"]}


def test_numbers_and_several_classes_are_held_out_by_group_and_joined():
    moods = [["sad"], ["sad", "glad"]] * 10
    dataset = from_columns(clips(mood=moods), MODALITIES, label="mood", group="speaker")
    assert [len({row // 2 for row in numbers(rows)}) for rows in dataset.values()] == [8, 1, 1]
    for rows in dataset.values():
        assert rows["labels"][:] == [[[1], [0, 1]][row % 2] for row in numbers(rows)]
    left = texts(list("1234"), mood=[0.1, 0.2, 0.3, 0.4])
    right = texts(list("4321"), "other", mood=np.float32([0.4, 0.3, 0.2, 0.1]))
    joined = from_columns([left, right], **JOINED)
    assert sorted(value for rows in joined.values() for value in rows["labels"]) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    several = texts(list("1234"), mood=[["a", "b"], ["b"], [], ["a"]])
    agreeing = texts(list("1234"), "other", mood=[["b", "a"], ["b"], [], ["a"]])
    assert len(joined_texts(from_columns([several, agreeing], **JOINED))) == 4
    for first, other in ((left, [0.1, 0.2, 0.5, 0.4]), (several, [["a"], ["b"], [], ["a"]])):
        with pytest.raises(ValueError, match="Expected one label 'mood' for each joined row"):
            from_columns([first, texts(list("1234"), "other", mood=other)], **JOINED)


def labelled(names, kind=None):
    """One row per class name, the name in `text` too."""
    rows = Dataset.from_dict({"text": list(names), "mood": list(names)})
    return rows.class_encode_column("mood") if kind is None else rows.cast_column("mood", kind)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        (labelled("cab"), labelled("cb"), ["a", "b", "c"]),  # what `DatasetDict.class_encode_column` makes of them
        (labelled("ab", ClassLabel(names=["b", "a"])), labelled("ab", ClassLabel(names=["a", "b"])), ["b", "a"]),
        (labelled("ab"), labelled("da"), ["a", "b", "d"]),
        (labelled("ab"), labelled("ba", Value("string")), ["a", "b"]),
    ],
)
def test_classes_of_splits_are_matched_by_name(train, test, names, streaming):
    source = DatasetDict(train=train, validation=train, test=test)
    if streaming:
        source = IterableDatasetDict({split: rows.to_iterable_dataset() for split, rows in source.items()})
    dataset = check_dataset_dict(from_columns(source, {"text": "text"}, label="mood"), "mine")
    for split, rows in dataset.items():
        assert rows.features["labels"].names == names
        given = (test if split == "test" else train)["text"][:]
        assert [row["text"] for row in rows] == [names[row["labels"]] for row in rows] == given


def test_labels_that_only_one_split_writes_out():
    numbers = Dataset.from_dict({"text": ["a", "b"], "mood": [0, 1]})
    for source in (DatasetDict(train=labelled("ab"), test=numbers), DatasetDict(train=numbers, test=labelled("ab"))):
        with pytest.raises(
            ValueError, match=r"Expected classes of train, \w, \w, in split 'test' of 'from_columns', "
        ):
            from_columns(source, {"text": "text"}, label="mood")
    stream = IterableDatasetDict(train=labelled("ab").to_iterable_dataset(), test=numbers.to_iterable_dataset())
    with pytest.raises(ValueError, match=r"Expected a label of a, b in every row of split 'test'.* found 0"):
        list(from_columns(stream, {"text": "text"}, label="mood")["test"])
    stream["test"] = labelled("cd").to_iterable_dataset()
    with pytest.raises(ValueError, match=r"classes of train, a, b, in split 'test'.* found none of them but c, d"):
        from_columns(stream, {"text": "text"}, label="mood")


def test_a_stream_without_some_labels():
    for values, kind, found in ((["sad", None], None, "None"), ([0, -1], ClassLabel(names=["sad"]), "-1")):
        rows = Dataset.from_dict({"text": ["a", "b"], "mood": values})
        rows = (rows.cast_column("mood", kind) if kind else rows).to_iterable_dataset()
        source = IterableDatasetDict(train=rows, validation=rows, test=rows)
        dataset = from_columns(source, {"text": "text"}, label="mood", classes=["sad"])
        with pytest.raises(ValueError, match=f"Expected a label of sad in every row of split 'train'.* found {found}"):
            list(dataset["train"])


@pytest.mark.parametrize("shares", [(0.6, 0.6), (0.5, 0.5), (0.0, 0.1), (-0.1, 0.1), (0.1, 1.0)])
def test_fractions_that_leave_nothing_of_a_stream(shares):
    options = {"label": "mood", "classes": MOODS, "validation_fraction": shares[0], "test_fraction": shares[1]}
    stream = clips(4).to_iterable_dataset()
    with pytest.raises(ValueError, match=rf"in \(0, 1\), less than 1 together.* found .*{shares[0]}"):
        from_columns(stream, MODALITIES, **options)
    given = IterableDatasetDict(train=stream, validation=stream, test=stream)
    assert len(list(from_columns(given, MODALITIES, **options)["train"])) == 4  # nothing is held out


def test_classes_choose_and_order():
    dataset = from_columns(clips(), MODALITIES, label="speaker", classes=["7", "2", "1", "3"])
    assert dataset["train"].features["labels"].names == ["7", "2", "1", "3"]
    for split in SPLITS:
        assert [["7", "2", "1", "3"].index(str(row // 2)) for row in numbers(dataset[split])] == dataset[split][
            "labels"
        ]
    assert data_report(dataset) == {"train": {"other classes": ["0", "4", "5", "6", "8", "9"]}}


def test_one_column_can_serve_two_modalities():
    dataset = from_columns(clips(), {"visual": "mp4", "flow": "mp4"}, label="mood")
    assert numbers(dataset["train"], "visual") == numbers(dataset["train"], "flow")


def test_two_unimodal_sources_joined_on_a_key():
    sounds = clips(12, key=[f"k{row}" for row in range(12)]).select_columns(["wav", "mood", "key"])
    films = clips(12, clip=[f"k{row}" for row in range(12)]).select_columns(["mp4", "clip", "speaker"])
    films = films.select([5, 4, 3, 9, 8, 7, 6, 2, 1, 0, 5])  # other order, 10 and 11 missing, 5 twice
    dataset = from_columns([sounds, films], MODALITIES, label="mood", join_on=["key", "clip"], group="speaker")
    rows = []
    for split in SPLITS:
        assert numbers(dataset[split]) == numbers(dataset[split], "visual")
        assert dataset[split]["labels"][:] == [1 - row % 2 for row in numbers(dataset[split])]
        rows += numbers(dataset[split])
    assert sorted(rows) == list(range(10))
    assert data_report(dataset) == {"train": {"unmatched keys": ["k10", "k11"], "repeated keys": ["k5"]}}


def texts(keys, column="text", **columns):
    return Dataset.from_dict({"key": keys, column: [f"{column} {key}" for key in keys], **columns})


JOINED = {"modalities": {"text": "text", "other": "other"}, "label": "mood", "join_on": "key"}


def joined_texts(dataset):
    return sorted((row["text"], row["other"]) for rows in dataset.values() for row in rows)


def test_rows_without_a_key_are_not_joined():
    left = texts(["1", None, "2", "3", ""], mood=list("ababa"))
    right = texts([None, "1", "2", "3", ""], "other")
    dataset = from_columns([left, right], **JOINED)
    assert joined_texts(dataset) == [(f"text {key}", f"other {key}") for key in "123"]
    without = ["row 1 of source 0", "row 4 of source 0", "row 0 of source 1", "row 4 of source 1"]
    assert data_report(dataset) == {"train": {"rows without a key": without}}


def test_media_without_names_are_not_joined():
    options = {"modalities": MODALITIES, "label": "mood", "join_on": ["wav", "mp4"]}
    nameless = [{"bytes": b"%d" % row, "path": f"{row}" if row < 3 else None} for row in range(4)] + [None]
    sounds = Dataset.from_dict({"wav": nameless, "mood": list("ababa")}).cast_column("wav", Audio())
    films = Dataset.from_dict({"mp4": nameless[::-1]}).cast_column("mp4", Video())
    dataset = from_columns([sounds, films], **options)
    rows = [(row["audio"]["bytes"], row["visual"]["bytes"]) for split in SPLITS for row in dataset[split]]
    assert sorted(rows) == [(b"%d" % row,) * 2 for row in range(3)]
    assert len(data_report(dataset)["train"]["rows without a key"]) == 4
    with pytest.raises(ValueError, match="found none in the first and 2, 1, 0 in the second source"):
        from_columns([sounds.select([3, 4]), films], **options)


def test_numbers_and_the_floats_that_pandas_makes_of_them():
    left = Dataset.from_pandas(pd.DataFrame({"key": [1, 2, None, 4], "text": list("abcd"), "mood": list("xyxy")}))
    right = Dataset.from_dict({"key": [1, 2, 3, 4], "other": list("abcd")})
    assert left.features["key"].dtype == "float64"
    dataset = from_columns([left, right], **JOINED)
    assert joined_texts(dataset) == [("a", "a"), ("b", "b"), ("d", "d")]
    report = {"unmatched keys": ["3"], "rows without a key": ["row 2 of source 0"]}
    assert data_report(dataset) == {"train": report}
    gaps = left.to_dict()  # NaN, where a null became one
    gaps["key"][2] = float("nan")
    assert data_report(from_columns([Dataset.from_dict(gaps), right], **JOINED)) == {"train": report}


def test_labels_of_two_sources_must_agree_where_they_are_joined():
    left = texts(list("123456"), mood=[*"ababab"])
    right = texts(list("654321x"), "other", mood=["b", "a", None, "a", "b", "a", "other"])
    dataset = from_columns([left, right.class_encode_column("mood")], **JOINED)  # by name; row x is not joined
    assert len(joined_texts(dataset)) == 6
    with pytest.raises(
        ValueError, match=r"label 'mood' .* 'train', found 'b' in source 0 and 'a' in source 2 .*'4' \(1"
    ):
        from_columns([left, right.remove_columns("mood"), texts(list("123456"), "c", mood=[*"abaaab"])], **JOINED)
    nested = [{"mood": mood} for mood in "abbbab"]
    options = {**JOINED, "label": "json.mood"}
    with pytest.raises(ValueError, match=r"'json.mood' .*found 'a' in source 0 and 'b' in source 1 .*'3' \(1 such"):
        from_columns(
            [
                texts(list("123456"), json=[{"mood": mood} for mood in "ababab"]),
                texts(list("123456"), "other", json=nested),
            ],
            **options,
        )


def test_join_on_the_names_of_the_files():
    sounds = Dataset.from_dict({"audio": [f"x/{row}.wav" for row in range(6)], "mood": list("ababab")})
    films = Dataset.from_dict({"video": [f"y/{row}.mp4" for row in range(6)]})
    dataset = from_columns(
        [sounds.cast_column("audio", Audio()), films.cast_column("video", Video())],
        {"audio": "audio", "visual": "video"},
        label="mood",
        join_on=["audio", "video"],
    )
    for row in dataset["train"]:
        assert row["audio"]["path"][2] == row["visual"]["path"][2]


def write_clips(folder, count):
    """A WAV and a PNG per clip."""
    for row in range(count):
        soundfile.write(folder / f"c{row}.wav", np.full(160, row / 100), 16000)
        PILImage.new("L", (8, 6), row).save(folder / f"c{row}.png")


def test_csv_of_paths(tmp_path):
    write_clips(tmp_path, 10)
    frame = pd.DataFrame(
        {"sound": [f"c{row}.wav" for row in range(12)], "image": [f"c{row}.png" for row in range(12)]}
    )
    frame["mood"] = [MOODS[row % 2] for row in range(12)]
    frame.to_csv(tmp_path / "clips.csv", index=False)
    dataset = load_multimodal_dataset(
        "from_columns",
        path="csv",
        data_files=str(tmp_path / "clips.csv"),
        modalities={"audio": "sound", "visual": "image"},
        label="mood",
        types={"audio": "audio", "visual": "image"},
        media_dir=str(tmp_path),
    )
    assert sum(dataset.num_rows.values()) == 10
    row = dataset["train"][0]
    assert row["audio"]["bytes"] is None and soundfile.info(row["audio"]["path"]).frames == 160
    assert row["visual"]["path"] == row["audio"]["path"].replace("wav", "png")
    assert data_report(dataset) == {"train": {"missing files": [str(tmp_path / f"c{row}.png") for row in (10, 11)]}}


def test_files_by_name_with_media_beside_them(tmp_path, monkeypatch):
    (tmp_path / "sounds").mkdir()
    for row in range(6):
        soundfile.write(tmp_path / "sounds" / f"c{row}.wav", np.full(160, row / 100), 16000)
    frame = pd.DataFrame({"wav": [f"sounds/c{row}.wav" for row in range(6)], "mood": MOODS * 3})
    frame.to_csv(tmp_path / "clips.csv", index=False)
    frame.to_csv(tmp_path / "clips.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "clips.parquet")
    frame.to_csv(tmp_path / "sounds" / "below.csv", index=False)
    options = {"modalities": {"audio": "wav"}, "label": "mood", "types": {"audio": "audio"}}
    sources = [{"path": str(tmp_path / f"clips.{suffix}")} for suffix in ("csv", "tsv", "parquet")]
    sources.append({"path": "csv", "data_files": str(tmp_path / "clips.csv")})
    sources.append({"path": "csv", "data_files": {"train": str(tmp_path / "clips.parquet")}})  # the suffix wins
    for source in sources:
        loaded = load_multimodal_dataset("from_columns", **source, **options)
        assert loaded["train"][0]["audio"]["path"] == str(tmp_path / "sounds" / "c0.wav")
        path, *files = source.values()
        given = from_columns(path, **options, data_files=files[0] if files else None)
        assert [given[split][:] for split in SPLITS] == [loaded[split][:] for split in SPLITS]
    below = tmp_path / "sounds" / "below.csv"
    with pytest.raises(FileNotFoundError, match=f"in {tmp_path}/sounds and .*found none of 6.*Pass media_dir"):
        from_columns(below, **options)
    assert from_columns(below, **options, media_dir=tmp_path).num_rows == given.num_rows
    monkeypatch.chdir(tmp_path)
    assert from_columns(below, **options).num_rows == given.num_rows  # as before there were such files
    for source, message in (
        ({"dataset": "other.csv"}, f"'other.csv', found none in {tmp_path}"),
        ({"dataset": "csv", "data_files": "other.csv"}, "other.csv"),
        ({"dataset": "clips.csv", "data_files": "clips.csv"}, "a file or data_files"),
        ({"dataset": clips(), "data_files": "clips.csv"}, "the first a Dataset"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            from_columns(**source, **options)


def test_a_cell_without_a_path_is_a_row_without_the_modality(tmp_path):
    write_clips(tmp_path, 10)
    lines = [f"{'' if row < 4 else f'c{row}.wav'},c{row}.png,{MOODS[row % 2]}" for row in range(10)]
    (tmp_path / "clips.csv").write_text("\n".join(["sound,image,mood", *lines]))
    source = load_dataset("csv", data_files=str(tmp_path / "clips.csv"))
    options = {"label": "mood", "types": {"audio": "audio", "visual": "image"}, "media_dir": tmp_path}
    dataset = from_columns(source, {"audio": "sound", "visual": "image"}, **options)
    rows = [row for split in SPLITS for row in dataset[split]]
    assert len(rows) == 10 and data_report(dataset) == {}
    for row in rows:
        name = row["visual"]["path"].removesuffix("png")
        assert row["audio"] == (None if name[-2] in "0123" else {"bytes": None, "path": f"{name}wav"})


def test_audiofolder_joined_with_imagefolder(tmp_path):
    needs_media_columns()
    for folder in ("sounds/sad", "sounds/glad", "images/sad", "images/glad"):
        (tmp_path / folder).mkdir(parents=True)
    write_clips(tmp_path, 20)
    for row in range(20):
        for kind, suffix in (("sounds", "wav"), ("images", "png")):
            (tmp_path / f"c{row}.{suffix}").rename(tmp_path / kind / MOODS[row % 2] / f"c{row}.{suffix}")
    dataset = load_multimodal_dataset(
        "from_columns",
        path="audiofolder",
        data_dir=str(tmp_path / "sounds"),
        join=[{"path": "imagefolder", "data_dir": str(tmp_path / "images")}],
        join_on=["audio", "image"],
        modalities={"audio": "audio", "visual": "image"},
    )
    assert dataset["train"].features["labels"].names == ["glad", "sad"]
    assert dataset["train"].features["visual"] == Image(decode=False)
    for row in dataset["train"]:
        folder, _, name = row["audio"]["path"].rpartition("/")
        assert row["visual"]["path"].endswith(f"{folder.rpartition('/')[2]}/{name.replace('wav', 'png')}")
        assert folder.endswith(["glad", "sad"][row["labels"]])


def webdataset(path, count):
    with tarfile.open(path, "w") as archive:
        for row in range(count):
            sound = io.BytesIO()
            soundfile.write(sound, np.zeros(160), 16000, format="WAV")
            parts = {"wav": sound.getvalue(), "mp4": b"film", "json": json.dumps({"mood": MOODS[row % 2]}).encode()}
            for suffix, data in parts.items():
                member = tarfile.TarInfo(f"c{row}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("streaming", [False, True])
def test_webdataset_with_the_label_in_json(tmp_path, streaming):
    needs_media_columns()
    webdataset(tmp_path / "train-0.tar", 30)
    dataset = load_multimodal_dataset(
        "from_columns",
        path="webdataset",
        data_files={"train": str(tmp_path / "train-*.tar")},
        modalities=MODALITIES,
        label="json.mood",
        classes=["sad", "glad"],
        streaming=streaming,
    )
    rows = [row for split in SPLITS for row in dataset[split]]
    assert len(rows) == 30 and sum(row["labels"] for row in rows) == 15
    assert set(rows[0]) == {"audio", "visual", "labels"} and rows[0]["visual"]["bytes"] == b"film"


def test_streaming_parquet_splits_by_group_without_overlap(tmp_path):
    clips(200).to_parquet(tmp_path / "train.parquet")
    source = load_dataset("parquet", data_files=str(tmp_path / "train.parquet"), streaming=True)
    options = {"label": "mood", "classes": ["glad", "sad"], "group": "speaker", "validation_fraction": 0.2}
    dataset = from_columns(source, MODALITIES, **options)
    assert isinstance(check_dataset_dict(dataset, "mine"), IterableDatasetDict)
    rows = {split: [int(row["audio"]["bytes"].decode()[1:-4]) for row in dataset[split]] for split in SPLITS}
    assert sorted(row for part in rows.values() for row in part) == list(range(200))
    speakers = [{row // 2 for row in part} for part in rows.values()]
    assert sum(map(len, speakers)) == 100
    assert 10 <= len(speakers[1]) <= 30 and 3 <= len(speakers[2]) <= 20
    assert [row["labels"] for row in dataset["test"]] == [1 - row % 2 for row in rows["test"]]


HELD_OUT = {"label": "mood", "classes": ["glad", "sad"], "validation_fraction": 0.2, "test_fraction": 0.2}


@pytest.mark.parametrize("group", [None, "speaker", "wav"])
def test_a_streams_splits_do_not_depend_on_the_order(group):
    source, options = clips(60).to_iterable_dataset(num_shards=4), {**HELD_OUT, "group": group}
    dataset = from_columns(source, MODALITIES, **options)
    expected = {split: set(numbers_of(rows)) for split, rows in dataset.items()}
    assert set.union(*expected.values()) == set(range(60)) and sum(map(len, expected.values())) == 60
    assert all(4 <= len(expected[split]) <= 24 for split in ("validation", "test"))
    before = from_columns(source.shuffle(seed=1, buffer_size=25), MODALITIES, **options)
    by_node = [from_columns(split_dataset_by_node(source, rank, 3), MODALITIES, **options) for rank in range(3)]
    for split, rows in dataset.items():
        assert (
            set(numbers_of(before[split])) == set(numbers_of(rows.shuffle(seed=0, buffer_size=7))) == expected[split]
        )
        assert sorted(row for part in by_node for row in numbers_of(part[split])) == sorted(expected[split])
        parts = [row for rank in range(3) for row in numbers_of(split_dataset_by_node(rows, rank, 3))]
        assert sorted(parts) == sorted(expected[split])


def test_a_streams_splits_do_not_depend_on_the_workers():
    source = clips(60).to_iterable_dataset(num_shards=4)
    shuffled = from_columns(source.shuffle(seed=3, buffer_size=20), MODALITIES, **HELD_OUT)
    for split, rows in from_columns(source, MODALITIES, **HELD_OUT).items():
        loader = DataLoader(shuffled[split], batch_size=None, num_workers=2)
        assert sorted(numbers_of(loader)) == sorted(numbers_of(rows))


def numbers_of(rows):
    return [int(row["audio"]["bytes"].decode()[1:-4]) for row in rows]


def test_a_streams_splits_by_plain_content():
    """Text, numbers and lists of images; equal content stays together."""
    pixel = {"bytes": b"pixel", "path": None}
    columns = {
        "text": [f"word {row // 2}" for row in range(60)],
        "sensor": [[0.5, row // 2] for row in range(60)],
        "frames": [None if row < 6 else [{"bytes": b"%d" % (row // 2), "path": f"{row}"}, pixel] for row in range(60)],
        "row": list(range(60)),
        "mood": ["sad"] * 60,
    }
    source = (
        Dataset.from_dict(columns).cast_column("frames", List(Image(decode=False))).to_iterable_dataset(num_shards=3)
    )
    for column in ("text", "sensor", "frames"):
        options = {"label": "mood", "classes": ["sad"], "validation_fraction": 0.3}
        dataset = from_columns(source, {"visual": column, "row": "row"}, **options)
        assert sorted(row["row"] for rows in dataset.values() for row in rows) == list(range(60))
        alone = from_columns(source, {"visual": column}, **options)
        found = [{json.dumps(row["visual"], default=str) for row in rows} for rows in alone.values()]
        assert not found[0] & found[1] and not found[0] & found[2] and len(found[1]) > 2


def test_paths_alone_do_not_hold_out_of_a_stream():
    columns = {"wav": [f"/here/{row % 30}.wav" for row in range(60)], "mood": ["sad"] * 60}
    source = Dataset.from_dict(columns).cast_column("wav", Audio()).to_iterable_dataset()
    options = {"label": "mood", "classes": ["sad"]}
    with pytest.raises(ValueError, match=r"Expected group=COLUMN .* only the path '/here/0\.wav' in 'wav'"):
        next(iter(from_columns(source, {"audio": "wav"}, **options)["train"]))
    dataset = from_columns(source, {"audio": "wav"}, group="wav", **options)
    elsewhere = Dataset.from_dict({**columns, "wav": [path.replace("here", "there") for path in columns["wav"]]})
    elsewhere = elsewhere.cast_column("wav", Audio()).to_iterable_dataset()
    moved = from_columns(elsewhere, {"audio": "wav"}, group="wav", **options)
    for split, rows in dataset.items():
        assert [row["audio"]["path"].replace("here", "there") for row in rows] == [
            row["audio"]["path"] for row in moved[split]
        ]
    nameless = Dataset.from_dict({"wav": [{"bytes": b"a", "path": None}], "mood": ["sad"]}).cast_column("wav", Audio())
    with pytest.raises(ValueError, match="Expected names of files in the column 'wav'"):
        list(from_columns(nameless.to_iterable_dataset(), {"audio": "wav"}, group="wav", **options)["train"])
    given = IterableDatasetDict(train=source, validation=source, test=source)  # nothing to hold out, nothing to ask
    assert len(list(from_columns(given, {"audio": "wav"}, **options)["train"])) == 60


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (clips(), {"modalities": {"audio": "wave"}}, "column 'wave'.*Did you mean 'wav'"),
        (clips(), {"label": "moods"}, "column 'moods'.*Did you mean 'mood'"),
        (clips(), {"group": "speakers"}, "column 'speakers'"),
        (clips(), {"classes": ["angry"]}, r"\['angry'\].*found \['glad', 'sad'\]"),
        (clips(), {"types": {"audio": "sound"}}, r"\{'audio': 'sound'\}"),
        (clips(), {"types": {"sound": "audio"}}, r"\{'sound': 'audio'\}"),
        (DatasetDict(test=clips()), {}, r"found \['test'\].*\{'train': 'test'\}"),
        (clips(), {"splits": {"train": "train", "test": "testing"}}, "'testing'"),
        (clips(), {"validation_fraction": 1.5}, "fraction in"),
        (clips(), {"label": "speaker", "group": "missing"}, "'missing'"),
        (clips(4, mood=["sad", None, "glad", None]), {}, "'train'.*2 rows: 1, 3"),
        (clips(4, mood=[0.5, 1.0, 2.0, 0.0]), {"classes": ["1.0"]}, "classes.*float64"),
        (clips(4, mood=[0.5, None, float("nan"), 0.0]), {}, "finite number.*'train'.*2 rows: 1, 2"),
        (clips(4), {"numbers": True}, "numbers as labels.*string"),
        (clips(4), {"label": "speaker", "numbers": True, "classes": ["1"]}, r"found classes=\['1'\]"),
        (clips(4), {"label": []}, "list of columns"),
        (clips(4), {"label": ["speaker", "moods"]}, "'moods'.*Did you mean 'mood'"),
        (clips(4, loud=[0, 1, 2, 0]), {"label": ["speaker", "loud"]}, "row 2: expected a 0 or 1.*found 1, 2.*numbers"),
        (clips(4, mood=[["sad"], None, [None], []]), {}, "labels out of sad.*2 rows: 1, 2"),
        (clips(4, mood=[[0.5, 1.0]] * 4), {}, "row 0: expected a 0 or 1.*numbers: true"),
        (clips(4, mood=[[0.5], [0.5, 1.0]] * 2), {"numbers": True}, "row 1: expected 1 numbers, found 2"),
        (clips(4, mood=[[True, False]] * 4), {"classes": ["sad"]}, r"each of the classes \['sad'\].*\[2\] a row"),
        (clips(4, mood=[["sad"]] * 4), {"classes": ["glad"]}, r"\['glad'\].*found \['sad'\]"),
        (
            DatasetDict(train=clips(4, mood=[["sad"]] * 4), test=clips(4, mood=[["glad"]] * 4)),
            {},
            "classes of train, sad, in split 'test'",
        ),
        ([clips(), clips()], {}, "join_on=None"),
        ([clips(), clips()], {"join_on": "id"}, "key column 'id'"),
        ([clips(), clips()], {"join_on": "speaker"}, r"\['mp4', 'wav'\] in one source"),
        (
            [clips(key=["x"] * 20).select_columns(["wav", "key", "mood"]), clips(key=["y"] * 20)],
            {"join_on": "key"},
            "common keys.*x.*y",
        ),
    ],
)
def test_bad_input_is_named(source, options, message):
    with pytest.raises(ValueError, match=message):
        from_columns(source, **{"modalities": MODALITIES, "label": "mood", **options})


def test_streaming_needs_classes_and_types(tmp_path):
    stream = Dataset.from_dict({"text": ["a"], "mood": ["sad"]}).to_iterable_dataset()
    with pytest.raises(ValueError, match="classes of 'from_columns' for streaming"):
        from_columns(stream, {"text": "text"}, label="mood")
    with pytest.raises(ValueError, match=r"types=\{'text': 'audio'\}"):
        from_columns(stream, {"text": "text"}, label="mood", classes=["sad"], types={"text": "audio"})
    (tmp_path / "clips.csv").write_text("text,mood\na,sad\n")
    stream = load_dataset("csv", data_files=str(tmp_path / "clips.csv"), streaming=True)
    with pytest.raises(ValueError, match="declared types"):
        from_columns(stream, {"text": "text"}, label="mood", classes=["sad"])


def test_a_folder_or_several_are_loaded(tmp_path):
    for name, column in (("sounds", "wav"), ("films", "mp4")):
        (tmp_path / name).mkdir()
        rows = clips(20, key=list(range(20)))
        rows.select_columns([column, "key", *(["mood"] if column == "wav" else [])]).to_parquet(
            tmp_path / name / "train.parquet"
        )
    folders = [tmp_path / "sounds", str(tmp_path / "films")]
    alone = from_columns(folders[0], {"audio": "wav"}, label="mood")
    both = from_columns(folders, MODALITIES, label="mood", join_on="key")
    assert numbers(alone["train"]) == numbers(both["train"]) == numbers(both["train"], "visual")
    with pytest.raises(ValueError, match=rf"column 'wave' in '{tmp_path}/sounds'"):
        from_columns(folders[0], {"audio": "wave"}, label="mood")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        from_columns(str(tmp_path / "nowhere"), MODALITIES, label="mood")


def test_load_needs_modalities():
    with pytest.raises(ValueError, match="Expected modalities"):
        load_multimodal_dataset("from_columns", path="csv")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_part_of_a_column_is_the_group(streaming):
    rows = {"text": list("abcdefgh"), "label": ["x", "y"] * 4, "id": [f"01-{n % 4}.mp4" for n in range(8)]}
    source = Dataset.from_dict(rows).cast_column("label", ClassLabel(names=["x", "y"]))
    source = source.to_iterable_dataset() if streaming else source
    options = {"group": "id", "group_pattern": "-([0-9])[.]mp4$", "test_fraction": 0.25, "validation_fraction": 0.25}
    dataset = from_columns(source, {"text": "text"}, **options)
    actors = {split: {ord(row["text"]) % 4 for row in rows} for split, rows in dataset.items()}
    assert sum(map(len, actors.values())) == 4 and set.union(*actors.values()) == {0, 1, 2, 3}
    if not streaming:
        assert set(dataset["train"]["group"]) <= set("0123")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"group_pattern": "(a)"}, "and the column as group"),
        ({"group": "label", "group_pattern": "a"}, r"with `\(\.\.\.\)` around the group"),
        ({"group": "label", "group_pattern": "("}, "Expected a regular expression"),
        ({"group": "label", "group_pattern": "(z)"}, "Expected '\\(z\\)' in the column 'label'"),
    ],
)
def test_patterns_that_are_none(options, error):
    source = Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    with pytest.raises(ValueError, match=error):
        from_columns(source, {"text": "text"}, **options)
