from __future__ import annotations

import datasets
import pytest
import torch
from datasets import (
    Array3D,
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDatasetDict,
    List,
    Value,
)
from tokenizers import Tokenizer, models
from transformers import BertConfig, PreTrainedTokenizerFast

from hf_bml import MultimodalForClassification
from hf_bml.processing import MultimodalProcessor
from hf_bml.study import assembly, run_data, run_model
from hf_bml.study.model_checks import check_checkpoint_options
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe
from hf_bml.study.tasks import TASKS


def encoder(size):
    return f"{{type: sequence, input_size: {size}, hidden_size: 4, num_heads: 1, num_layers: 0}}"


@pytest.fixture
def parse(tmp_path):
    def parse(text, *arguments):
        path = tmp_path / "mine.yaml"
        path.write_text(text + "use_cpu: true\n")
        return parse_recipe(train_parser(), path, [str(path), f"--output_dir={tmp_path / 'out'}", *arguments])

    return parse


@pytest.fixture
def serve(monkeypatch):
    """Lets the recipe's dataset be these columns, in every split."""
    run_data._last_data.clear()
    run_data._last_loaded.clear()

    def serve(columns, features=None):
        split = Dataset.from_dict({**columns, "labels": [0, 1]}, features=features)
        dataset = DatasetDict(train=split, validation=split, test=split)
        monkeypatch.setattr(run_data, "load_multimodal_dataset", lambda name, **options: dataset)

    yield serve
    run_data._last_data.clear()
    run_data._last_loaded.clear()


def test_none_in_a_column_of_numbers(parse, serve):
    serve({"a": [[1.0, 2.0], None], "b": [[[1, 2, 3]], [[4, 5, 6], [7, 8, 9]]]})
    dataset, processor = run_data.build_data(parse(f"modalities:\n  a: {encoder(2)}\n  b: {encoder(3)}\n"))
    assert processor.modalities == {"a": {"type": "features"}, "b": {"type": "features"}}
    rows = dataset["train"][:]
    assert rows["a"][1] is None and torch.equal(rows["a"][0], torch.tensor([1.0, 2.0]))
    assert rows["b"][1].shape == (2, 3)


def test_tensors_of_images_need_no_processor(parse, serve):
    features = Features({"a": Array3D((1, 2, 2), "float32"), "labels": Value("int64")})
    serve({"a": [[[[0.0, 1.0], [2.0, 3.0]]]] * 2}, features)
    dataset, processor = run_data.build_data(parse("modalities:\n  a: {type: conv}\n"))
    assert processor is None and dataset["train"][0]["a"].shape == (1, 2, 2)


def test_text_without_processor(parse, serve):
    serve({"a": ["x", "y"]})
    with pytest.raises(ValueError, match=r"need a processor.*log_spectrogram.*tokens"):
        run_data.build_data(parse(f"modalities:\n  a: {encoder(2)}\n"))


def test_modality_without_column(parse, serve):
    serve({"a": [[1.0], [2.0]]})
    with pytest.raises(ValueError, match=r"\['b'\] missing"):
        run_data.build_data(parse(f"modalities:\n  b: {encoder(1)}\n"))


@pytest.mark.parametrize(
    ("feature", "rank"),
    [
        (Value("float32"), 0),
        (List(Value("int64")), 1),
        (List(List(Value("bool"))), 2),
        (Array3D((1, 2, 2), "float32"), 3),
        (Value("string"), None),
        (List(Value("string")), None),
        (Image(), None),
        (Audio(), None),
        (List(Image()), None),
        (datasets.Value("timestamp[s]"), None),
    ],
)
def test_numeric_rank(feature, rank):
    assert run_data.numeric_rank(feature) == rank


def test_wrong_type_inside_a_users_dataset(parse, monkeypatch):
    def load(name, **options):
        raise TypeError("'<' not supported")

    monkeypatch.setattr(run_data, "load_multimodal_dataset", load)
    with pytest.raises(ValueError, match="'<' not supported"):
        run_data.build_data(parse("dataset: digits\ndataset_options: {a: 1}\n"))
    with pytest.raises(TypeError):
        run_data.build_data(parse("dataset: digits\n"))


def test_every_model_option_reaches_the_config(parse):
    conv = "{type: conv, in_channels: 1, channels: [2, 4, 4]}"
    text = f"modalities: {{a: {conv}, b: {conv}}}\nfusion: gated\nconditioning: b\ninteraction: mmtm\n"
    options = "interaction_options: {gate_scale: 1}\nunimodal_prediction: probe\nhead_dropout: 0.25\n"
    config = run_model.build_config(parse(text + options), num_labels=2)
    assert (config.fusion, config.conditioning, config.head_dropout) == ("gated", "b", 0.25)
    assert (config.interaction, config.interaction_options["gate_scale"]) == ("mmtm", 1)
    assert config.unimodal_prediction == "probe" and config.auxiliary_loss_weight is None
    config = run_model.build_config(
        parse(f"modalities: {{a: {conv}}}\nauxiliary_loss_weight: 0\nbias_split: {{a: 1}}\n")
    )
    assert config.auxiliary_loss_weight == 0 and config.bias_split == {"a": 1}


@pytest.fixture
def checkpoint(parse, tmp_path):
    recipe = parse(f"modalities:\n  b: {encoder(3)}\n  a: {encoder(2)}\n")
    run_model.build_model(recipe, ["no", "yes"], 2).save_pretrained(tmp_path / "checkpoint")
    MultimodalProcessor({"a": {"type": "features", "input_size": 2}}).save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_a_checkpoint_brings_modalities_and_processors(parse, checkpoint):
    recipe = parse(f"model_name_or_path: {checkpoint}\n")
    assert run_model.recipe_modalities(recipe) == ["b", "a"]
    assert run_data.processor_configs(recipe) == {"a": {"type": "features", "input_size": 2}}
    own = parse(f"model_name_or_path: {checkpoint}\nprocessors: {{a: {{type: features}}}}\n")
    assert run_data.processor_configs(own) == {"a": {"type": "features"}}
    (checkpoint / "processor_config.json").unlink()
    assert run_data.processor_configs(recipe) == {}
    assert isinstance(run_model.build_model(recipe, None, 0), MultimodalForClassification)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("fusion: sum", r"fusion: the recipe asks for 'sum', but the checkpoint .* was built with 'concat'"),
        ("head_hidden_sizes: [64]", r"head_hidden_sizes: the recipe asks for \[64\]"),
        (
            f"modalities:\n  b: {encoder(3)}\n  a: {encoder(5)}",
            r"modalities\.a\.input_size: the recipe asks for 5, but the checkpoint .* was built with 2",
        ),
    ],
)
def test_options_that_contradict_the_checkpoint(parse, checkpoint, options, message):
    with pytest.raises(ValueError, match=message):
        check_checkpoint_options(parse(f"model_name_or_path: {checkpoint}\n{options}\n"))


def test_the_checkpoints_own_options_may_be_given(parse, checkpoint):
    own = f"fusion: concat\nmodalities:\n  a: {encoder(2)}\n  b: {encoder(3)}\n"
    check_checkpoint_options(parse(f"model_name_or_path: {checkpoint}\n{own}"))


def test_class_names_of_the_data_replace_the_checkpoints(parse, checkpoint):
    recipe = parse(f"model_name_or_path: {checkpoint}\n")
    assert run_model.build_model(recipe, ["cat", "dog"], 0).config.label2id == {"cat": 0, "dog": 1}
    assert run_model.build_model(recipe, ["a", "b", "c"], 0).config.id2label == {
        0: "no",
        1: "yes",
    }
    with pytest.raises(ValueError, match=r"classes are \['no', 'yes'\], the data has the same in another order"):
        run_model.build_model(recipe, ["yes", "no"], 0)


def test_modalities_that_contradict_the_checkpoint(parse, checkpoint):
    recipe = parse(f"model_name_or_path: {checkpoint}\nmodalities:\n  c: {encoder(3)}\n")
    with pytest.raises(ValueError, match=r"has the modalities \['b', 'a'\], but the recipe's modalities are \['c'\]"):
        run_model.recipe_modalities(recipe)


def test_checkpoint_of_another_model(parse, tmp_path):
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="expected a multimodal model, found bert"):
        run_model.recipe_modalities(parse(f"model_name_or_path: {tmp_path / 'bert'}\n"))


def test_checkpoint_without_weights(parse, checkpoint):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be loaded"):
        run_model.build_model(parse(f"model_name_or_path: {checkpoint}\n"), None, 0)


def test_padding_is_the_tokenizers(tmp_path):
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "[PAD]": 2}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tmp_path)
    tokens = {"type": "tokens", "tokenizer": str(tmp_path)}
    assert assembly.pad_token_id(MultimodalProcessor({"t": tokens, "a": {"type": "features"}})) == 2
    assert assembly.pad_token_id(MultimodalProcessor({"a": {"type": "features"}})) == 0
    assert assembly.pad_token_id(None) == 0


def test_types_of_questions_in_a_stream_keep_their_names():
    features = Features({"text": List(Value("float32")), "question_type": ClassLabel(names=["where", "how many"])})
    rows = Dataset.from_dict({"text": [[1.0]], "question_type": [1]}, features=features).to_iterable_dataset()
    streams = MultimodalProcessor({"text": {"type": "features"}}).apply(IterableDatasetDict(train=rows))
    assert streams["train"].features is None
    metrics = assembly.evaluation_metrics(TASKS["question_answering"], streams)
    assert metrics.keywords == {"type_names": ["where", "how many"]}


@pytest.mark.parametrize(
    ("modulations", "given", "option", "expected"),
    [
        ("greedy: {}", "", "interaction", "mmtm"),
        ("greedy: {}", "interaction: centralnet\n", "interaction", "centralnet"),
        ("gradient_blending: {}", "", "auxiliary_loss_weight", 0.0),
        ("opm: {}", "", "auxiliary_loss_weight", None),
    ],
)
def test_a_model_is_built_as_its_modulations_need(parse, modulations, given, option, expected):
    image = "{type: conv, in_channels: 1, channels: [2, 3, 4, 5]}"
    recipe = parse(f"modalities:\n  a: {image}\n  b: {image}\nmodulations: {{{modulations}}}\n{given}")
    assert getattr(run_model.build_config(recipe), option) == expected
