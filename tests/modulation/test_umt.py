from __future__ import annotations

import numpy as np
import pytest
import torch
from teachers import NAMES, loaded, save_teachers, taught_trainer
from tiny_images import tiny_image_model
from torch.utils._pytree import tree_leaves

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.modulation import UMT
from hf_bml.modulation.teachers import feature_distance


def test_the_distance_of_the_worked_example():
    feature = torch.tensor([[1.0, 0.0]], requires_grad=True)
    distance = feature_distance(feature, torch.tensor([[0.0, 2.0]]))
    assert distance.item() == 2.5 and UMT().config.weight * distance.item() == 25
    distance.backward()
    assert feature.grad.tolist() == [[1.0, -2.0]]


def test_absent_samples_do_not_count():
    features = torch.tensor([[1.0, 0.0], [7.0, 7.0]])
    taught = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    assert feature_distance(features, taught, torch.tensor([True, False])).item() == 2.5
    assert feature_distance(features, taught, torch.tensor([False, False])).item() == 0
    sequence = torch.ones(2, 3, 4)  # batch, segments, dim
    assert feature_distance(sequence, 0 * sequence).item() == 1


def test_teachers_that_are_the_student_teach_nothing_at_first(training_args, tmp_path):
    """In eval mode, as the teachers are: a frozen BatchNorm gives the student the same features in training."""

    def step_of(modulations):
        model = tiny_image_model()
        folders = save_teachers(tmp_path, model)
        for encoder in model.encoders.values():
            for layer in encoder.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.requires_grad_(False)
        trainer = taught_trainer(model, training_args(modulations=modulations, max_steps=1, logging_steps=1), folders)
        trainer.train()
        return trainer

    taught, plain = step_of({"umt": {}}), step_of({})
    logs = taught.state.log_history[0]
    assert [logs[f"umt/distance_{name}"] for name in NAMES] == [0, 0]
    weights = dict(plain.model.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in taught.model.named_parameters())


def test_teachers_stay_as_they_are_and_pull(training_args, tmp_path):
    folders = save_teachers(tmp_path)
    trainer = taught_trainer(tiny_image_model(), training_args(modulations={"umt": {"weight": 100}}), folders)
    trainer.train()
    for name, teacher in loaded(trainer).items():
        assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
        before = type(teacher).from_pretrained(folders[name]).state_dict()
        assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    first, *_, last = [entry for entry in trainer.state.log_history if "umt/distance_audio" in entry]
    assert all(last[f"umt/distance_{name}"] < first[f"umt/distance_{name}"] for name in NAMES)


def test_a_model_is_evaluated_without_its_teachers(training_args):
    trainer = taught_trainer(tiny_image_model(), training_args(modulations={"umt": {}}), None)
    assert trainer.evaluate(trainer.train_dataset)["eval_loss"] > 0
    with pytest.raises(ValueError, match=r"\['umt'\] learn from a model of each modality .* trained_alone names none"):
        trainer.train()


def test_evaluation_is_that_of_the_model_alone(training_args, tmp_path):
    folders, model = save_teachers(tmp_path), tiny_image_model()
    taught = taught_trainer(model, training_args(modulations={"umt": {}}), folders)
    plain = taught_trainer(model, training_args(), None)
    rows = taught.train_dataset
    first, second = (trainer.predict(rows).predictions for trainer in (taught, plain))
    assert all(map(np.array_equal, tree_leaves(first), tree_leaves(second)))


def test_what_is_refused(training_args, tmp_path):
    folders = save_teachers(tmp_path)
    args = training_args(modulations={"umt": {}})
    with pytest.raises(ValueError, match=r"\['umt'\] need the head as a function .* interaction 'mmtm'"):
        taught_trainer(tiny_image_model(interaction="mmtm"), args, folders)
    with pytest.raises(ValueError, match=r"trained_alone names \['audio'\]"):
        taught_trainer(tiny_image_model(), args, {"audio": folders["audio"]}).train()
    with pytest.raises(ValueError, match="weight must be a number in"):
        UMT(weight=-1)


def test_zero_3_is_refused(training_args, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_bml.training.needs.is_deepspeed_zero3_enabled", lambda: True)
    trainer = taught_trainer(tiny_image_model(), training_args(modulations={"umt": {}}), save_teachers(tmp_path))
    with pytest.raises(ValueError, match=r"\['umt'\] load models that were trained alone, which DeepSpeed's ZeRO-3"):
        trainer.train()


@pytest.mark.parametrize("name", ["mla", "reconboost"])
def test_it_is_refused_beside_what_replaces_losses(training_args, name):
    with pytest.raises(ValueError, match=f"umt adds losses to those that {name} replaces"):
        taught_trainer(tiny_image_model(fusion="shared"), training_args(modulations={"umt": {}, name: {}}), None)


def test_features_of_another_size(training_args, tmp_path):
    folders = save_teachers(tmp_path)
    encoder = {"type": "conv", "in_channels": 1, "channels": [4, 4, 5]}
    model = MultimodalForClassification(MultimodalConfig(modalities=dict.fromkeys(NAMES, encoder), num_labels=3))
    trainer = taught_trainer(model, training_args(modulations={"umt": {}}), folders)
    with pytest.raises(ValueError, match=r"features of 'audio' are \(8, 4\) .* but \(8, 5\) here"):
        trainer.train()
