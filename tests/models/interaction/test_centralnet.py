from __future__ import annotations

import pytest
import torch
from tiny import KeepOnly, tiny_config, tiny_image_config, tiny_images
from torch import nn

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.interaction.centralnet import CentralHead


def two_stage_head():
    """Taps of 1 and 2 units for a, of 2 and 1 for b; all numbers chosen for a calculation by hand."""
    head = CentralHead({"a": [1, 2], "b": [2, 1]}, tiny_config(num_labels=2))
    step, normalise, _ = head.steps[0]
    with torch.no_grad():
        head.alphas["a"].copy_(torch.tensor([2.0, 1.0]))
        head.alphas["b"].copy_(torch.tensor([0.5, -1.0]))
        head.central_alphas.copy_(torch.tensor([3.0]))
        step.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        step.bias.copy_(torch.tensor([0.0, -5.0]))
        normalise.running_mean.copy_(torch.tensor([1.0, 0.0]))
        normalise.running_var.copy_(torch.tensor([4.0, 1.0]) - normalise.eps)
        normalise.weight.copy_(torch.tensor([2.0, 1.0]))
        normalise.bias.copy_(torch.tensor([0.5, 0.0]))
        head.classifier[-1].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        head.classifier[-1].bias.copy_(torch.tensor([0.0, 10.0]))
    return head


FEATURES = {"a": torch.tensor([[1.0, 3.0, 4.0]]), "b": torch.tensor([[2.0, 6.0, 5.0]])}  # taps one after the other


def test_the_central_stream_by_hand():
    head = two_stage_head().eval()
    assert head.widths == [2, 2] and head.sizes == {"a": 3, "b": 3}
    # u^1 = 2 (1, 0) + 0.5 (2, 6) = (3, 3); F u^1 = (6, -5); BN: (2 (6 - 1) / 2 + 0.5, -5); ReLU: (5.5, 0)
    # u^2 = 3 (5.5, 0) + (3, 4) - (5, 0) = (14.5, 4)
    torch.testing.assert_close(head(FEATURES), torch.tensor([[14.5, 28.5]]))


def test_the_estimate_of_one_modality_by_hand():
    head = two_stage_head().train()
    parts = head.unimodal_logits(FEATURES)
    # a: u^1 = (2, 0), F: (2, -3), BN: (1.5, -3), h = (1.5, 0), u^2 = (4.5, 0) + (3, 4)
    torch.testing.assert_close(parts["a"], torch.tensor([[7.5, 21.5]]))
    # b: u^1 = (1, 3), F: (4, -7), BN: (3.5, -7), h = (3.5, 0), u^2 = (10.5, 0) - (5, 0)
    torch.testing.assert_close(parts["b"], torch.tensor([[5.5, 15.5]]))
    assert all(module.training for module in head.modules())


def test_alphas_start_at_one_and_learn():
    head = CentralHead({"a": [2, 3, 4], "b": [1, 3, 2]}, tiny_config())
    assert [alpha.tolist() for alpha in head.alphas.values()] == [[1, 1, 1]] * 2
    assert head.central_alphas.tolist() == [1, 1] and head.widths == [2, 3, 4]
    head({"a": torch.randn(4, 9), "b": torch.randn(4, 6)}).square().sum().backward()
    assert all((parameter.grad != 0).any() for parameter in head.parameters() if parameter.dim() == 2)
    assert all((head.alphas[name].grad != 0).all() for name in ("a", "b")) and (head.central_alphas.grad != 0).all()


def test_batch_norm_sees_the_batch_but_a_batch_of_one_takes_the_running_statistics():
    head = two_stage_head().train()
    normalise = head.steps[0][1]
    torch.testing.assert_close(head(FEATURES), two_stage_head().eval()(FEATURES))
    assert normalise.running_mean.tolist() == [1, 0] and normalise.training
    both = {name: torch.cat([feature, 2 * feature]) for name, feature in FEATURES.items()}
    head(both)
    assert normalise.running_mean.tolist() != [1, 0]


def test_taps_are_the_averages_of_the_last_stages():
    config = tiny_image_config(interaction="centralnet", interaction_options={"stages": 2})
    model = MultimodalForClassification(config).eval()
    batch = tiny_images()
    features = model(**batch).features
    for name, layers in ((name, encoder.layers) for name, encoder in model.encoders.items()):
        images = batch[name] if name == "audio" else batch[name].flatten(0, 1)
        outputs = [layers[: 2 * count](images).mean((-2, -1)) for count in (len(layers) // 2 - 1, len(layers) // 2)]
        expected = torch.cat(outputs, 1)
        if name == "visual":
            expected = expected.view(4, 3, -1).mean(1)
        torch.testing.assert_close(features[name], expected)
    assert model.head.tap_sizes == {"audio": [6, 8], "visual": [6, 5]}


def test_resnet18_pairs_have_the_four_stages_as_taps():
    resnet = {"type": "timm", "architecture": "resnet18", "in_channels": 3}
    config = MultimodalConfig(modalities={"a": resnet, "v": resnet}, num_labels=2, interaction="centralnet")
    assert MultimodalForClassification(config).head.tap_sizes == {"a": [64, 128, 256, 512], "v": [64, 128, 256, 512]}


def test_auxiliary_heads_see_the_last_tap_and_not_the_mask():
    """The unimodal classifiers of the original: trained on every sample that has the modality, dropped or not."""
    torch.manual_seed(0)
    config = tiny_image_config(interaction="centralnet", interaction_options={"stages": 3}, auxiliary_loss_weight=0.5)
    model = MultimodalForClassification(config)
    batch, labels = tiny_images(), torch.tensor([0, 1, 2, 0])
    keep = torch.tensor([[True, False], [False, True], [True, True], [True, False]])
    output = model(**batch, labels=labels, modulation=KeepOnly(keep))
    cross_entropy = nn.functional.cross_entropy
    expected = cross_entropy(output.logits, labels)
    for name, size in (("audio", 8), ("visual", 5)):
        head = model.auxiliary_heads[name]
        assert head.in_features == size
        logits = output.features[name][:, -size:] @ head.weight.T + head.bias
        torch.testing.assert_close(output.auxiliary_logits[name], logits)
        expected = expected + 0.5 * cross_entropy(logits, labels)
    torch.testing.assert_close(output.loss, expected)
    assert torch.equal(model.eval()(**batch, labels=labels).loss, cross_entropy(model(**batch).logits, labels))


@pytest.mark.parametrize("stages", [2, 3])
def test_any_number_of_stages(stages):
    config = tiny_image_config(interaction="centralnet", interaction_options={"stages": stages})
    model = MultimodalForClassification(config)
    output = model(**tiny_images(), labels=torch.tensor([0, 1, 2, 0]))
    output.loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert len(model.head.steps) == stages - 1
