"""UCF-101 on a miniature in the layout of the release: lists, clips, flow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from datasets import ClassLabel, Value, Video

from hf_bml.data import data_report, load_multimodal_dataset
from hf_bml.data.catalogue.ucf101 import load

CLASSES = ["ApplyEyeMakeup", "Archery", "HandstandPushups"]
GROUPS = range(1, 26)  # 1 to 7 are the test groups of split 1


@pytest.fixture
def release(tmp_path, write_media):
    """One clip per class and group, flow of two frame pairs; HandStandPushups as the lists spell it."""
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("".join(f"{row + 1} {name} \r\n" for row, name in enumerate(CLASSES)))
    for name, groups in (("trainlist01", range(8, 26)), ("testlist01", range(1, 8))):
        lines = []
        for row, action in enumerate(CLASSES):
            for group in groups:
                clip = f"v_{action.replace('Hands', 'HandS')}_g{group:02d}_c01"
                lines.append(f"{action}/{clip}.avi" + (f" {row + 1}" if name.startswith("train") else ""))
                write_media(tmp_path / "UCF-101" / action / f"v_{action}_g{group:02d}_c01.avi")
                for axis in "uv":
                    for frame in (1, 2):
                        write_media(tmp_path / "tvl1_flow" / axis / clip / f"frame{frame:06d}.jpg")
        (lists / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def group(row):
    return int(row["visual"]["path"].rpartition("_g")[2][:2])


def test_columns_splits_and_labels(release):
    dataset = load_multimodal_dataset("ucf101", data_dir=str(release))
    assert dict(dataset["train"].features) == {
        "visual": Video(decode=False),
        "flow": {"u": Value("string"), "v": Value("string")},
        "labels": ClassLabel(names=CLASSES),
    }
    groups = {split: {group(row) for row in rows} for split, rows in dataset.items()}
    assert dataset.num_rows == {"train": 48, "validation": 6, "test": 21}
    assert groups["test"] == set(range(1, 8)) and not groups["train"] & groups["validation"]
    for rows in dataset.values():
        assert set(rows["labels"]) == {0, 1, 2}
        for row in rows:
            assert f"/{CLASSES[row['labels']]}/" in row["visual"]["path"]
            name = row["visual"]["path"].rpartition("/")[2].removesuffix(".avi")
            for axis in "uv":
                folder = Path(row["flow"][axis])
                assert str(folder).lower() == f"{release}/tvl1_flow/{axis}/{name}".lower()
                assert sorted(path.name for path in folder.iterdir()) == ["frame000001.jpg", "frame000002.jpg"]


def test_three_modalities_without_flow_folder(release):
    dataset = load_multimodal_dataset("ucf101_three", data_dir=str(release), flow_dir="absent")
    assert dataset["train"].column_names == ["visual", "flow", "difference", "labels"]
    row = dataset["validation"][0]
    assert row["visual"] == row["flow"] == row["difference"]


def test_missing_video_and_flow(release):
    (release / "UCF-101" / "Archery" / "v_Archery_g01_c01.avi").unlink()
    shutil.rmtree(release / "tvl1_flow" / "v" / "v_Archery_g02_c01")
    dataset = load(data_dir=release)
    assert data_report(dataset) == {"test": {"missing files": ["v_Archery_g01_c01", "v_Archery_g02_c01"]}}
    assert data_report(load(data_dir=release, modalities=["flow"]))["test"] == {"missing files": ["v_Archery_g02_c01"]}


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("trainlist01.txt", "Archery/v_Archery_g09_c01.avi 1", r"class number 2 .*line 55, found '1'"),
        ("trainlist01.txt", "Archery/v_Archery_g09_c01.avi", "line 55"),
        ("testlist01.txt", "Archer/v_Archery_g09_c01.avi", "line 22, found 'Archer'. Did you mean 'Archery'"),
    ],
)
def test_bad_lines_are_named(release, name, line, message):
    with (release / "ucfTrainTestlist" / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        load(data_dir=release)


def test_errors(release):
    with pytest.raises(ValueError, match="split 1, 2 or 3, found 4"):
        load(split=4)
    with pytest.raises(ValueError, match=r"modalities out of.*'audio'"):
        load(modalities=["audio"])
    with pytest.raises(FileNotFoundError, match=r"trainlist02\.txt"):
        load(split=2, data_dir=release)
