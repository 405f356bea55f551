from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tiny import tiny_dataset, tiny_model
from torch.nn.functional import cross_entropy, linear

from hf_bml import MultimodalBalancedTrainer, MultimodalForClassification, balance
from hf_bml.modulation import GradientBlending, MicroBatch, ModDrop, ModulationStack, MultiLoss, Step
from hf_bml.testing import check
from hf_bml.testing.samples import PlainModel
from hf_bml.training.losses import named_losses

LABELS = torch.tensor([0, 2, 1, 1])
BATCH = {"audio": torch.arange(20.0).view(4, 5).sin(), "visual": torch.arange(28.0).view(4, 7).cos()}


def losses_of(model, methods, modality_mask=None):
    """What a training step minimises, by name, and the model's output."""
    names = tuple(model.encoders)
    stack = ModulationStack(methods, names)
    stack.begin_step(Step(names))
    stack.begin_micro_batch(MicroBatch({}, LABELS))
    output = model.train()(**BATCH, labels=LABELS, modality_mask=modality_mask, modulation=stack)
    return stack.modulate_losses(named_losses(output.loss, output), output), output


def test_the_loss_of_bounded_votes_with_mod_drop():
    """L = CE(b + sum_m k^m zb^m) + sum_m CE(zb^m + b / M), the latter not masked: here k = (0, 1)."""
    model = tiny_model(fusion="bounded", logit_bound=4.0)
    torch.nn.init.normal_(model.head.bias)
    found, output = losses_of(model, [MultiLoss(), ModDrop(p={"audio": 1.0})])
    assert output.keep_mask.tolist() == [[False, True]] * 4
    votes = {}
    for name, feature in output.features.items():
        z = linear(feature, model.head.classifiers[name][0].weight)
        votes[name] = 4 * z / (z.square().sum(1, keepdim=True).sqrt() + 1)
    b = model.head.bias
    expected = {"joint": cross_entropy(b + votes["visual"], LABELS)}
    expected |= {name: cross_entropy(vote + b / 2, LABELS) for name, vote in votes.items()}
    assert list(found) == ["joint", "audio", "visual"]
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss)
    found["audio"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.encoders["audio"].parameters())


def test_a_modality_that_samples_lack_does_not_count_in_its_loss():
    """Logits (ln 2, 0, 0) of audio for each sample, from a bias alone: -log p is ln 2 of class 0 and ln 4 else."""
    model = tiny_model()
    with torch.no_grad():
        model.head.classifier[-1].weight.zero_()
        model.head.classifier[-1].bias.copy_(torch.tensor([2 * math.log(2), 0.0, 0.0]))
    mask = torch.tensor([[True, True], [True, True], [False, True], [False, True]])
    found, _ = losses_of(model, [MultiLoss(weight=0.5)], mask)
    assert found["audio"].item() == pytest.approx(0.5 * (math.log(2) + math.log(4)) / 2)  # of labels 0 and 2
    assert found["visual"].item() == pytest.approx(0.5 * (math.log(2) + 3 * math.log(4)) / 4)


def test_split_trains_the_joint_heads_share_beside_own_classifiers():
    found, output = losses_of(tiny_model(auxiliary_loss_weight=0.5), [MultiLoss()])
    assert list(found) == ["joint", "auxiliary", "audio", "visual"]
    torch.testing.assert_close(found["audio"], cross_entropy(output.unimodal_logits["audio"], LABELS))


def test_own_heads_take_the_place_of_the_models_auxiliary_loss():
    found, output = losses_of(tiny_model(auxiliary_loss_weight=3.0), [MultiLoss(heads="own", weight=0.5)])
    assert list(found) == ["joint", "audio", "visual"]
    for name, logits in output.auxiliary_logits.items():
        torch.testing.assert_close(found[name], 0.5 * cross_entropy(logits, LABELS))


def test_what_own_heads_need_of_the_model():
    options = {"auxiliary_loss_weight": 0.0, "own_head_when_alone": True}
    assert MultiLoss(heads="own").needs(("audio",)).model_options == options
    assert not MultiLoss(heads="own", weight=0).needs(("audio",)).model_options
    assert not MultiLoss().needs(("audio",)).model_options


class OnBoundedVotes(MultiLoss):
    """Multi-loss of a model that the property suite joins by bounded votes."""

    def needs(self, modalities):
        return dataclasses.replace(super().needs(modalities), model_options={"fusion": "bounded"})


@pytest.mark.parametrize("property", ["accumulation", "1 to 4 modalities", "missing modalities"])
def test_bounded_votes_in_training(property):
    assert check(OnBoundedVotes, property) is None


def own_model(**options):
    return tiny_model(auxiliary_loss_weight=0.0, own_head_when_alone=True, **options).eval()


def test_the_own_head_answers_in_evaluation_where_one_modality_is_left(tmp_path):
    own_model().save_pretrained(tmp_path)
    model = MultimodalForClassification.from_pretrained(tmp_path).eval()
    mask = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    output = model(**BATCH, modality_mask=mask, labels=LABELS)
    joint = tiny_model(auxiliary_loss_weight=0.0).eval()  # the same weights, and joint answers
    joint.load_state_dict(model.state_dict())
    plain = joint(**BATCH, modality_mask=mask)
    own = output.auxiliary_logits
    rows = [plain.logits[0], own["audio"][1], own["visual"][2], plain.logits[3]]
    assert torch.equal(output.logits, torch.stack(rows))
    assert not torch.equal(output.logits, plain.logits)
    torch.testing.assert_close(output.loss, cross_entropy(output.logits, LABELS))
    assert torch.equal(model.train()(**BATCH, modality_mask=mask).logits, plain.logits)


def test_a_whole_batch_without_a_modality_and_a_model_of_one():
    model = own_model()
    output = model(audio=None, visual=BATCH["visual"])
    assert torch.equal(output.logits, output.auxiliary_logits["visual"])
    alone = own_model(modalities=("audio",))
    mask = torch.ones(4, 1, dtype=torch.bool)
    assert torch.equal(alone(audio=BATCH["audio"], modality_mask=mask).logits, alone(audio=BATCH["audio"]).logits)


def test_own_head_when_alone_needs_own_heads():
    with pytest.raises(ValueError, match="own_head_when_alone needs a classifier per modality"):
        tiny_model(own_head_when_alone=True)
    with pytest.raises(ValueError, match="own_head_when_alone must be true or false, found 1"):
        tiny_model(auxiliary_loss_weight=0.0, own_head_when_alone=1)


@pytest.mark.parametrize(
    ("options", "heads", "message"),
    [
        ({"fusion": "product"}, "split", r"\['multi_loss'\] .* fusion 'product' predicts the same from each modality"),
        ({"unimodal_prediction": "probe"}, "own", r"\['multi_loss'\] train a classifier .* auxiliary_loss_weight: 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:fusion 'product'")
def test_heads_without_a_prediction_that_can_be_trained(training_args, options, heads, message):
    args = training_args(modulations={"multi_loss": {"heads": heads}})
    with pytest.raises(ValueError, match=message):
        MultimodalBalancedTrainer(tiny_model(**options), args, train_dataset=tiny_dataset())


def test_a_wrapped_model_has_no_own_heads(training_args):
    model = balance(
        PlainModel(("audio", "visual")), {"audio": "layers.audio", "visual": "layers.visual"}, num_labels=3
    )
    args = training_args(modulations={"multi_loss": {"heads": "own"}})
    with pytest.raises(ValueError, match="which this BalancedModel does not have"):
        MultimodalBalancedTrainer(model, args, train_dataset=tiny_dataset())


def test_what_replaces_the_losses_excludes_it():
    with pytest.raises(ValueError, match="multi_loss adds losses to those that gradient_blending replaces"):
        ModulationStack([GradientBlending(), MultiLoss()], ("audio", "visual"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "both"}, "heads must be one of"),
        ({"weight": -1}, "weight must be a number"),
        ({"weight": math.inf}, "weight must be a number"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MultiLoss(**options)
