"""A card as whole text, its metadata as the Hub reads it, and that nothing stands in it that is not known."""

from __future__ import annotations

import importlib.resources
import re
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from card_code import run_quick_start
from datasets import Dataset
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index
from PIL import Image
from tiny_questions import tiny_question_model
from tiny_segments import tiny_segment_model
from torch import nn
from transformers import VisualBertConfig, VisualBertForVisualReasoning

from hf_bml import MultimodalBalancedTrainer, MultimodalProcessor, balance
from hf_bml.data.description import describe_dataset
from hf_bml.hub.card import render_card, write_card
from hf_bml.hub.card_metadata import CardOptions, is_hub_id
from hf_bml.hub.card_tables import short
from hf_bml.hub.facts import CardFacts, facts_of_run
from hf_bml.models import QUESTION_ANSWERING_ARCHITECTURES, SEGMENT_ARCHITECTURES
from hf_bml.modulation import MODULATIONS
from hf_bml.processing import PROCESSORS
from hf_bml.training.card_facts import facts_of_trainer

PUBLISHED = Path(__file__).parents[2] / "model_cards"
GOLDEN = Path(__file__).with_name("card_golden.md")
FACTS = CardFacts(
    name="digits-opm",
    config={
        "modalities": {
            "audio": {"type": "conv", "in_channels": 1, "channels": [4, 8]},
            "visual": {"type": "timm", "architecture": "resnet18", "in_channels": 1},
        },
        "fusion": "concat",
        "head_hidden_sizes": [],
        "id2label": {"0": "zero", "2": "two", "1": "one", "10": "ten"},
    },
    modalities=["audio", "visual"],
    processors={
        "audio": {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.3},
        "visual": {"type": "frames", "size": [8, 10], "num_channels": 1},
    },
    modulations={"opm": {"preset": "paper", "start": 0, "end": None, "q_base": 0.5, "lam": 0.25}},
    settings={
        "dataset": "digits",
        "dataset_options": {"cache": "PATH"},
        "learning_rate": 0.1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
        "seed": 7,
    },
    results={
        "validation": {"accuracy": 0.75, "loss": 0.5, "accuracy_audio": 0.5, "accuracy_visual": 0.625},
        "test": {
            "accuracy": 0.71234567,
            "mean_average_precision": 0.8,
            "mean_average_precision_classes": 4.0,
            "f1_weighted": 0.7,
            "accuracy_audio": 0.4,
            "accuracy_visual": 0.6,
        },
    },
    ratios={"audio": 1.254, "visual": 0.8},
    step=20,
    max_steps=40,
    seed=7,
    train_seconds=61.4,
    environment={
        "python": "3.11.0",
        "device": "CPU, 1 threads",
        "processes": 1,
        "date": "2026-11-25",
        "hf_bml": "0.1.0",
    },
)
OPTIONS = CardOptions(source="user/digits-opm", license="apache-2.0", language="en", tags=["mine"])


def test_the_whole_card():
    card = str(render_card(FACTS, OPTIONS, ["curves.png"]))
    assert card == GOLDEN.read_text(encoding="utf-8"), (
        "if the change is meant, write the new text into the golden file"
    )


def test_metadata_go_there_and_back(tmp_path):
    render_card(FACTS, OPTIONS).save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.language, data.library_name) == ("apache-2.0", "en", "hf_bml")
    assert data.datasets is None  # the Hub takes these for repositories
    assert {(result.dataset_type, result.dataset_name) for result in data.eval_results} == {("digits", "digits")}
    assert data.metrics == ["accuracy", "mean_average_precision", "f1"]
    assert data.tags[:4] == ["multimodal", "multimodal-classification", "balanced-multimodal-learning", "audio"]
    assert data.tags[-2:] == ["opm", "mine"] and data.pipeline_tag is None
    found = {(r.dataset_split, r.metric_name): r.metric_value for r in data.eval_results}
    assert found == {
        ("test", "accuracy"): 0.7123,
        ("test", "mean average precision"): 0.8,
        ("test", "F1, weighted"): 0.7,
        ("test", "accuracy, audio alone"): 0.4,
        ("test", "accuracy, visual alone"): 0.6,
        ("validation", "accuracy"): 0.75,
        ("validation", "accuracy, audio alone"): 0.5,
        ("validation", "accuracy, visual alone"): 0.625,
    }
    index = eval_results_to_model_index("digits-opm", data.eval_results)
    assert index == data.to_dict()["model-index"]


def test_nothing_is_made_up_while_the_training_goes_on():
    facts = replace(FACTS, results={}, ratios={}, is_finished=False, train_seconds=None, environment={})
    card = render_card(facts)
    assert "**The training is still running**: these are the weights of step 20 of 40." in card.text
    assert "Not evaluated yet." in card.text and "training time" not in card.text
    assert "No licence was stated for these weights." in card.text
    assert "The test split chose nothing" not in card.text and "with the best" not in card.text
    assert card.data.eval_results is None and card.data.metrics is None and "model-index" not in card.content
    assert "version = " not in card.text


def test_of_a_model_without_any_facts():
    card = render_card(CardFacts(name="x", modalities=["a", "b"]))
    assert "A multimodal classifier of a and b without modulation" in card.text
    assert "None. The discrepancy between the modalities was watched" in card.text
    assert "The settings were not recorded." in card.text and "## Data\n\nNot recorded." in card.text
    assert "print(list(model.encoders))" in card.text  # without processor there are no raw values


class See(nn.Module):
    """A model of two inputs that knows nothing of balancing."""

    def __init__(self):
        super().__init__()
        self.see, self.read, self.head = nn.Linear(4, 8), nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, image, text):
        return {"scores": self.head(self.see(image) + self.read(text))}


def trained_facts(model, folder, training_args, columns, **options):
    """Facts of a trainer that has saved a balanced model in a folder."""
    rows = {name: value.numpy() for name, value in columns.items()}
    dataset = Dataset.from_dict({**rows, "labels": [0, 1, 2, 0]}).with_format("torch")
    args = training_args(output_dir=str(folder), max_steps=1, modulations={"opm": {}})
    trainer = MultimodalBalancedTrainer(model, args, train_dataset=dataset, **options)
    trainer.train()
    trainer.save_model()
    return facts_of_trainer(trainer)


@pytest.mark.parametrize("logits", ["scores", lambda output: output["scores"]])
@pytest.mark.parametrize("processing_class", [None, MultimodalProcessor({"image": {"type": "features"}})])
def test_the_quick_start_of_a_wrapped_model(tmp_path, training_args, logits, processing_class):
    paths, columns = {"image": "see", "text": "read"}, {"image": torch.randn(4, 4), "text": torch.randn(4, 3)}
    model = balance(See(), paths, logits=logits, num_labels=3)
    facts = trained_facts(model, tmp_path / "run", training_args, columns, processing_class=processing_class)
    text = render_card(facts, CardOptions(source=str(tmp_path / "run"))).text
    assert "of the model itself, See, which `hf_bml.balance` wrapped" in text
    assert ("`logits` is the function" in text) == callable(logits)
    names = run_quick_start(text, model=See(), logits=logits)
    with torch.no_grad():
        found, expected = (m.eval()(**columns).unimodal_logits["text"] for m in (names["balanced"], model))
    torch.testing.assert_close(found, expected)


def test_the_quick_start_of_a_wrapped_transformers_model(tmp_path, training_args):
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = VisualBertConfig(**small, vocab_size=20, visual_embedding_dim=6, num_labels=3)
    columns = {"visual_embeds": torch.randn(4, 2, 6), "input_ids": torch.randint(1, 19, (4, 5))}
    parts = "visual_bert.embeddings"
    paths = {"image": f"{parts}.visual_projection", "text": [f"{parts}.word_embeddings"]}
    model = balance(VisualBertForVisualReasoning(config), paths)
    facts = trained_facts(model, tmp_path / "run", training_args, columns)
    names = {}
    for known in (facts, facts_of_run(tmp_path / "run")):  # the folder alone does not tell how it was wrapped
        card = render_card(known, CardOptions(source=str(tmp_path / "run"))).text
        assert "from transformers import VisualBertForVisualReasoning" in card and "AutoModel" not in card
        names = {**run_quick_start(card), **names}
    assert names["balanced"].paths == model.paths
    with torch.no_grad():
        found, expected = (m.eval()(**columns).logits for m in (names["balanced"], model))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (tiny_segment_model("avsdn"), "A re-implementation of AVSDN (Lin et al. 2019) from its abstract"),
        (tiny_segment_model("psp"), "PSP (Zhou et al. 2021), re-implemented from what was published"),
        (tiny_question_model("avsd"), "A re-implementation of AVSD (Schwartz et al. 2019) that differs"),
        (tiny_question_model("panoavqa"), "A re-implementation of PanoAVQA's LAViT (Yun et al. 2021) that differs"),
    ],
)
def test_an_architecture_says_whose_work_it_is_after(model, named):
    config = model.config.to_dict()
    text = render_card(CardFacts("x", type(model).__name__, config, list(model.encoders))).text
    section = text.split("## Model")[1].split("## Modulations")[0]
    assert f"\nArchitecture: `{config['architecture']}` (" in section and f"\n{named}" in section
    assert ("segment_loss" in config) == ("loss `cross_entropy`." in section)


def test_every_architecture_and_surrogate_says_so():
    architectures = {**SEGMENT_ARCHITECTURES, **QUESTION_ANSWERING_ARCHITECTURES}
    assert all(architecture.provenance.endswith(".") for architecture in architectures.values())
    encoder = {"type": "multi_window", "architecture": "resnet18"}
    text = render_card(CardFacts("x", modalities=["audio"], config={"modalities": {"audio": encoder}})).text
    assert "The encoder of audio, `multi_window`: A surrogate for MWTSM" in text
    assert "Architecture:" not in text


@pytest.mark.parametrize(
    ("dataset", "options", "ids", "identifier"),
    [
        ("from_columns", {"path": "user/clips"}, ["user/clips"], "user/clips"),
        ("from_columns", {"path": "parquet", "data_files": "PATH"}, None, None),
        ("from_columns", {"path": "PATH"}, None, None),
        ("vggsound", {"hub_id": "mteb/VGGSound"}, ["mteb/VGGSound"], "mteb/VGGSound"),
        ("cremad", {"hub_id": "mteb/RAVDESS_AV"}, ["mteb/RAVDESS_AV"], "mteb/RAVDESS_AV"),
        ("cremad", {"data_dir": "PATH"}, None, "cremad"),
        ("my_rows:load", {}, None, "my_rows:load"),
    ],
)
def test_names_of_data(dataset, options, ids, identifier):
    card = render_card(replace(FACTS, settings={"dataset": dataset, "dataset_options": options}))
    assert card.data.datasets == ids
    types = {result.dataset_type for result in card.data.eval_results or ()}
    assert types == ({identifier} if identifier else set())
    assert ("to `hf_bml`." in card.text) == (dataset == "my_rows:load" or ids is not None)
    assert ("7442 clips of 91 actors" in card.text) == (options == {"data_dir": "PATH"})  # of CREMA-D, not RAVDESS


def test_what_the_author_says_wins():
    options = CardOptions(
        dataset="My clips", dataset_ids=["me/clips"], task="video-classification", base_model="me/base",
        dataset_args={"args": ["x"]},
    )  # fmt: skip
    data = render_card(FACTS, options).data
    assert data.base_model == "me/base" and data.datasets == ["me/clips"]
    result = data.eval_results[0]
    assert (result.dataset_name, result.dataset_type) == ("My clips", "me/clips")
    assert result.task_type == "video-classification" and result.dataset_args == {"args": ["x"]}


def test_many_classes_are_cut():
    names = {str(index): f"class{index}" for index in range(40)}
    text = render_card(replace(FACTS, config={**FACTS.config, "id2label": names})).text
    assert "class29, ... (all in `config.json`)" in text and "class30" not in text


def test_every_modulation_and_processor_has_its_line():
    modulations = {name: vars(modulation().config) for name, modulation in MODULATIONS.items()}
    processors = {name: {"type": name} for name in PROCESSORS}
    config = {"modalities": {"features": {"type": "sequence", "input_size": 5}}}
    facts = replace(FACTS, modulations=modulations, processors=processors, modalities=list(PROCESSORS), config=config)
    text = render_card(facts).text
    assert all(f"| `{name}`" in text for name in modulations)
    assert all(f'    "{name}": ' in text for name in PROCESSORS)
    start = text.index("noise = "), text.index("with torch.no_grad")
    names = {"torch": torch, "numpy": numpy}
    exec(text[slice(*start)], names)
    assert names["sample"]["features"].shape == (5,) and not any(value is ... for value in names["sample"].values())


def test_the_picture_is_the_runs_or_drawn(tmp_path):
    (tmp_path / "run").mkdir()
    Image.new("RGB", (3, 3)).save(tmp_path / "run" / "curves.png")
    write_card(FACTS, tmp_path / "taken", figures_from=tmp_path / "run")
    assert Image.open(tmp_path / "taken" / "curves.png").size == (3, 3)
    history = [{"loss": 1.0, "epoch": 1.0}, {"loss": 0.5, "epoch": 2.0}]
    card = write_card(replace(FACTS, history=history), tmp_path / "drawn")
    assert Image.open(tmp_path / "drawn" / "curves.png").size[0] > 500
    assert "![Training curves](curves.png)" in card.read_text()
    assert "curves.png" not in write_card(FACTS, tmp_path / "none").read_text()


def test_the_template_is_part_of_the_package():
    assert "{{ card_data }}" in (importlib.resources.files("hf_bml.hub") / "template.md").read_text()


@pytest.mark.parametrize("folder", sorted(path for path in PUBLISHED.iterdir() if path.is_dir()), ids=lambda p: p.name)
def test_published_cards(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    card = ModelCard(text)
    assert card.data.model_name == folder.name and card.data.license and card.data.eval_results
    assert all(is_hub_id(name) for name in card.data.datasets or ())
    [dataset] = {result.dataset_name for result in card.data.eval_results}
    assert all(said in text for said in describe_dataset(dataset).values())  # what its module says today
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert pictures and all((folder / picture).is_file() for picture in pictures)
    assert not re.search(r"(?<![\w.])(/home|/root|/tmp|/work|/data|/Users)/", text)
    index = (PUBLISHED / "README.md").read_text(encoding="utf-8")
    accuracy = {r.dataset_split: r.metric_value for r in card.data.eval_results if r.metric_name == "accuracy"}
    assert re.search(rf"\[{folder.name}\]\({folder.name}/README.md\) *\| {100 * accuracy['test']:.1f} ", index)


def test_options_in_one_line():
    options = {"type": "words", "max_length": 32, "vocabulary": ["a"] * 90, "mean": [0.5, 0.5], "fps": None}
    assert short(options) == "max_length 32, vocabulary of 90, mean [0.5, 0.5]"


def test_robustness_is_a_short_table():
    summary = {"clean": 0.9, "worst": 0.25, "missing_audio": 0.5, "missing_visual": 0.7, "noisy_audio/babble": 0.625}
    saw = "Training saw no corrupted signals."
    text = str(render_card(replace(FACTS, robustness={"summary": summary, "training_saw": saw})))
    rows = [
        "| clean                   | 90.0 ",
        "| without audio           | 50.0 ",
        "| audio: babble           | 62.5 ",
    ]
    assert all(row in text for row in rows) and "| worst of all severities | 25.0 " in text and saw in text
    assert "When a modality is missing or noisy" not in str(render_card(FACTS))
