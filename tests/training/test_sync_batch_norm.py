"""`sync_batch_norm`: what is converted, when, and that nothing else changes. Several CPU processes cannot run it."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_model
from torch import nn

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer, MultimodalConfig, MultimodalForClassification


def convolutional_model():
    """timm's `test_efficientnet` normalises and activates in one module."""
    torch.manual_seed(0)
    config = MultimodalConfig(
        modalities={
            "audio": {"type": "conv", "in_channels": 1, "channels": [4, 6]},
            "visual": {"type": "timm", "architecture": "test_efficientnet", "in_channels": 3},
        },
        num_labels=3,
    )
    return MultimodalForClassification(config)


@pytest.fixture
def two_processes(monkeypatch):
    """As on two GPUs, as far as the trainer's construction asks."""
    monkeypatch.setattr(BalancedTrainingArguments, "world_size", property(lambda self: 2))
    monkeypatch.setattr("hf_bml.training.preflight.check_sync_batch_norm", lambda device: None)


def kinds(model):
    return {
        (name, isinstance(module, nn.SyncBatchNorm))
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }


def inputs():
    generator = torch.Generator().manual_seed(1)
    audio, visual = (torch.randn(4, channels, 32, 32, generator=generator) for channels in (1, 3))
    return {"audio": audio, "visual": visual, "labels": torch.tensor([0, 1, 2, 0])}


def test_every_batch_norm_is_converted_and_computes_the_same(training_args, two_processes):
    """Outside a process group it is BatchNorm: in training and evaluation, activations included."""
    plain, synced = convolutional_model(), convolutional_model()
    MultimodalBalancedTrainer(synced, training_args(sync_batch_norm=True))
    assert len(kinds(synced)) > 10 and all(is_synced for _, is_synced in kinds(synced))
    assert {name for name, _ in kinds(synced)} == {name for name, _ in kinds(plain)}
    for train in (True, False):
        outputs = [model.train(train)(**inputs()) for model in (plain, synced)]
        assert torch.equal(outputs[0].logits, outputs[1].logits)
        assert torch.equal(outputs[0].unimodal_logits["visual"], outputs[1].unimodal_logits["visual"])
    assert plain.state_dict().keys() == synced.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, synced.state_dict()[name]), name


def test_what_is_saved_is_the_plain_model(training_args, two_processes, tmp_path):
    synced = convolutional_model()
    MultimodalBalancedTrainer(synced, training_args(sync_batch_norm=True)).save_model(str(tmp_path))
    loaded = MultimodalForClassification.from_pretrained(tmp_path)
    assert not any(is_synced for _, is_synced in kinds(loaded))
    torch.testing.assert_close(loaded(**inputs()).logits, synced.eval()(**inputs()).logits)


@pytest.mark.parametrize("sync", [True, False])
def test_a_single_process_keeps_batch_norm(training_args, sync):
    model = convolutional_model()
    MultimodalBalancedTrainer(model, training_args(sync_batch_norm=sync))
    assert not any(is_synced for _, is_synced in kinds(model))


def test_not_asked_for(training_args, two_processes):
    model = convolutional_model()
    MultimodalBalancedTrainer(model, training_args())
    assert not any(is_synced for _, is_synced in kinds(model))


def test_a_model_without_batch_norm(training_args, two_processes):
    MultimodalBalancedTrainer(tiny_model(), training_args(sync_batch_norm=True))


def test_several_processes_on_the_cpu(training_args, monkeypatch):
    monkeypatch.setattr(BalancedTrainingArguments, "world_size", property(lambda self: 2))
    with pytest.raises(ValueError, match=r"does not run on the CPU\. Set it to false"):
        MultimodalBalancedTrainer(convolutional_model(), training_args(sync_batch_norm=True))
