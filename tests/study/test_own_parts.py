"""A user's own data set, transform, encoder and fusion by their path: trained, saved, loaded elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import own_parts
import pytest
from datasets import load_from_disk
from own_parts import Largest, Level, Pooled, load

from hf_bml import MultimodalConfig, MultimodalForClassification, MultimodalProcessor, save_code
from hf_bml.cli import main
from hf_bml.models import ENCODERS, FUSIONS
from hf_bml.processing import PROCESSORS
from hf_bml.processing.processor_config import check_registered

RECIPE = """
dataset: own_parts:load
dataset_options: {rows: 8}
modalities:
  sound: {type: "own_parts:Pooled", input_size: 1}
  sight: {type: mlp, input_size: 3, hidden_sizes: [4]}
fusion: own_parts:Largest
processors:
  sound: {type: "own_parts:Level", floor: -40.0}
modulations: {ogm: {alpha: 0.5}}
max_steps: 1
per_device_train_batch_size: 8
save_strategy: "no"
use_cpu: true
disable_tqdm: true
"""
ELSEWHERE = """
import sys
from transformers import AutoModel
from hf_bml import MultimodalForClassification, MultimodalProcessor
from hf_bml.models import ENCODERS, FUSIONS
from hf_bml.processing import PROCESSORS

def refusal(load):
    try:
        load(sys.argv[1])
    except ValueError as error:
        return str(error)

for load in (AutoModel.from_pretrained, MultimodalForClassification.from_pretrained):
    print(refusal(load))
print(refusal(MultimodalProcessor.from_pretrained))
assert "own_parts" not in sys.modules
from own_parts import Largest, Level, Pooled
ENCODERS["own_parts:Pooled"] = Pooled
print(refusal(AutoModel.from_pretrained))
FUSIONS["own_parts:Largest"] = Largest
PROCESSORS["own_parts:Level"] = Level
model, processor = AutoModel.from_pretrained(sys.argv[1]), MultimodalProcessor.from_pretrained(sys.argv[1])
print(model(**processor.prepare(sound=[0.5] * 16, sight=[1.0, 2.0, 3.0])).logits.shape)
"""
EVALUATE = "import sys; from hf_bml.cli import main; sys.exit(main(['evaluate', sys.argv[1]]))"


@pytest.fixture(autouse=True)
def registries_as_they_were():
    before = [(registry, dict(registry)) for registry in (ENCODERS, FUSIONS, PROCESSORS)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own_parts")
    (folder / "own.yaml").write_text(RECIPE)
    assert main(["train", str(folder / "own.yaml"), "--output_dir", str(folder / "run")]) == 0
    return folder / "run"


def elsewhere(code, run):
    """Runs code in a process that has registered nothing; what it prints."""
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_trained_saved_and_loaded_elsewhere(run, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(own_parts.__file__).parent), prepend=":")
    saved = json.loads((run / "config.json").read_text())
    assert saved["modalities"]["sound"] == {"type": "own_parts:Pooled", "input_size": 1, "hidden_size": 4}
    auto, model, processor, half, shape = elsewhere(ELSEWHERE, run).splitlines()
    for message in (auto, model):
        assert "Encoder of modality 'sound': The encoder type 'own_parts:Pooled' is not registered" in message
        assert "from own_parts import Pooled; hf_bml.models.ENCODERS['own_parts:Pooled'] = Pooled." in message
    assert "modality 'sound': The processor type 'own_parts:Level' is not registered" in processor
    assert half.startswith("The fusion 'own_parts:Largest' is not registered")
    assert shape == "torch.Size([1, 2])"


def test_a_command_reads_the_run(run, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(own_parts.__file__).parent), prepend=":")
    assert "accuracy" in elsewhere(EVALUATE, run)


def test_registered_under_a_short_name(run):
    ENCODERS["pooled"] = Pooled
    config = MultimodalConfig(modalities={"sound": {"type": "pooled", "input_size": 2}})
    assert isinstance(MultimodalForClassification(config).encoders["sound"], Pooled)
    assert isinstance(MultimodalProcessor({"sound": {"type": "own_parts:Level"}}).transforms["sound"], Level)
    head = MultimodalConfig(
        modalities={name: {"type": "own_parts:Pooled", "input_size": 1} for name in "ab"}, fusion="own_parts:Largest"
    )
    assert isinstance(MultimodalForClassification(head).head, Largest)
    with pytest.raises(ValueError, match=r"fusion 'own_parts:Largest' joins two or more modalities"):
        MultimodalConfig(modalities={"a": {"type": "pooled", "input_size": 1}}, fusion="own_parts:Largest")


def test_a_prepared_data_set_imports_nothing(tmp_path):
    processor = MultimodalProcessor({"sound": {"type": "own_parts:Level"}, "sight": {"type": "features"}})
    processor.apply(load())["train"].save_to_disk(tmp_path / "prepared")
    assert load_from_disk(tmp_path / "prepared")[0]["sound"].shape == (4, 1)
    del PROCESSORS["own_parts:Level"]
    check_registered.cache_clear()
    with pytest.raises(ValueError, match="'own_parts:Level' is not registered"):
        load_from_disk(tmp_path / "prepared")
    with pytest.raises(ValueError, match="'own_parts:Level' is not registered"):
        MultimodalProcessor.from_dict(processor.to_dict())


def test_code_does_not_go_along(run, tmp_path):
    with pytest.raises(ValueError, match=r"found the encoder type 'own_parts:Pooled', whose code does not go along"):
        save_code(run)
    MultimodalProcessor({"sound": {"type": "own_parts:Level"}}).save_pretrained(tmp_path)
    config = MultimodalConfig(modalities={"sound": {"type": "sequence", "input_size": 1}})
    MultimodalForClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="processor type 'own_parts:Level'"):
        save_code(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("own_parts:NotAPart", "Expected a subclass of Encoder in 'own_parts:NotAPart', found <class"),
        ("own_parts:Poled", "Expected 'Poled' in module 'own_parts', found none. Did you mean 'Pooled'"),
        ("own_part:Pooled", "Expected an importable module in 'own_part:Pooled', found no module 'own_part'"),
    ],
)
def test_a_wrong_path(path, message):
    with pytest.raises(ValueError, match=f"^Encoder of modality 'sound': {message}"):
        MultimodalConfig(modalities={"sound": {"type": path, "input_size": 1}})
