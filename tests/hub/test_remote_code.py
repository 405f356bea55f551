"""Models load from their own folder or repository in a process in which hf_bml cannot be imported."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_model, tiny_text_model
from tiny_questions import tiny_question_model
from tiny_segments import tiny_segment_model, tiny_segments
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoProcessor, pipeline
from transformers.dynamic_module_utils import get_imports, get_relative_import_files

import hf_bml
from hf_bml import (
    MultimodalBalancedTrainer,
    MultimodalClassificationPipeline,
    MultimodalConfig,
    MultimodalForClassification,
    MultimodalProcessor,
    save_code,
)
from hf_bml.ground.repository_code import keep_code
from hf_bml.hub import remote_code

REFUSE_HF_BML = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_bml":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

torch.set_num_threads(1)
"""
WITHOUT_HF_BML = (
    REFUSE_HF_BML
    + """
clips, texts, again, clip, inputs, outputs = sys.argv[1:]
code = {"trust_remote_code": True}
results = {}

def run(name, source, batch):
    model = AutoModel.from_pretrained(source, **code)
    assert not model.training
    with torch.no_grad():
        results[name] = model(**batch).logits
    return model

processor = AutoProcessor.from_pretrained(clips, **code)
batch = processor.prepare(audio=clip, visual=clip)
results |= {f"prepared {name}": value for name, value in batch.items()}
model = run("clips", clips, batch)
given = load_file(inputs)
sensor = given.pop("sensor")
text = {"text": given, "sensor": sensor}
run("texts", texts, text)
classifier = pipeline("multimodal-classification", model=clips, **code)
facts = {
    "classes": [type(found).__module__.split(".")[-1] for found in (model, model.config, processor, classifier)],
    "remote": [type(found).__module__.split(".")[0] for found in (model, model.config, processor, classifier)],
    "config": AutoConfig.from_pretrained(texts, **code).modality_order,
    "scores": classifier({"visual": clip}, return_unimodal=True),
}
classifier.save_pretrained(again)
run("again", again, AutoProcessor.from_pretrained(again, **code).prepare(audio=clip, visual=clip))
try:
    AutoModel.from_pretrained(texts, trust_remote_code=False)
except ValueError as error:
    facts["refused"] = str(error)
save_file(results, outputs)
print(json.dumps(facts))
"""
)
OTHER_TASKS = (
    REFUSE_HF_BML
    + """
results, facts = {}, {}
*folders, outputs = sys.argv[1:]
for folder in folders:
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    given = load_file(folder + "/inputs.safetensors")
    with torch.no_grad():
        output = model(**given)
    results |= {f"{folder} {name}": value for name, value in output.unimodal_logits.items()}
    results[folder] = output.logits
    facts[folder] = [type(found).__module__ for found in (model, model.config, model.architecture)]
save_file(results, outputs)
print(json.dumps(facts))
"""
)
FINE_TUNING = (
    REFUSE_HF_BML
    + """
from transformers import Trainer, TrainingArguments

code = {"trust_remote_code": True}
*folders, sample = sys.argv[1:]
sample = json.loads(sample)
source = "user/texts"
for folder in folders:  # the first time from the Hub, then from a folder
    model, processor = AutoModel.from_pretrained(source, **code), AutoProcessor.from_pretrained(source, **code)
    batch = {**processor.prepare(**sample), "labels": torch.tensor([1])}
    arguments = TrainingArguments(folder, max_steps=1, use_cpu=True, save_strategy="no", remove_unused_columns=False)
    trainer = Trainer(model, arguments, train_dataset=[batch], data_collator=lambda rows: rows[0])
    trainer.processing_class = processor
    trainer.train()
    trainer.save_model()
    source = folder
print(json.dumps(pipeline(model=source, **code)(sample, top_k=1)))
"""
)
PROCESSORS = {
    "audio": {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.5, "window_length": 128, "overlap": 64},
    "visual": {"type": "video", "num_frames": 2, "size": 32},
}
THIN = {"type": "timm", "architecture": "resnet18", "model_args": {"channels": [4, 4, 8, 8]}}


def clip_model():
    torch.manual_seed(0)
    encoders = {"audio": {**THIN, "in_channels": 1}, "visual": THIN}
    config = MultimodalConfig(modalities=encoders, interaction="mmtm", id2label={0: "dog", 1: "bell", 2: "rain"})
    model = MultimodalForClassification(config).eval()
    for module in model.modules():  # statistics as of a trained model
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture
def saved(tmp_path):
    """Folder of a model with its processor and code."""
    clip_model().save_pretrained(tmp_path / "clips")
    MultimodalProcessor(PROCESSORS).save_pretrained(tmp_path / "clips")
    save_code(tmp_path / "clips")
    return tmp_path / "clips"


@pytest.mark.slow
def test_without_hf_bml_logits_are_equal_bit_for_bit(saved, fake_hub, require_data_file, tmp_path):
    clip = str(require_data_file("clips/bento.mp4"))
    tiny_text_model(tmp_path / "bert").save_pretrained(tmp_path / "texts")
    save_code(tmp_path / "texts")
    generator = torch.Generator().manual_seed(0)
    words = {
        "input_ids": torch.randint(0, 50, (3, 7), generator=generator),
        "attention_mask": torch.ones(3, 7, dtype=torch.int64),
    }
    sensor = torch.randn(3, 5, generator=generator)
    save_file({**words, "sensor": sensor}, tmp_path / "inputs.safetensors")
    files = {path.relative_to(saved).as_posix(): path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    fake_hub.add("model", "user/clips", files)

    arguments = ["user/clips", *(tmp_path / name for name in ("texts", "again")), clip]
    arguments += [tmp_path / "inputs.safetensors", tmp_path / "outputs.safetensors"]
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_HF_BML, *map(str, arguments)],
        env=fake_hub.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    facts = json.loads(process.stdout.splitlines()[-1])
    results = load_file(tmp_path / "outputs.safetensors")

    batch = MultimodalProcessor(PROCESSORS).prepare(audio=clip, visual=clip)
    assert all(torch.equal(results[f"prepared {name}"], value) for name, value in batch.items())
    with torch.no_grad():
        expected = clip_model()(**batch).logits
        assert torch.equal(results["clips"], expected) and torch.equal(results["again"], expected)
        loaded = AutoModel.from_pretrained(tmp_path / "texts")
        given = load_file(tmp_path / "inputs.safetensors")
        sensor = given.pop("sensor")
        assert torch.equal(results["texts"], loaded(text=given, sensor=sensor).logits)
    assert set(facts["remote"]) == {"transformers_modules"} and facts["classes"] == [
        "modeling_multimodal",
        "configuration_multimodal",
        "processor",
        "pipeline",
    ]
    assert facts["config"] == ["text", "sensor"]
    classifier = MultimodalClassificationPipeline(model=clip_model(), processor=MultimodalProcessor(PROCESSORS))
    assert facts["scores"] == classifier({"visual": clip}, return_unimodal=True)
    assert facts["scores"]["unimodal"]["audio"] is None
    assert "contains custom code" in facts["refused"]


@pytest.mark.slow
def test_models_of_other_tasks_without_hf_bml(tmp_path):
    inputs, _ = tiny_segments(3)
    questions = {"text": torch.tensor([[3, 8, 2], [5, 1, 7], [4, 4, 9]])}
    questions |= {"audio": torch.randn(3, 3, 5), "visual": torch.randn(3, 2, 3, 7)}
    expected = {}
    for name, model, batch in (
        ("psp", tiny_segment_model("psp", auxiliary_loss_weight=0.5), inputs),
        ("avsd", tiny_question_model("avsd"), questions),
    ):
        folder = tmp_path / name
        model.eval().save_pretrained(folder)
        save_code(folder)
        save_file(batch, folder / "inputs.safetensors")
        with torch.no_grad():
            output = model(**batch)
        expected |= {f"{folder} {key}": value for key, value in output.unimodal_logits.items()}
        expected[str(folder)] = output.logits
    process = subprocess.run(
        [sys.executable, "-c", OTHER_TASKS, *(str(tmp_path / name) for name in ("psp", "avsd", "outputs"))],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    found = load_file(tmp_path / "outputs")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)
    modules = list(itertools.chain(*json.loads(process.stdout.splitlines()[-1]).values()))
    assert all(module.startswith("transformers_modules.") for module in modules)
    assert {module.rpartition(".")[2] for module in modules} >= {"segments_psp", "question_answering_avsd"}


@pytest.mark.slow
def test_what_a_trainer_pushes_is_fine_tuned_and_saved_again_without_hf_bml(
    own_hub, training_args, tokenizer_path, tmp_path
):
    model = tiny_text_model(tmp_path / "bert")
    processor = MultimodalProcessor(
        {"text": {"type": "tokens", "tokenizer": tokenizer_path}, "sensor": {"type": "features", "input_size": 5}}
    )
    trainer = MultimodalBalancedTrainer(model, training_args(hub_model_id="user/texts"), processing_class=processor)
    trainer.push_to_hub()
    assert str(tmp_path).encode() not in b"".join(own_hub.files("model", "user/texts").values())
    for place in (tmp_path / "bert", tokenizer_path, training_args().output_dir):
        shutil.rmtree(place)
    sample = {"text": "the cat sat", "sensor": [1.0, 2.0, 3.0, 4.0, 5.0]}
    process = subprocess.run(
        [sys.executable, "-c", FINE_TUNING, str(tmp_path / "first"), str(tmp_path / "second"), json.dumps(sample)],
        env={**own_hub.environment(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    [found] = json.loads(process.stdout.splitlines()[-1])
    [expected] = pipeline("multimodal-classification", model=str(tmp_path / "second"))(sample, top_k=1)
    assert found == pytest.approx(expected)
    assert not [path.name for path in (tmp_path / "second").iterdir() if path.suffix == ".py"]
    config = json.loads((tmp_path / "second" / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "hf_bml_code/modeling_multimodal.MultimodalForClassification"


def test_code_that_is_gone_is_a_warning(tmp_path):
    with pytest.warns(UserWarning, match=r"lacks a part of the code that came with .*Copy the code's folder by hand"):
        keep_code(MultimodalProcessor, ["hf_bml_code/modeling.Model"], str(tmp_path), tmp_path / "saved")


def test_with_hf_bml_its_own_classes_are_used(saved, tmp_path):
    for trust in (True, False, None):
        model = AutoModel.from_pretrained(saved, trust_remote_code=trust)
        assert type(model) is MultimodalForClassification
    assert type(AutoProcessor.from_pretrained(saved, trust_remote_code=True)) is MultimodalProcessor
    assert type(pipeline("multimodal-classification", model=str(saved))) is MultimodalClassificationPipeline
    model.save_pretrained(tmp_path / "again")  # does not point to code that is not there
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert not {"auto_map", "custom_pipelines"} & set(again)
    assert type(AutoConfig.from_pretrained(tmp_path / "again")) is MultimodalConfig


def test_what_is_written(saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "hf_bml_code/configuration_multimodal.MultimodalConfig",
        "AutoModel": "hf_bml_code/modeling_multimodal.MultimodalForClassification",
    }
    assert config["custom_pipelines"] == {
        "multimodal-classification": {
            "impl": "hf_bml_code/pipeline.MultimodalClassificationPipeline",
            "pt": ["AutoModel"],
            "type": "multimodal",
        }
    }
    processor = json.loads((saved / "processor_config.json").read_text())
    assert processor["auto_map"] == {"AutoProcessor": "hf_bml_code/processor.MultimodalProcessor"}
    source = (saved / "hf_bml_code" / "interaction_base.py").read_text()
    original = (remote_code.PACKAGE / "models" / "interaction" / "base.py").read_text()
    header = source.splitlines()[:2]
    assert header[0].startswith(
        f"# Copied by save_code from hf_bml {hf_bml.__version__}, hf_bml/models/interaction/base.py"
    )
    assert "Apache-2.0" in header[1]
    differing = set(source.splitlines()[2:]) ^ set(original.splitlines())
    assert differing == {
        "from ..fusion import FUSIONS, FusionHead, drop_features",
        "from .fusion import FUSIONS, FusionHead, drop_features",
        "from ..options import HeadOptions",
        "from .options import HeadOptions",
    }


def test_the_same_bytes_again(saved):
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    (saved / "hf_bml_code" / "stale.py").write_text("")
    written = save_code(saved)
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before
    assert len(written) == len(set(written)) and set(written) == {
        path for path in before if path.suffix in (".py", ".json")
    }


def test_a_hard_link_to_the_config_is_left_alone(tmp_path):
    tiny_model().save_pretrained(tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    (tmp_path / "staged").mkdir()
    os.link(tmp_path / "run" / "config.json", tmp_path / "staged" / "config.json")
    save_code(tmp_path / "staged")
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert "auto_map" in json.loads((tmp_path / "staged" / "config.json").read_text())


OURS = sorted({c for c in CONFIG_MAPPING._extra_content.values() if c.__module__.startswith("hf_bml.")}, key=str)


@pytest.mark.parametrize("config_class", OURS, ids=lambda config_class: config_class.__name__)
def test_the_code_of_every_registered_model_is_complete(config_class, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": config_class.model_type}))
    written = save_code(tmp_path)
    assert len(set(written)) == len(written), "two modules have one file name"
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert {"AutoConfig", "AutoModel"} <= set(auto_map)
    for reference in auto_map.values():
        path = tmp_path / f"{reference.split('.')[0]}.py"
        reached = [path, *get_relative_import_files(path)]
        for file in reached:
            compile(Path(file).read_text(encoding="utf-8"), str(file), "exec")
            assert "hf_bml" not in get_imports(file)
    assert "processor.py" not in {path.name for path in (tmp_path / "hf_bml_code").iterdir()}


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json: expected the file that save_pretrained writes"):
        save_code(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"expected a model of hf_bml, found model_type 'bert'"):
        save_code(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["Mine"]}')
    with pytest.raises(ValueError, match="found model_type None"):
        save_code(tmp_path)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("from . import fusion", "an import of a module"),
        ("from .interaction import base", "an import of a module"),
        ("import hf_bml.ground.suggestion", "expected a relative import"),
        ("def f():\n    from hf_bml import OPM", "line 2: expected a relative import"),
        ("from . \\\n    fusion import x", "on one line"),
    ],
)
def test_imports_that_cannot_be_copied(statement, message, tmp_path, monkeypatch):
    package = tmp_path / "hf_bml"
    (package / "models" / "interaction").mkdir(parents=True)
    for name in ("fusion", "interaction/__init__", "interaction/base"):
        (package / "models" / f"{name}.py").write_text("")
    (package / "models" / "modeling.py").write_text(statement + "\n")
    monkeypatch.setattr(remote_code, "PACKAGE", package)
    with pytest.raises(ValueError, match=message):
        remote_code.needed_modules(["models.modeling"])
        remote_code.flat_source("models.modeling")


def test_a_processor_without_class_name_and_one_of_another_package(saved):
    path = saved / "processor_config.json"
    config = json.loads(path.read_text())
    expected = config.pop("auto_map")
    del config["processor_class"]
    path.write_text(json.dumps(config))
    save_code(saved)
    assert json.loads(path.read_text())["auto_map"] == expected
    path.write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    save_code(saved)
    assert json.loads(path.read_text()) == {"processor_class": "CLIPProcessor"}
    assert "custom_pipelines" not in json.loads((saved / "config.json").read_text())


def test_a_model_of_another_task_has_no_pipeline(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    save_code(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())  # without processor
    assert remote_code.pipeline_tasks("bert") == {}
    assert list(remote_code.pipeline_tasks("multimodal")) == ["multimodal-classification"]
