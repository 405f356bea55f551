from __future__ import annotations

from functools import partial

import pytest
import torch
from tiny import hand_computed_batch, tiny_model
from tiny_images import tiny_image_dataset, tiny_image_model
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import (
    CML,
    DGL,
    MBSD,
    OGM,
    GradientBlending,
    MicroBatch,
    MMPareto,
    ModDrop,
    ModulationStack,
    OGMStar,
    Step,
    TCMax,
)
from hf_bml.testing import check

close = partial(assert_close, atol=1e-6, rtol=0)
NAMES = ("audio", "visual")
LABELS = torch.tensor([0, 2, 1, 1])
BATCH = {"audio": torch.arange(20.0).view(4, 5).sin(), "visual": torch.arange(28.0).view(4, 7).cos()}


def test_by_hand():
    """T-N14."""
    head, features, batch = hand_computed_batch()
    method = DGL()
    method.bind(NAMES)
    own = method.forward_losses(features, batch, Step(NAMES))
    sum(own.values()).backward()
    assert head.classifier[-1].weight.grad is None
    close(features["audio"].grad, torch.tensor([[-0.439445, 0.277259], [0.878890, -0.554518]]))
    close(features["visual"].grad, torch.tensor([[-0.324372, 0.0], [0.405465, 0.0]]))
    seen = method.modulate_features(features, batch, None, Step(NAMES))
    before = {name: feature.grad.clone() for name, feature in features.items()}
    cross_entropy(head(seen), batch.labels).backward()
    close(head.classifier[-1].weight.grad[:, :2], torch.tensor([[-0.034483, 0.1], [0.034483, -0.1]]))
    joint = torch.autograd.grad(cross_entropy(head(features), batch.labels), list(features.values()))
    close(joint[0], torch.tensor([[-0.075766, 0.047803], [0.219722, -0.138629]]))
    for (name, feature), gradient, gain in zip(features.items(), joint, (1.056959, 3.026670), strict=True):
        assert torch.equal(feature.grad, before[name])
        close(before[name].norm() / 4 / gradient.norm(), torch.tensor(gain))
    close(method.logs()["dgl/loss_visual"], torch.tensor(0.601986))


@pytest.mark.parametrize(("bias", "share"), [("full", 1.0), ("split", 0.5)])
def test_the_bias_of_a_modalitys_own_prediction(bias, share):
    head, features, batch = hand_computed_batch()
    with torch.no_grad():
        head.classifier[-1].bias.copy_(torch.tensor([1.0, -2.0]))
    found = DGL(alpha=1.0, bias=bias).forward_losses(features, batch, Step(NAMES))
    for name, logits in batch.unimodal_logits.items():
        assert_close(found[name], cross_entropy(logits + share * head.classifier[-1].bias, batch.labels))


def gradients(method, batch=BATCH, modality_mask=None, others=(), **options):
    """Of all parameters in one training step, by name."""
    model = tiny_model(**options)
    stack = ModulationStack([method, *others], NAMES)
    stack.begin_step(Step(NAMES))
    stack.begin_micro_batch(MicroBatch({}, LABELS))
    output = model.train()(**batch, labels=LABELS, modality_mask=modality_mask, modulation=stack)
    sum(output.losses.values()).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_the_head_does_not_see_alpha_nor_an_encoder_the_other_modality():
    one, four = gradients(DGL(alpha=1.0)), gradients(DGL())
    changed = gradients(DGL(), {**BATCH, "visual": BATCH["visual"] + 1})
    frozen = gradients(DGL(alpha=0.0))
    dropped = gradients(DGL(), others=[ModDrop(p={"audio": 1.0})])
    for name, gradient in four.items():
        if name.startswith("head."):
            assert torch.equal(gradient, one[name]) and torch.equal(gradient, frozen[name])
            assert not torch.equal(gradient, dropped[name])
        else:
            assert_close(gradient, 4 * one[name])
            assert not frozen[name].any() and gradient.any()
            assert torch.equal(gradient, dropped[name])
            assert torch.equal(gradient, changed[name]) == name.startswith("encoders.audio.")


def test_a_modality_that_a_sample_lacks_does_not_count():
    mask = torch.tensor([[True, True], [True, True], [True, False], [True, False]])
    some = gradients(DGL(), modality_mask=mask)
    other = {**BATCH, "visual": torch.where(mask[:, 1:], BATCH["visual"], 5.0)}
    for name, gradient in gradients(DGL(), other, mask).items():
        assert torch.equal(gradient, some[name])


@pytest.mark.parametrize("fusion", ["sum", "bounded", "film", "gated", "average_logits", "average_probabilities"])
def test_other_heads(fusion):
    found = gradients(DGL(bias="split"), fusion=fusion)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())


@pytest.mark.parametrize("property", ["accumulation", "1 to 4 modalities", "missing modalities", "balance"])
def test_split_bias_in_training(property):
    assert check(DGL, property, bias="split") is None


@pytest.mark.parametrize("other", [OGM, OGMStar, MMPareto])
def test_what_changes_the_encoders_joint_gradient_is_excluded(other):
    with pytest.raises(ValueError, match=rf"dgl and {other.name} exclude each other: no joint gradient"):
        ModulationStack([DGL(), other()], NAMES)


@pytest.mark.parametrize("method", [DGL, TCMax, MMPareto, CML, MBSD])
def test_losses_of_its_own_are_not_replaced(method):
    with pytest.raises(ValueError, match=f"{method.name} adds losses to those that gradient_blending replaces"):
        ModulationStack([method(), GradientBlending()], NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "product"}, r"\['dgl'\] .* fusion 'product' predicts the same from each modality"),
        ({"auxiliary_loss_weight": 1.0}, r"\['dgl'\] act where a modality's gradient enters its encoder"),
        ({"interaction": "mmtm"}, r"\['dgl'\] act where a modality's gradient enters its encoder"),
        (
            {"interaction": "centralnet", "interaction_options": {"stages": 3}},
            r"\['dgl'\] need the head as a function of .* interaction 'centralnet'",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:fusion 'product'")
def test_models_that_it_refuses(training_args, options, message):
    args = training_args(modulations={"dgl": {}})
    with pytest.raises(ValueError, match=message):
        MultimodalBalancedTrainer(tiny_image_model(**options), args, train_dataset=tiny_image_dataset())


@pytest.mark.parametrize(("options", "message"), [({"alpha": -1}, "alpha must be a number"), ({"bias": "b"}, "bias")])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        DGL(**options)
