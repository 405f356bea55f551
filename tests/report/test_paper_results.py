from __future__ import annotations

from pathlib import Path

import pytest

from hf_bml.report.paper_results import matching_results, paper_dataset, paper_method, paper_results
from hf_bml.study.recipe_yaml import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"

RESNET = {"type": "timm", "architecture": "resnet18", "pretrained": False, "dropout": 0.0}
BOTH = {"audio": RESNET, "visual": RESNET}
XVECTOR = {**BOTH, "audio": {"type": "xvector"}}
TSM = {**BOTH, "visual": {**RESNET, "temporal_shift": True}}
TSN = {**BOTH, "visual": {**RESNET, "dropout": 0.8}}
PRETRAINED = {**RESNET, "architecture": "resnet18.tv_in1k", "pretrained": True}
SEGMENT = {"visual": {"type": "video", "sampling": "segment"}}
FEATURES = {name: {"type": "features"} for name in BOTH}
SEQUENCES = {name: {"type": "sequence", "num_layers": 1} for name in ("text", "audio")}
NOISY = {"alpha": 0.8, "noise": "entry_std"}


def test_the_table_is_complete_and_in_range():
    found = paper_results()
    assert len(found) == 400 and set(found["table"]) >= {"1", "2", "7a", "7b", "15"}
    assert found["value"].between(0.5, 100, inclusive="neither").all() and not found.isna().any(axis=None)


def test_data_sets_count_only_with_the_paper_s_task():
    assert paper_dataset("cremad") == "CREMA-D"
    assert paper_dataset("av_letters") is None
    assert paper_dataset("ave") is None and paper_dataset("ave", "segment_classification") == "AVE"
    assert paper_dataset("music_avqa", "question_answering") == "MUSIC-AVQA"


def test_copies_on_the_hub_are_other_data():
    assert paper_dataset("cremad", options={"hub_id": "mteb/RAVDESS_AV"}) is None
    assert paper_dataset("cremad", options={"hub_id": None, "split": "official"}) == "CREMA-D"


@pytest.mark.parametrize(
    ("options", "encoders", "expected"),
    [
        ({}, BOTH, "Concatenation"),
        ({"modulations": {"opm": {"q_base": 0.3}}}, BOTH, "Concatenation-OPM"),
        ({"modulations": {"opm": None}, "fusion": "film"}, BOTH, "FiLM-OPM"),
        ({"modulations": {"ogm": NOISY, "opm": {}}}, BOTH, "Concatenation-OPM+OGM"),
        ({"modulations": {"ogm": {"alpha": 0.8}}}, BOTH, None),  # without noise it is not the paper's
        ({"modulations": {"opm": {"transform": "sigmoid"}}}, BOTH, None),
        ({"fusion": "gated"}, BOTH, None),
        ({"interaction": "mmtm", "modulations": {"ogm": NOISY}}, BOTH, "MMTM-OGM"),
        ({"head_hidden_sizes": [512]}, BOTH, "Multi-layer classifier"),
        ({"architecture": "psp", "modulations": {"opm": {}}}, FEATURES, "PSP-OPM"),
        ({"architecture": "psp"}, BOTH, None),  # of raw clips
        ({"dataset": "cremad"}, {"visual": RESNET}, "Visual/OF-only"),
        ({"dataset": "cremad"}, {"audio": {"type": "conv"}}, None),
        ({"dataset": "ucf101"}, {"visual": PRETRAINED}, "Audio/RGB-only"),
        ({"dataset": "ucf101"}, {"flow": PRETRAINED}, "Visual/OF-only"),
        ({"dataset": "ucf101"}, {"flow": RESNET}, None),  # the paper starts from ImageNet
        ({"dataset": "cremad"}, {"visual": PRETRAINED}, None),
        ({"dataset": "cremad"}, {"text": RESNET}, None),
        ({"dataset": "cmu_mosi", "modulations": {"opm": {}}}, SEQUENCES, "Concatenation-OPM"),
        ({"dataset": "cmu_mosi"}, BOTH, None),
        ({"bias_split": {"audio": 1.0, "visual": 1.0}}, BOTH, None),
        ({"auxiliary_loss_weight": 1.0}, BOTH, None),
        ({"auxiliary_loss_weight": 0.0, "modulations": {"gradient_blending": {}}}, BOTH, "Concatenation-GBlending"),
        ({"modulations": {"opm": {}}}, XVECTOR, "X-vector-OPM"),
        ({"fusion": "film"}, XVECTOR, None),
        ({}, {**BOTH, "audio": {"type": "mlp"}}, None),
        ({"processors": {"audio": {"type": "ivector"}}}, {**BOTH, "audio": {"type": "mlp"}}, "I-vector"),
        ({"modulations": {"opm": {}}}, {**BOTH, "audio": {"type": "multi_window"}}, None),
        ({"modulations": {"opm": {}}}, TSM, "TSM-OPM"),
        ({"modulations": {"opm": {}}, "bias_split": {"audio": 0, "visual": 0}}, TSM, None),
        ({"interaction": "mmtm"}, TSM, None),
        ({"processors": SEGMENT}, TSN, "TSN"),
        ({}, TSN, None),
        ({"processors": SEGMENT}, BOTH, None),
        ({"processors": SEGMENT}, {**TSN, "audio": {"type": "xvector"}}, None),
        ({}, {**BOTH, "visual": {**RESNET, "architecture": "resnet50"}}, None),
        ({}, {**BOTH, "visual": {**RESNET, "model_args": {"channels": [8]}}}, None),
    ],
)
def test_methods(options, encoders, expected):
    assert paper_method(options, encoders) == expected


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("cremad/xvector_opm", 74.7),
        ("cremad/ivector_ogm_ge", 74.6),
        ("cremad/multi_window_opm", None),
        ("kinetics_sounds/tsm_opm", 69.9),
        ("kinetics_sounds/tsn_opm", 70.0),
        ("kinetics_sounds/opm", 67.0),
        ("ucf101/tsn", 80.9),
        ("ucf101/concat", 80.5),
        ("ucf101_three/concat", 82.5),
        ("vggsound/concat", 52.7),
        ("cmu_mosi_features/opm", 77.6),
        ("ave/psp_opm", 75.4),
        ("music_avqa/panoavqa", 70.3),
        ("av_letters/tsm_opm", None),
    ],
)
def test_the_recipes_have_the_paper_s_rows(recipe, expected):
    options = read_recipe(RECIPES / f"{recipe}.yaml")
    dataset = paper_dataset(options["dataset"], options.get("task", "classification"), options.get("dataset_options"))
    found = matching_results(dataset, paper_method(options, options["modalities"]))
    assert found["value"].get("accuracy") == expected


def test_results_by_our_metrics():
    found = matching_results("CREMA-D", "Concatenation-GBlending")
    assert {cell.Index: (cell.value, cell.table) for cell in found.itertuples()} == {
        "accuracy": (72.0, "5"),
        "mean_average_precision": (78.6, "5"),
    }
    assert matching_results("CMU-MOSI", "Concatenation-OPM").at["f1_weighted", "value"] == 77.4
    assert matching_results("CREMA-D", None).empty and matching_results("CREMA-D", "nothing").empty
