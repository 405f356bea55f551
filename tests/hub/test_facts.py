"""Facts come from the run and nowhere else: what is not there is left out, and what belongs to other weights too."""

from __future__ import annotations

import json

import pytest
import yaml
from tiny import tiny_config

from hf_bml import OPMConfig
from hf_bml.hub.facts import facts_of_run, results_at

HISTORY = [
    {"loss": 1.0, "balance/ratio_audio": 2.0, "balance/ratio_visual": 0.5, "step": 10, "epoch": 1.0},
    {"eval_loss": 0.9, "eval_accuracy": 0.5, "eval_accuracy_audio": 0.4, "eval_runtime": 3.0, "step": 10},
    {"loss": 0.5, "balance/ratio_audio": 1.5, "balance/ratio_visual": 0.8, "step": 20, "epoch": 2.0},
    {"eval_loss": 1.1, "eval_accuracy": 0.4, "step": 20},
]
END = {"train_runtime": 7.0, "train_loss": 0.7, "step": 20}


def test_results_are_those_of_the_weights():
    assert results_at(HISTORY, 10) == {"validation": {"loss": 0.9, "accuracy": 0.5, "accuracy_audio": 0.4}}
    assert results_at(HISTORY, 20) == {"validation": {"loss": 1.1, "accuracy": 0.4}}
    assert results_at(HISTORY, 15) == {}
    assert results_at(HISTORY, None) == {}


def test_what_is_evaluated_after_the_end_is_of_the_final_weights():
    after = [*HISTORY, END, {"test_accuracy": 0.45, "test_report": "text", "step": 20}]
    assert results_at(after, 10) == {
        "validation": {"loss": 0.9, "accuracy": 0.5, "accuracy_audio": 0.4},
        "test": {"accuracy": 0.45},
    }


def write_run(folder, options, metrics=None, history=(*HISTORY, END)):
    folder.mkdir(parents=True)
    config = tiny_config().to_dict()
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["MultimodalForClassification"]}))
    (folder / "config.yaml").write_text(yaml.safe_dump(options))
    state = {"log_history": list(history), "global_step": 20, "best_global_step": 10, "max_steps": 20}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


OPTIONS = {
    "dataset": "cremad",
    "dataset_options": {"data_dir": "/home/somebody/cremad", "video_dir": "clips"},
    "modulations": {"opm": {"q_base": 0.3}},
    "load_best_model_at_end": True,
    "output_dir": "/home/somebody/runs/x",
    "hub_model_id": "somebody/x",
    "hub_token": "hf_secret",
    "model_name_or_path": "~/start",
    "seed": 3,
}


def test_a_finished_run(tmp_path):
    metrics = {
        "validation": {"accuracy": 0.5},
        "test": {"accuracy": 0.6, "confusion": [[1]]},
        "final_ratios": {"audio": 1.25, "visual": 0.9},
        "train_seconds": 12.5,
        "seed": 3,
        "environment": {"torch": "2.0"},
    }
    facts = facts_of_run(write_run(tmp_path / "run", OPTIONS, metrics), name="mine")
    assert facts.name == "mine" and facts.is_finished and facts.seed == 3 and facts.train_seconds == 12.5
    assert facts.modalities == ["audio", "visual"]
    assert facts.results == {"validation": {"accuracy": 0.5}, "test": {"accuracy": 0.6}}
    assert facts.ratios == {"audio": 1.25, "visual": 0.9}
    assert facts.modulations["opm"]["q_base"] == 0.3 and facts.modulations["opm"]["lam"] == OPMConfig().lam
    assert facts.environment == {"torch": "2.0"}
    shown = json.dumps(facts.settings)
    assert "somebody" not in shown and "hf_secret" not in shown
    assert facts.settings["dataset_options"] == {"data_dir": "PATH", "video_dir": "clips"}
    assert facts.settings["model_name_or_path"] == "PATH"


def test_a_run_that_was_not_evaluated_keeps_what_training_logged_of_its_best_weights(tmp_path):
    facts = facts_of_run(write_run(tmp_path / "run", OPTIONS))
    assert facts.name == "run" and facts.step == 10 and facts.is_finished
    assert facts.results == {"validation": {"loss": 0.9, "accuracy": 0.5, "accuracy_audio": 0.4}}
    assert facts.ratios == {"audio": 1.5, "visual": 0.8}
    assert facts.environment == {} and facts.train_seconds is None


def test_a_checkpoint_of_a_training_that_goes_on(tmp_path):
    run = write_run(tmp_path / "run", OPTIONS)
    folder = write_run(run / "checkpoint-20", {}, history=HISTORY)
    (folder / "config.yaml").unlink()
    facts = facts_of_run(folder)
    assert not facts.is_finished and (facts.step, facts.max_steps) == (20, 20)
    assert facts.results == {"validation": {"loss": 1.1, "accuracy": 0.4}}  # not those of the best step
    assert facts.settings["dataset"] == "cremad"


def test_a_time_that_was_only_for_the_rest_is_left_out(tmp_path):
    metrics = {"test": {}, "final_ratios": {}, "train_seconds": 1.0, "resumed_from": "/x/checkpoint-10"}
    assert facts_of_run(write_run(tmp_path / "run", OPTIONS, metrics)).train_seconds is None


def test_no_model_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json; expected the folder of a trained model"):
        facts_of_run(tmp_path)
