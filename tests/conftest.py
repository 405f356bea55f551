"""Everything runs on the CPU and without a network."""

from __future__ import annotations

import gc
import os
import time
import types
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # of subprocesses too: more threads than cores wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import huggingface_hub
import pytest
import torch
import transformers
from fake_hub import FakeHub
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from hf_bml import BalancedTrainingArguments
from hf_bml.data import find_data_file

torch.set_num_threads(1)
datasets.disable_progress_bars()
# Its formatters look for torchvision's VideoReader, which is no more, at every tensor: a search of all folders of
# modules each time, half of what a tiny training takes.
datasets.config.TORCHVISION_AVAILABLE = False


def pytest_collection_finish():
    """Each train() collects garbage, which takes a second with all that was imported and collected."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def survivors_frozen():
    """What a file has imported, compiled or kept for good is not searched again by every train() of later files."""
    yield
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With `-m system`, as CI runs it after installing the system's packages, a test that would be skipped fails."""
    report = yield
    if report.skipped and item.config.option.markexpr == "system":
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session", autouse=True)
def own_datasets_cache(tmp_path_factory):
    """Nothing that was processed in another session is found, and nothing is left in the user's cache."""
    folder = tmp_path_factory.mktemp("datasets_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder))  # of subprocesses
        yield


@pytest.fixture
def training_args(tmp_path):
    """Makes arguments for a short, quiet CPU run with SGD."""

    def make(**options) -> BalancedTrainingArguments:
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "use_cpu": True,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "learning_rate": 0.1,
            "lr_scheduler_type": "constant",
            "per_device_train_batch_size": 8,
            "max_steps": 8,
            "logging_steps": 2,
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        return BalancedTrainingArguments(**{**defaults, **options})

    return make


@pytest.fixture
def require_data_file() -> Callable[[str], Path]:
    """Function from a path below the data folder to the file: an absent one skips a test, and fails it in CI."""

    def require(relative_path: str) -> Path:
        try:
            return find_data_file(relative_path)
        except FileNotFoundError as error:
            if os.environ.get("CI", "").lower() == "true":
                pytest.fail(f"CI must provide this file. {error}")
            pytest.skip(str(error))

    return require


@pytest.fixture
def fake_hub():
    """A Hub on this machine; see `tests/fake_hub.py`. Use it in a subprocess with `fake_hub.environment(folder)`."""
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def own_hub(fake_hub, monkeypatch, tmp_path):
    """The Hub of this very process, which tries again without waiting when a request fails."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", fake_hub.endpoint)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # which keeps the endpoint it was made with
    template = fake_hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    unhurried = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr(huggingface_hub.utils._http, "time", unhurried)
    monkeypatch.setenv("HF_TOKEN", fake_hub.token)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return fake_hub


@pytest.fixture
def tokenizer_path(tmp_path):
    """Folder of a tokenizer with five words; the padding id is 0."""
    words = ["[PAD]", "[UNK]", "the", "cat", "sat"]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    path = tmp_path / "tokenizer"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(path)
    return str(path)
