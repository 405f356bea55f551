from __future__ import annotations

import re

import pytest
from recipe_parts import DIGITS

from hf_bml.study import fingerprint as module
from hf_bml.study.fingerprint import canonical, dataset_options, fingerprint
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe
from hf_bml.study.recipe_blocks import DataArguments

YAML = (
    DIGITS
    + """modulations:
  opm: {q_base: 0.5}
  ogm: {}
num_train_epochs: 2
use_cpu: true
"""
)


@pytest.fixture
def hashed(tmp_path):
    def hashed(*arguments, text=YAML, output="out"):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        command = [str(path), f"--output_dir={tmp_path / output}", *arguments]
        return fingerprint(parse_recipe(train_parser(), path, command))

    return hashed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed", "7"],  # the caller's business
        ["--num_train_epochs", "2.0"],
        ["--fusion", "concat"],
        ["--modalities.audio.in_channels", "1"],  # the default
        ["--modulations.opm.lam", "0.5"],
        ["--modulations.ogm.preset", "paper"],
        ["--processors.visual.augment", "none"],
        ["--dataset_options.snr_db", "30"],
        ["--disable_tqdm", "true", "--report_to", "none", "--resume_from_checkpoint", "last"],
        ["--dataset_num_proc", "2"],
        ["--learning_rate", "5e-5"],
    ],
)
def test_the_same_in_other_words(hashed, arguments):
    assert hashed(*arguments, output="elsewhere") == hashed()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--num_train_epochs", "3"],
        ["--stream_buffer_size", "10"],  # of a stream, which only a dataset's function knows it is
        ["--fusion", "sum"],
        ["--auxiliary_loss_weight", "0"],
        ["--modalities.audio.channels", "[8]"],
        ["--modulations.opm.lam", "0.25"],
        ["--modulations.opm.preset", "released"],
        ["--modulations", "{}"],
        ["--modulations", '{"ogm": {}, "opm": {}}'],  # the order counts
        ["--processors.visual.size", "6"],
        ["--dataset_options.snr_db", "3"],
        ["--learning_rate", "5e-4"],
        ["--bf16", "true"],
    ],
)
def test_another_computation(hashed, arguments):
    assert hashed(*arguments) != hashed()


def test_order_of_modalities_counts_and_order_of_keys_does_not(hashed):
    lines = YAML.splitlines()
    assert lines[3].startswith("  audio") and lines[4].startswith("  visual")
    swapped = "\n".join([*lines[:3], lines[4], lines[3], *lines[5:]])
    assert hashed(text=swapped) != hashed()
    assert hashed(text=YAML.replace("{type: frames, size: 8,", "{size: 8, type: frames,")) == hashed()
    processors = "\n".join([*lines[:6], lines[7], lines[6], *lines[8:]])
    assert hashed(text=processors) == hashed()


def test_version_and_number_of_processes_count(hashed, monkeypatch):
    before = hashed()
    assert re.fullmatch("[0-9a-f]{64}", before)
    monkeypatch.setattr(module, "version", lambda package: "0.0.0")
    assert hashed() != before
    monkeypatch.undo()
    monkeypatch.setattr("hf_bml.BalancedTrainingArguments.world_size", property(lambda self: 2))
    assert hashed() != before


def test_precision_of_the_launcher_and_data_folder_count(hashed, monkeypatch):
    plain = hashed()
    monkeypatch.setenv("HF_BML_DATA", "/elsewhere")
    assert hashed() != plain
    monkeypatch.undo()
    assert hashed() == plain
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert hashed() != plain


def test_checkpoints_count_by_their_name(hashed, tmp_path):
    first = hashed("--model_name_or_path", "some/model")
    assert first != hashed() and first != hashed("--model_name_or_path", "other/model")


def test_canonical():
    assert canonical({"b": (1.0, 2.5, True), "a": {"y": None, "x": "1"}}) == {
        "a": {"x": "1", "y": None},
        "b": [1, 2.5, True],
    }
    assert list(canonical({"b": 1, "a": 2})) == ["a", "b"]


def test_later_options_of_a_data_set_do_not_change_earlier_hashes():
    given = {"path": "clips.csv", "modalities": {"text": "words"}}
    assert "numbers" not in dataset_options(DataArguments(dataset="from_columns", dataset_options=given))
    found = dataset_options(DataArguments(dataset="from_columns", dataset_options={**given, "numbers": True}))
    assert found["numbers"] is True and found["label"] == "label"
