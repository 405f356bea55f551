"""`hf-bml init`: what it writes trains as it is."""

from __future__ import annotations

import json

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hf_bml.cli import main
from hf_bml.study.first_recipe import length_of
from hf_bml.study.recipe_yaml import read_recipe

MOOD = ["--label", "mood"]
QUICK = ["--max_steps", "2", "--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none"]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """`my.csv` in the current folder, with videos that have sound, images, text, and labels of several types."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    with av.open(str(tmp_path / "clips" / "0.mp4"), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=25), container.add_stream("aac", rate=16000)
        video.width, video.height = 32, 24
        for shade in range(0, 240, 20):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), shade, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = np.sin(np.arange(8192) / 9).astype(np.float32)
        for start in range(0, 8192, 1024):
            samples = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 16000, start
            container.mux(audio.encode(samples))
        container.mux(audio.encode())
    Image.new("RGB", (12, 10)).save(tmp_path / "clips" / "0.png")
    rows = range(40)
    table = pd.DataFrame({"mp4": ["clips/0.mp4"] * 40, "png": ["clips/0.png"] * 40})
    table["words"] = [f"this is row {row % 5}" for row in rows]
    table["mood"] = [["sad", "glad"][row % 2] for row in rows]
    table["pulse"] = [60.5 + row for row in rows]
    table["gaps"] = [None if row == 3 else row % 2 for row in rows]
    table["same"], table["loud"], table["calm"] = 0.5, [row % 2 for row in rows], [row % 3 == 0 for row in rows]
    table["speaker"], table["id"] = [row // 4 for row in rows], list(rows)
    table.to_csv(tmp_path / "my.csv", index=False)
    return table


def test_a_recipe_of_four_modalities_trains(table, tmp_path, capsys):
    command = [
        "init",
        "--dataset",
        "my.csv",
        "--label",
        "mood",
        "--audio",
        "mp4",
        "--visual",
        "mp4",
        "--text",
        "words",
    ]
    assert main([*command, "--modality", "face=png", "--group", "speaker"]) == 0
    printed = capsys.readouterr().out
    assert "next: hf-bml train my.yaml" in printed and "compare my.yaml --modulations none opm" in printed
    for line in (
        "audio   mp4: sound, 16000 Hz, 0.5 s",
        "visual  mp4: videos 24 x 32",
        "text    words: text of 4 words",
    ):
        assert line in printed
    recipe = read_recipe("my.yaml")
    assert list(recipe["modalities"]) == ["audio", "visual", "text", "face"]
    assert recipe["dataset_options"]["types"] == {"audio": "audio", "visual": "video", "face": "image"}
    assert {name: options["type"] for name, options in recipe["processors"].items()} == {
        "audio": "log_spectrogram",
        "visual": "video",
        "text": "words",
        "face": "frames",
    }
    written = (tmp_path / "my.yaml").read_text()
    assert main(["train", "my.yaml", "--output_dir", "run", *QUICK]) == 0
    assert set(json.loads((tmp_path / "run" / "metrics.json").read_text())["final_ratios"]) == set(
        recipe["modalities"]
    )
    assert main([*command, "--output", "my.yaml"]) == 2
    assert "my.yaml exists" in capsys.readouterr().err and (tmp_path / "my.yaml").read_text() == written
    assert main(["init", "--dataset", "my.csv", "--text", "words", "--force", *MOOD]) == 0
    recipe = read_recipe("my.yaml")  # one modality has nothing to balance
    assert "modulations" not in recipe and "speaker" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--text", "word", *MOOD], "Did you mean 'words'"),
        (["--text", "words", "--label", "gaps"], "'gaps' in every row, found none in 1"),
        (["--text", "words", "--label", "id"], "found 25 different values of 'id'"),
        (["--text", "words", "--label", "same"], "Expected different numbers in 'same'"),
        (["--text", "words"], "Expected a column 'label'"),
        (MOOD, "at least one modality"),
        (["--audio", "png:sound", *MOOD], "kind of a modality must be one of"),
        (["--modality", "words", *MOOD], "expected NAME=COLUMN"),
        (["--modality", "x=pulse", *MOOD], "a single float64 a row"),
        (["--text", "words", "--modality", "text=mood", *MOOD], "every modality once"),
        (["--image", "png", "--label", "mood", "--media_dir", "elsewhere"], "elsewhere, found none"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(table, tmp_path, capsys, arguments, message):
    assert main(["init", "--dataset", "my.csv", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("hf-bml init: ") and message in error
    assert not (tmp_path / "my.yaml").exists()


@pytest.mark.parametrize(
    "label, task, about, metric",
    [
        (["pulse"], "regression", "pulse: numbers from 60.5 to 9", "mae"),
        (["loud", "calm"], "multi_label_classification", "loud, calm: 2 labels, the most frequent", "f1_micro"),
        (["id", "--numbers"], "regression", "id: numbers from 0 to 3", "mae"),
    ],
)
def test_other_labels_are_other_tasks(table, tmp_path, capsys, label, task, about, metric):
    assert main(["init", "--dataset", "my.csv", "--text", "words", "--image", "png", "--label", *label]) == 0
    assert about in capsys.readouterr().out
    recipe = read_recipe("my.yaml")
    assert recipe["task"] == task and ("fusion" in recipe) == (task == "regression")
    assert main(["train", "my.yaml", "--output_dir", "run", *QUICK]) == 0
    assert metric in json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    table.round({"pulse": 0}).astype({"pulse": int}).to_csv(tmp_path / "other.csv", index=False)
    assert main(["evaluate", "run", "--dataset_options.path", "other.csv", "--use_cpu", "true"]) == 0
    assert f"{metric} " in capsys.readouterr().out
    (found,) = (tmp_path / "run").glob("metrics_*other*.json")
    assert json.loads(found.read_text())["rows"] == 40


def test_few_rows_are_seen_often_in_small_batches():
    assert [length_of(rows, False) for rows in (20, 200, 3000, 10**6)] == [(8, 30), (16, 30), (32, 7), (32, 3)]
    assert length_of(3000, True)[0] == 16
