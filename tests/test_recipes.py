"""Every recipe parses, builds its model, and says how to run it."""

from pathlib import Path

import pytest
import yaml

from hf_bml.commands.checks import check_dataset_options
from hf_bml.commands.experiment import build_model
from hf_bml.commands.recipe import parse_recipe
from hf_bml.commands.train import build_parser

ROOT = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(path for path in ROOT.rglob("*.yaml") if path.parent.name != "accelerate_configs")
ARCHITECTURES = {  # what they change in concat
    "sum": {"fusion"},
    "film": {"fusion", "conditioning"},
    "gated": {"fusion", "conditioning"},
    "multilayer": {"head_hidden_sizes"},
    "centralnet": {"interaction", "auxiliary_loss_weight"},
    "mmtm": {"interaction"},
    "cross_attention": {"interaction", "interaction_options"},
}
DATASETS = ("av_digits", "av_letters", "cmu_mosi", "digits")
PAPER_DATASETS = (
    "ave",
    "cmu_mosi_features",
    "cremad",
    "kinetics_sounds",
    "music_avqa",
    "ucf101",
    "ucf101_three",
    "vggsound",
)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipe(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# hf-bml train recipes/{path.relative_to(ROOT)}\n")
    recipe = parse_recipe(build_parser(), path, [str(path), "--output_dir", str(tmp_path), "--use_cpu", "true"])
    assert recipe.data.dataset == path.parent.name.removesuffix("_features")
    check_dataset_options(recipe)
    for encoder in recipe.model.modalities.values():
        encoder.pop("pretrained", None)  # the weights are on the Hub
    model = build_model(recipe, None, 7)
    assert list(model.encoders) == list(recipe.model.modalities)
    assert set(recipe.data.processors) >= set(recipe.model.modalities)
    assert recipe.training.metric_for_best_model == "accuracy", "select on validation"
    assert recipe.training.eval_strategy == "epoch"
    if "ogm" in (recipe.training.modulations or {}):
        assert recipe.training.optim == "sgd", "Adam cancels OGM's scale"


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_dataset_has_every_variant(dataset):
    names = {path.stem for path in (ROOT / dataset).glob("*.yaml")}
    assert {"concat", "opm", "ogm", "ogm_ge", "opm_ogm"} <= names
    modalities = yaml.safe_load((ROOT / dataset / "concat.yaml").read_text())["modalities"]
    assert {f"unimodal_{modality}" for modality in modalities} <= names
    readme = (ROOT / dataset / "README.md").read_text(encoding="utf-8")
    assert "hf-bml train" in readme and "cores" in readme


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
def test_each_dataset_of_the_paper_has_its_variants(dataset):
    names = {path.stem for path in (ROOT / dataset).glob("*.yaml")}
    assert names == {"concat", "opm", "ogm", "ogm_ge", "opm_ogm"}
    readme = (ROOT / dataset / "README.md").read_text(encoding="utf-8")
    assert "hf-bml train" in readme and "cores" in readme and "Not run here" in readme and "paper's numbers" in readme


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
def test_the_papers_learning_rate_falls_after_70_of_100_epochs(dataset):
    options = yaml.safe_load((ROOT / dataset / "concat.yaml").read_text())
    assert (options["lr_scheduler_type"], options["lr_drop_at"]) == ("constant", [0.7])
    assert options["num_train_epochs"] == 100 and "lr_drop_factor" not in options


@pytest.mark.parametrize("dataset", (*DATASETS, *PAPER_DATASETS))
def test_variants_differ_from_concat_only_in_what_their_name_says(dataset):
    concat = yaml.safe_load((ROOT / dataset / "concat.yaml").read_text())
    for path in (ROOT / dataset).glob("*.yaml"):
        options = yaml.safe_load(path.read_text())
        changed = {key for key in options.keys() | concat.keys() if options.get(key) != concat.get(key)}
        if path.stem in ARCHITECTURES:
            assert changed == ARCHITECTURES[path.stem], path
        else:
            assert changed <= ({"modalities"} if path.stem.startswith("unimodal") else {"modulations"}), path


def test_av_letters_has_every_architecture_of_the_papers_tables():
    assert ARCHITECTURES.keys() <= {path.stem for path in (ROOT / "av_letters").glob("*.yaml")}
