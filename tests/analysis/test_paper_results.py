import pytest

from hf_bml.analysis.paper_results import matching_results, paper_dataset, paper_method, paper_results

BOTH = ["audio", "visual"]
NOISY = {"alpha": 0.8, "noise": "entry_std"}


def test_the_table_is_complete_and_in_range():
    found = paper_results()
    assert len(found) == 400 and {r.table for r in found} >= {"1", "2", "7a", "7b", "15"}
    assert all(0.5 < r.value < 100 for r in found)


def test_data_sets_count_only_with_the_paper_s_task():
    assert paper_dataset("cremad") == "CREMA-D"
    assert paper_dataset("av_letters") is None
    assert paper_dataset("ave") is None and paper_dataset("ave", "segment_classification") == "AVE"
    assert paper_dataset("music_avqa", "question_answering") == "MUSIC-AVQA"


@pytest.mark.parametrize(
    ("options", "modalities", "expected"),
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
        ({"architecture": "psp", "modulations": {"opm": {}}}, BOTH, "PSP-OPM"),
        ({"dataset": "cremad"}, ["visual"], "Visual/OF-only"),
        ({"dataset": "ucf101"}, ["visual"], "Audio/RGB-only"),
        ({"dataset": "ucf101"}, ["flow"], "Visual/OF-only"),
        ({"dataset": "cremad"}, ["text"], None),
    ],
)
def test_methods(options, modalities, expected):
    assert paper_method(options, modalities) == expected


def test_results_by_our_metrics():
    found = matching_results("CREMA-D", "Concatenation-GBlending")
    assert {name: (r.value, r.table) for name, r in found.items()} == {
        "accuracy": (72.0, "5"),
        "mean_average_precision": (78.6, "5"),
    }
    assert matching_results("CMU-MOSI", "Concatenation-OPM")["f1_weighted"].value == 77.4
    assert matching_results("CREMA-D", None) == matching_results("CREMA-D", "nothing") == {}
