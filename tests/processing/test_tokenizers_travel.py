"""A processor's tokenizers lie beside it, and what it loads does not hang on the place that they came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoProcessor, AutoTokenizer, CanineTokenizer

from hf_bml import MultimodalConfig, MultimodalProcessor

TEXT = "the cat sat purring"


@pytest.fixture
def added_tokens_path(tokenizer_path, tmp_path):
    """Folder of a tokenizer to whose words one was added."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
    tokenizer.add_tokens(["purring"])
    tokenizer.save_pretrained(tmp_path / "added")
    return str(tmp_path / "added")


@pytest.fixture
def slow_path(tmp_path):
    """Folder of a tokenizer that is written in Python."""
    CanineTokenizer().save_pretrained(tmp_path / "slow")
    return str(tmp_path / "slow")


def ids(processor, name):
    return processor({key: [TEXT] for key in processor.modalities})[name][0]["input_ids"].tolist()


def test_any_number_of_tokenizers_of_any_kind(tokenizer_path, added_tokens_path, slow_path, tmp_path, monkeypatch):
    paths = {"title": tokenizer_path, "text": added_tokens_path, "letters": slow_path}
    processor = MultimodalProcessor({key: {"type": "tokens", "tokenizer": path} for key, path in paths.items()})
    written = processor.save_pretrained(tmp_path / "saved")
    assert {Path(path).parent.name for path in written} == {"saved", *(f"tokenizer_{name}" for name in paths)}
    assert not any(str(tmp_path) in Path(path).read_text() for path in written)
    expected = {name: ids(processor, name) for name in paths}
    for path in paths.values():
        shutil.rmtree(path)
    (tmp_path / "saved").rename(tmp_path / "moved")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "another machine's")
    loaded = MultimodalProcessor.from_pretrained(tmp_path / "moved")
    assert {name: ids(loaded, name) for name in paths} == expected
    assert len({tuple(value) for value in expected.values()}) == 3
    loaded.save_pretrained(tmp_path / "again")  # and once more
    assert MultimodalProcessor.from_pretrained(tmp_path / "again").modalities == processor.modalities


def test_what_was_prepared_before_the_move_is_not_prepared_again(tokenizer_path, tmp_path):
    processor = MultimodalProcessor({"text": {"type": "tokens", "tokenizer": tokenizer_path}})
    processor.save_pretrained(tmp_path / "saved")
    rows = DatasetDict({"train": Dataset.from_dict({"text": [TEXT] * 3, "labels": [0, 1, 0]})})
    prepared = processor.apply(rows)
    shutil.rmtree(tokenizer_path)
    loaded = MultimodalProcessor.from_pretrained(tmp_path / "saved")
    assert loaded.apply(rows)["train"].cache_files == prepared["train"].cache_files
    assert loaded.apply(prepared)["train"][0]["text"]["input_ids"].tolist() == [2, 3, 4, 1]


def test_another_tokenizer_in_the_same_place_is_another_one(tokenizer_path, added_tokens_path):
    options = {"text": {"type": "tokens", "tokenizer": tokenizer_path}}
    rows = DatasetDict({"train": Dataset.from_dict({"text": [TEXT]})})
    assert MultimodalProcessor(options).apply(rows)["train"][0]["text"]["input_ids"].tolist() == [2, 3, 4, 1]
    shutil.copytree(added_tokens_path, tokenizer_path, dirs_exist_ok=True)
    assert MultimodalProcessor(options).apply(rows)["train"][0]["text"]["input_ids"].tolist() == [2, 3, 4, 5]


def test_a_folder_of_the_first_edition_has_only_the_name(tokenizer_path, tmp_path):
    modalities = {"text": {"type": "tokens", "tokenizer": tokenizer_path}}
    config = {"processor_class": "MultimodalProcessor", "version": 2, "modalities": modalities, "on_error": "raise"}
    (tmp_path / "processor_config.json").write_text(json.dumps(config))
    assert ids(MultimodalProcessor.from_pretrained(tmp_path), "text") == [2, 3, 4, 1]


def test_files_that_do_not_belong_together(tokenizer_path, added_tokens_path, tmp_path):
    MultimodalProcessor({"text": {"type": "tokens", "tokenizer": tokenizer_path}}).save_pretrained(tmp_path / "saved")
    own = tmp_path / "saved" / "tokenizer_text"
    shutil.copy(Path(added_tokens_path) / "tokenizer.json", own)
    with pytest.raises(ValueError, match=r"expected the files that processor_config\.json names in tokenizer_text"):
        MultimodalProcessor.from_pretrained(tmp_path / "saved")
    shutil.rmtree(own)
    with pytest.raises(OSError, match=r"tokenizer_text/tokenizer"):
        MultimodalProcessor.from_pretrained(tmp_path / "saved")


def test_a_config_alone_needs_the_files(tokenizer_path, tmp_path, monkeypatch):
    config = MultimodalProcessor({"text": {"type": "tokens", "tokenizer": tokenizer_path}}).to_dict()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "another machine's")
    with pytest.raises(ValueError, match=r"'text': expected the files .* Load the processor with from_pretrained"):
        MultimodalProcessor.from_dict(config)


def test_through_the_hub(own_hub, tokenizer_path):
    encoder = {"type": "sequence", "input_size": 3}
    MultimodalConfig(modalities={"text": encoder}).push_to_hub("user/texts")
    MultimodalProcessor({"text": {"type": "tokens", "tokenizer": tokenizer_path}}).push_to_hub("user/texts")
    assert "tokenizer_text/tokenizer.json" in own_hub.files("model", "user/texts")
    shutil.rmtree(tokenizer_path)
    assert ids(AutoProcessor.from_pretrained("user/texts"), "text") == [2, 3, 4, 1]
