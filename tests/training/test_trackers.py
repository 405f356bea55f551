"""What the training logs reaches trackers under stable names; every one of them sits behind `Trainer.log`."""

from __future__ import annotations

import copy
import types

import pytest
from tiny import tiny_dataset, tiny_model
from transformers.integrations.integration_utils import TrackioCallback, WandbCallback

from hf_bml import MultimodalBalancedTrainer
from hf_bml.metrics import classification_metrics

MODALITIES = ("audio", "visual")
MODULATIONS = {"opm": {"q_base": 0.5}, "ogm": {"alpha": 0.8}}
NAMES = {
    "train/balance/score",
    "train/balance/ratio",
    "train/unimodal/accuracy",
    "train/opm/drop_probability",
    "train/opm/drop_fraction",
    "train/ogm/coefficient",
}
BY_MODALITY = {f"{name}_{modality}" for name in NAMES for modality in MODALITIES}
OTHERS = {"train/loss", "train/learning_rate", "train/grad_norm", "train/epoch"}


def train(args, callbacks=()):
    options = {"callbacks": list(callbacks), "compute_metrics": classification_metrics, "eval_dataset": tiny_dataset()}
    trainer = MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset(), **options)
    trainer.train()
    return trainer


def test_tensorboard(training_args, tmp_path, monkeypatch):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    args = training_args(report_to="tensorboard", modulations=MODULATIONS, eval_strategy="steps", eval_steps=4)
    trainer = train(args)
    events = reader.EventAccumulator(str(tmp_path / "events")).Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= BY_MODALITY | OTHERS
    assert tags >= {"eval/loss", "eval/accuracy", "eval/accuracy_audio", "eval/accuracy_visual"}
    for name in ("balance/ratio_audio", "opm/drop_probability_audio", "ogm/coefficient_visual"):
        logged = [(entry["step"], entry[name]) for entry in trainer.state.log_history if name in entry]
        found = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert [step for step, _ in found] == [step for step, _ in logged] == [2, 4, 6, 8]
        assert [value for _, value in found] == pytest.approx([value for _, value in logged])


@pytest.mark.parametrize(("callback", "module"), [(WandbCallback, "_wandb"), (TrackioCallback, "_trackio")])
def test_wandb_and_trackio_see_the_same_names(training_args, callback, module):
    """Their callbacks with a recorder in the place of the package, which need not be installed."""
    logged = []
    recorder = types.SimpleNamespace(
        log=lambda values: logged.append(copy.copy(values)),
        run=types.SimpleNamespace(summary={}),
        config=types.SimpleNamespace(update=lambda *args, **kwargs: None),
    )
    tracker = object.__new__(callback)
    vars(tracker).update({module: recorder, "_initialized": True})
    for unused in ("on_train_begin", "on_train_end", "on_save"):
        setattr(tracker, unused, lambda *args, **kwargs: None)
    train(training_args(report_to="none", modulations=MODULATIONS, eval_strategy="steps", eval_steps=4), [tracker])
    names = {name for values in logged for name in values}
    assert names >= BY_MODALITY | OTHERS | {"eval/accuracy_audio"}
    assert all(isinstance(values[name], float) for values in logged for name in BY_MODALITY & set(values))
