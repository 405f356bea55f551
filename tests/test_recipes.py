"""Every recipe parses, builds its model, and says how to run it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageColumn
from media_samples import write_clip
from PIL import Image
from tiny_checkpoints import MEAN, STD, tiny_bert, tiny_timm, tiny_wav2vec2

from hf_bml.processing import MultimodalProcessor
from hf_bml.study import experiment
from hf_bml.study.checks import check_dataset_options, check_encoder_inputs, check_processors, check_recipe
from hf_bml.study.experiment import build_model
from hf_bml.study.finished_run import evaluate
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe
from hf_bml.study.recipe_yaml import read_recipe

ROOT = Path(__file__).parents[1] / "recipes"
PRETRAINED = ("image_text", "speech_face")  # whose models and data are on the Hub
ELSEWHERE = ("accelerate_configs", *PRETRAINED)
RECIPES = sorted(path for path in ROOT.rglob("*.yaml") if path.parent.name not in ELSEWHERE)
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
ROBUST_DATASETS = ("swell", "utd_mhad", "wiki")
ROBUST_NAMES = {"concat", "opm", "ogm_ge", "mod_drop", "multi_loss", "balanced", "opm_multi_loss"}
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
TASKS = {  # recipes of another task: by dataset its name and its architectures, each with variants
    "ave": ("segment_classification", ("avga", "avsdn", "psp")),
    "music_avqa": ("question_answering", ("avsd", "panoavqa")),
    "music_avqa_generated": ("question_answering", ("avsd", "panoavqa")),
}
TASK_VARIANTS = {"": set(), "_opm": {"opm"}, "_ogm": {"ogm"}, "_opm_ogm": {"opm", "ogm"}}
SPECIAL_ENCODERS = {  # by dataset, the encoders with input of their own; each with its variants
    "av_letters": ("xvector", "ivector", "multi_window", "tsn", "tsm"),
    "cremad": ("xvector", "ivector", "multi_window"),
    "kinetics_sounds": ("tsn", "tsm"),
    "ucf101": ("tsn", "tsm"),
}
VARIANTS = {"": set(), "_opm": {"opm"}, "_ogm_ge": {"ogm"}}
FURTHER = {
    **{d: {name + variant for name in names for variant in TASK_VARIANTS} for d, (_, names) in TASKS.items()},
    **{d: {name + variant for name in names for variant in VARIANTS} for d, names in SPECIAL_ENCODERS.items()},
}


@pytest.fixture(scope="module")
def parser():
    return train_parser()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipe(path, tmp_path, parser):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# hf-bml train recipes/{path.relative_to(ROOT)}\n")
    recipe = parse_recipe(parser, path, [str(path), "--output_dir", str(tmp_path), "--use_cpu", "true"])
    assert recipe.data.dataset == re.sub("_(bert|features|heart_rate|pool|vit)$", "", path.parent.name)
    check_dataset_options(recipe)
    if all(
        processor["type"] != "tokens" for processor in (recipe.data.processors or {}).values()
    ):  # tokenizers are on the Hub
        check_processors(recipe)
        check_encoder_inputs(recipe)
    for encoder in recipe.model.modalities.values():
        encoder.pop("pretrained", None)  # the weights are on the Hub
    with torch.device("meta"):  # drawing the weights takes most of the time
        model = build_model(recipe, None, 7)
    assert list(model.encoders) == list(recipe.model.modalities)
    raw = {name for name, encoder in recipe.model.modalities.items() if encoder["type"] != "features"}
    assert set(recipe.data.processors or {}) >= raw
    metric = {"multi_label_classification": "f1_micro", "regression": "mae"}.get(recipe.model.task, "accuracy")
    assert recipe.training.metric_for_best_model == metric, "select on validation"
    assert recipe.training.eval_strategy == "epoch"
    if "ogm" in (recipe.training.modulations or {}):
        assert recipe.training.optim == "sgd", "Adam cancels OGM's scale"


def test_extending_recipes_resolve_to_what_was_once_written_out():
    """Digests of all recipes of the first edition, which repeated every option in every file.

    Those of small models now keep every epoch's checkpoint, which nothing that is computed depends on.
    """
    digests = json.loads(Path(__file__).with_name("recipes_first_edition.json").read_text())
    for name, digest in digests.items():
        options = read_recipe(ROOT / name)
        if Path(name).parent.name in ("digits", "av_digits", "av_letters", "cmu_mosi"):
            assert "save_total_limit" not in options, name
            options["save_total_limit"] = 1
        text = json.dumps(options, sort_keys=True, default=str)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest, name


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_dataset_has_every_variant(dataset):
    names = {path.stem for path in (ROOT / dataset).glob("*.yaml")}
    assert {"concat", "opm", "ogm", "ogm_ge", "opm_ogm"} <= names
    modalities = read_recipe(ROOT / dataset / "concat.yaml")["modalities"]
    assert {f"unimodal_{modality}" for modality in modalities} <= names
    readme = (ROOT / dataset / "README.md").read_text(encoding="utf-8")
    assert "hf-bml train" in readme and "cores" in readme


@pytest.mark.parametrize("dataset", ROBUST_DATASETS)
def test_each_dataset_for_robustness_has_every_variant(dataset):
    names = {path.stem for path in (ROOT / dataset).glob("*.yaml")}
    modalities = read_recipe(ROOT / dataset / "concat.yaml")["modalities"]
    assert names == ROBUST_NAMES | {f"unimodal_{modality}" for modality in modalities}
    readme = (ROOT / dataset / "README.md").read_text(encoding="utf-8")
    assert "hf-bml train" in readme and "cores" in readme


@pytest.mark.parametrize("dataset", ROBUST_DATASETS)
def test_recipes_for_robustness_train_an_epoch(dataset, tmp_path, parser, require_data_file, monkeypatch):
    require_data_file(f"{dataset}/{dataset}.parquet")
    monkeypatch.setattr(experiment, "draw_curves", lambda *arguments: None)
    path = ROOT / dataset / "opm.yaml"
    options = {"output_dir": str(tmp_path), "use_cpu": "true", "num_train_epochs": "1", "disable_tqdm": "true"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    result = experiment.run(parse_recipe(parser, path, [str(path), *arguments]))
    assert math.isfinite(result["test"]["loss"]) and "failures" not in result
    given = json.loads((tmp_path / "processor_config.json").read_text())["modalities"]
    assert {name: "fitted" in each for name, each in given.items()} == {name: name != "depth" for name in given}


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
def test_each_dataset_of_the_paper_has_its_variants(dataset):
    names = {path.stem for path in (ROOT / dataset).glob("*.yaml")}
    assert names == {"concat", "opm", "ogm", "ogm_ge", "opm_ogm"} | FURTHER.get(dataset, set())
    readme = (ROOT / dataset / "README.md").read_text(encoding="utf-8")
    assert "hf-bml train" in readme and "cores" in readme and "Not run here" in readme and "paper's numbers" in readme


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
def test_recipes_of_clips_survive_damaged_ones_and_decode_once(dataset):
    for path in (ROOT / dataset).glob("*.yaml"):
        options = read_recipe(path)
        processors = options.get("processors", {})
        if "video" not in [processor["type"] for processor in processors.values()]:
            continue
        assert options["on_error"] == "mask", path
        for name, transform in MultimodalProcessor(processors).transforms.items():
            assert getattr(transform, "has_extract", False) or not transform.is_random, (path, name)


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
def test_the_papers_learning_rate_falls_after_70_of_100_epochs(dataset):
    options = read_recipe(ROOT / dataset / "concat.yaml")
    assert (options["lr_scheduler_type"], options["lr_drop_at"]) == ("constant", [0.7])
    assert options["num_train_epochs"] == 100 and "lr_drop_factor" not in options


@pytest.mark.parametrize("dataset", (*DATASETS, *ROBUST_DATASETS, *PAPER_DATASETS))
def test_variants_differ_from_concat_only_in_what_their_name_says(dataset):
    concat = read_recipe(ROOT / dataset / "concat.yaml")
    for path in (ROOT / dataset).glob("*.yaml"):
        if path.stem in FURTHER.get(dataset, ()):
            continue
        changed = difference(read_recipe(path), concat)
        if path.stem in ARCHITECTURES:
            assert changed == ARCHITECTURES[path.stem], path
        else:
            assert changed <= ({"modalities"} if path.stem.startswith("unimodal") else {"modulations"}), path


def difference(options, base):
    """The keys in which two recipes differ."""
    return {key for key in options.keys() | base.keys() if options.get(key) != base.get(key)}


@pytest.mark.parametrize(("dataset", "name"), [(d, name) for d, (_, names) in TASKS.items() for name in names])
def test_recipes_of_other_tasks_differ_only_in_what_their_name_says(dataset, name):
    task, names = TASKS[dataset]
    read = {path.stem: read_recipe(path) for path in (ROOT / dataset).glob("*.yaml")}
    plain, first = read[name], read[names[0]]
    assert plain["task"] == task and plain["architecture"] == name
    architecture = {"architecture", "architecture_options", "modalities", "dataset_options", "learning_rate"}
    assert difference(plain, first) <= architecture
    for suffix, modulations in TASK_VARIANTS.items():
        variant = read[name + suffix]
        assert difference(variant, plain) == ({"modulations"} if modulations else set())
        assert variant.get("modulations", {}).keys() == modulations


@pytest.mark.parametrize(("dataset", "name"), [(d, name) for d, names in SPECIAL_ENCODERS.items() for name in names])
def test_special_encoders_differ_in_one_modality_and_their_variants_in_modulations(dataset, name):
    read = {stem: read_recipe(ROOT / dataset / f"{stem}.yaml") for stem in ("concat", name)}
    concat, plain = read["concat"], read[name]
    assert difference(plain, concat) <= {"modalities", "processors", "head_init_std", "lr_multipliers"}
    clips = {"visual", "flow"} if dataset == "ucf101" else {"visual"}
    own = clips if name in ("tsn", "tsm") else {"audio"}
    assert difference(plain["modalities"], concat["modalities"]) == own
    assert difference(plain["processors"], concat["processors"]) <= own
    for variant, modulations in VARIANTS.items():
        options = read_recipe(ROOT / dataset / f"{name}{variant}.yaml")
        assert difference(options, plain) == ({"modulations"} if modulations else set())
        assert options.get("modulations", {}).keys() == modulations
        if "ogm" in modulations:
            assert options["modulations"]["ogm"]["noise"] == "entry_std", "the paper's OGM"


def test_av_letters_has_every_architecture_of_the_papers_tables():
    assert ARCHITECTURES.keys() <= {path.stem for path in (ROOT / "av_letters").glob("*.yaml")}


@pytest.fixture
def tiny_instead(tmp_path):
    """By recipe of pretrained encoders, options of the command line: checkpoints of the same kind, and data, here."""
    model, words = tmp_path / "model", ["where", "is", "which", "it", "?"]
    rows = [{"question": f"which {words[row % 2]}?", "topic": "ab"[row % 2]} for row in range(12)]
    for row in range(0, 12, 3):
        rows[row]["image"] = Image.new("RGB", (40, 30), (20 * row, 90, 0))
    features = Features({"image": ImageColumn(), "question": Value("string"), "topic": Value("string")})
    Dataset.from_list([{"image": None, **row} for row in rows], features).to_parquet(tmp_path / "questions.parquet")
    for row in range(6):
        write_clip(tmp_path / f"01-{row % 2 + 1}-{row // 2:02d}.mp4", seconds=0.6 + 0.1 * row)
    clips = [{"video_id": path.name, "video": str(path)} for path in sorted(tmp_path.glob("*.mp4"))]
    lines = [f"{clip['video_id']},{clip['video']},{clip['video_id'][3]}" for clip in clips]
    (tmp_path / "clips.csv").write_text("\n".join(["video_id,video,emotion", *lines]))

    def options(name: str) -> dict[str, str]:
        if name == "image_text":
            return {
                "modalities.image.architecture": tiny_timm(model / "image"),
                "modalities.text.model": tiny_bert(model / "text", words),
                "dataset_options.path": "parquet",
                "dataset_options.data_files": str(tmp_path / "questions.parquet"),
                "dataset_options.revision": "null",
            }
        return {
            "modalities.face.architecture": tiny_timm(model / "face"),
            "modalities.speech.model": tiny_wav2vec2(model / "speech"),
            "dataset_options.path": "csv",
            "dataset_options.data_files": str(tmp_path / "clips.csv"),
            "dataset_options.revision": "null",
            "dataset_options.modalities": '{"speech": "video", "face": "video"}',
            "dataset_options.types": '{"speech": "audio", "face": "video"}',
            "dataset_options.splits": "null",
            "dataset_options.test_fraction": "0.3",
            "dataset_options.validation_fraction": "0.3",
        }

    return options


@pytest.mark.parametrize("name", PRETRAINED)
def test_recipes_of_pretrained_encoders_train_tiny_ones(name, tmp_path, parser, tiny_instead, monkeypatch):
    monkeypatch.setattr(experiment, "draw_curves", lambda *arguments: None)
    concat, opm = (read_recipe(ROOT / name / f"{variant}.yaml") for variant in ("concat", "opm"))
    assert difference(concat, opm) == {"modulations"} and concat["dataset_options"]["revision"]
    run = {"use_cpu": "true", "num_train_epochs": "1", "disable_tqdm": "true", "dataloader_num_workers": "0"}
    options = {**tiny_instead(name), **run, "per_device_train_batch_size": "2", "output_dir": str(tmp_path / "run")}
    arguments = [part for option, value in options.items() for part in (f"--{option}", value)]
    recipe = parse_recipe(parser, ROOT / name / "opm.yaml", [str(ROOT / name / "opm.yaml"), *arguments])
    check_recipe(recipe)
    result = experiment.run(recipe)
    assert math.isfinite(result["test"]["loss"]) and "failures" not in result
    history = json.loads((tmp_path / "run/trainer_state.json").read_text())["log_history"]
    assert any("opm/drop_probability_face" in entry or "opm/drop_probability_image" in entry for entry in history)
    saved = json.loads((tmp_path / "run/processor_config.json").read_text())["modalities"]
    images = saved["image" if name == "image_text" else "face"]
    assert (images["size"], images["mean"], images["std"]) == ([32, 32], MEAN, STD)
    shutil.rmtree(tmp_path / "model" / ("text" if name == "image_text" else "speech"))  # the run has its own
    assert evaluate(tmp_path / "run", "test") == pytest.approx(result["test"])
