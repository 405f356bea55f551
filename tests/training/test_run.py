from __future__ import annotations

import pytest
import torch
from tiny import tiny_dataset, tiny_model

from hf_bml import MultimodalBalancedTrainer, MultimodalConfig, MultimodalForClassification
from hf_bml.training.run import TrainerRun


def run_with(args):
    return TrainerRun(MultimodalBalancedTrainer(tiny_model(), args))


@pytest.mark.parametrize("form", ['{{"audio": "{folder}"}}', None], ids=["json", "mapping"])
def test_a_model_that_was_trained_alone(training_args, tmp_path, form):
    config = MultimodalConfig(
        modalities={"audio": {"type": "mlp", "input_size": 3, "hidden_sizes": [4]}}, num_labels=3
    )
    alone = MultimodalForClassification(config)
    alone.save_pretrained(tmp_path / "alone")
    folder = str(tmp_path / "alone")
    run = run_with(training_args(trained_alone=form.format(folder=folder) if form else {"audio": folder}))
    loaded = run.trained_alone("audio")
    for name, value in alone.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    with pytest.raises(ValueError, match=r"needs a model of 'visual' .* names \['audio'\]"):
        run.trained_alone("visual")


def test_the_held_out_part_is_collected(training_args):
    """40 % of 10 rows; the training split is what remains."""
    trainer = MultimodalBalancedTrainer(
        tiny_model(auxiliary_loss_weight=0.0),
        training_args(modulations={"gradient_blending": {"held_out": 0.4}}),
        train_dataset=tiny_dataset(samples=10),
    )
    found = {split: TrainerRun(trainer).collect(split, ["labels", "features"]) for split in ("train", "held_out")}
    assert len(found["train"]["labels"]) == 6
    assert found["held_out"]["labels"].tolist() == trainer.held_out_dataset[:]["labels"].tolist()
    assert found["held_out"]["features_audio"].shape == (4, 4)


def test_without_such_a_model(training_args):
    with pytest.raises(ValueError, match="trained_alone names none"):
        run_with(training_args()).trained_alone("audio")
    with pytest.raises(ValueError, match="trained_alone must map modalities to folders, found 'runs/audio'"):
        training_args(trained_alone="runs/audio")
