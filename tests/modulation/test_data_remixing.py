from __future__ import annotations

import pytest
import torch
from tiny import hand_computed_case, tiny_dataset, tiny_model
from torch.nn.functional import cross_entropy, one_hot

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import DataRemixing, GradientBlending, MicroBatch, ModulationStack, MultiLoss, Step
from hf_bml.modulation.data_remixing import arranged, divergences, least_sure
from hf_bml.testing import check
from hf_bml.testing.properties import claim_finite
from hf_bml.testing.training import Setting, subject_of, train
from hf_bml.training.losses import named_losses

NAMES = ("audio", "visual")
LABELS = torch.tensor([0, 2, 1, 1])
BATCH = {"audio": torch.arange(20.0).view(4, 5).sin(), "visual": torch.arange(28.0).view(4, 7).cos()}


def test_divergences_and_assignment_of_the_hand_computed_case():
    """T-N20."""
    logits, _ = hand_computed_case()
    expected = {"audio": [0.368064, 0.192745], "visual": [0.020136, 0.0]}
    for name, values in expected.items():
        assert divergences(logits[name]).tolist() == pytest.approx(values, abs=1e-6)
    assert least_sure(list(logits.values())).tolist() == [1, 1]


def test_assigned_is_only_what_a_sample_has():
    logits = [torch.tensor([[3.0, 0.0]] * 3), torch.tensor([[1.0, 0.0]] * 3), torch.zeros(3, 2)]
    present = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    assert least_sure(logits, present).tolist() == [2, 1, 0]


def test_of_segments_the_mean_counts():
    logits = torch.tensor([[[9.0, 1.0], [1.0, 1.0]]]).log()
    assert divergences(logits).tolist() == pytest.approx([0.368064 / 2], abs=1e-6)


@pytest.mark.parametrize("batches", ["one_modality", "in_turn", "mixed"])
def test_an_epoch_reads_every_sample_once(batches):
    """Of 13, 6 and 4 samples in windows of 4: three, one and one whole windows, and 3 samples that fill none."""
    assigned = torch.tensor([0] * 13 + [1] * 6 + [2] * 4)[
        torch.randperm(23, generator=torch.Generator().manual_seed(1))
    ]
    orders = [arranged(assigned, 4, batches, torch.Generator().manual_seed(seed)) for seed in range(9)]
    assert all(sorted(order.tolist()) == list(range(23)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 9
    of = [[set(window.tolist()) for window in assigned[order].split(4)] for order in orders]
    if batches == "one_modality":
        assert all(sum(len(window) == 1 for window in windows[:5]) == 5 for windows in of)
        assert len({str(windows) for windows in of}) > 1  # which comes first is drawn
    elif batches == "in_turn":
        assert all(torch.equal(assigned[order], assigned.sort().values) for order in orders)
    else:
        assert any(len(window) > 1 for windows in of for window in windows[:4])


def losses_of(method, keep=None, epoch=0.0, modality_mask=None):
    """What a training step minimises, by name, and the model's output."""
    model = tiny_model()
    torch.nn.init.normal_(model.head.classifier[-1].bias)
    stack = ModulationStack([method], NAMES)
    stack.begin_step(Step(NAMES, epoch=epoch))
    stack.begin_micro_batch(MicroBatch({}, LABELS), keep)
    output = model.train()(**BATCH, labels=LABELS, modality_mask=modality_mask, modulation=stack)
    return model, stack.modulate_losses(named_losses(output.loss, output), output), output


def test_the_warm_up_adds_every_modalitys_loss():
    _, found, output = losses_of(DataRemixing(weight=0.25))
    assert list(found) == ["joint", "audio", "visual"] and output.keep_mask.all()
    for name, logits in output.unimodal_logits.items():
        torch.testing.assert_close(found[name], 0.25 * cross_entropy(logits, LABELS))


def check_remixed(model, found, output, assigned):
    """L_i = CE(W^m phi^m + b) + CE(W^m phi^m + b / 2)."""
    assert list(found) == ["joint", "data_remixing"]
    assert torch.equal(output.keep_mask, one_hot(assigned, 2).bool())
    own = torch.stack([output.unimodal_logits[name] for name in NAMES])[assigned, torch.arange(4)]
    torch.testing.assert_close(found["data_remixing"], cross_entropy(own, LABELS))
    torch.testing.assert_close(found["joint"], cross_entropy(own + model.head.classifier[-1].bias / 2, LABELS))


def test_an_assigned_sample_trains_one_modality():
    method, assigned = DataRemixing(), torch.tensor([0, 0, 0, 0])
    method.load_state_dict({**method.state_dict(), "is_planned": True})
    model, found, output = losses_of(method, keep=one_hot(assigned, 2).bool())
    check_remixed(model, found, output, assigned)
    sum(found.values()).backward()
    assert all(not p.grad.any() for p in model.encoders["visual"].parameters())
    assert all(p.grad.any() for p in model.encoders["audio"].parameters())


def test_assignment_by_the_current_predictions():
    method = DataRemixing(assignment="batch", warmup=2)
    assert set(losses_of(method, epoch=1.75)[1]) == {"joint", *NAMES}
    model, found, output = losses_of(method, epoch=2.0)
    assigned = least_sure([output.unimodal_logits[name] for name in NAMES])
    assert len(set(assigned.tolist())) == 2
    check_remixed(model, found, output, assigned)
    mask = torch.tensor([[True, False]] * 2 + [[False, True]] * 2)
    assert torch.equal(losses_of(method, epoch=2.0, modality_mask=mask)[2].keep_mask, mask)


class Watched(DataRemixing):
    """Keeps the masks of every micro-batch, by epoch."""

    name = "watched"

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = {}

    def modulate_features(self, features, batch, keep_mask, step):
        self.seen.setdefault(int(step.epoch), []).append(keep_mask)
        return super().modulate_features(features, batch, keep_mask, step)


def test_steps_are_of_one_modality(training_args):
    """40 samples in windows of 2 x 4: in the second epoch all windows but the last mix none, and both are trained."""
    method = Watched(warmup=1)
    args = training_args(
        num_train_epochs=2, max_steps=-1, per_device_train_batch_size=4, gradient_accumulation_steps=2
    )
    MultimodalBalancedTrainer(tiny_model(), args, [method], train_dataset=tiny_dataset(samples=40)).train()
    assert method.seen[0] == [None] * 10
    kept = torch.cat(method.seen[1]).view(5, 8, 2)
    assert (kept.sum(2) == 1).all()
    assert (kept.all(1).any(1)).sum() >= 4
    assert kept.any(1).any(0).all()


@pytest.mark.parametrize("assignment", ["epoch", "batch"])
@pytest.mark.parametrize("property", ["accumulation", "missing modalities"])
def test_without_a_warm_up(property, assignment):
    assert check("data_remixing", property, warmup=0, assignment=assignment) is None


@pytest.mark.parametrize("assignment", ["epoch", "batch"])
@pytest.mark.parametrize("kind", ["segments", "questions", "balance"])
def test_other_models_and_tasks(kind, assignment):
    """Without a warm-up, so that every sample is assigned."""
    found = train(subject_of("data_remixing", {"warmup": 0, "assignment": assignment}), Setting(kind=kind, steps=4))
    claim_finite(found)
    assert sum(value for key, value in found.logs.items() if "assigned" in key) == pytest.approx(1)


def test_only_what_is_planned_needs_an_index():
    assert DataRemixing().plans_epochs and not DataRemixing(assignment="batch").plans_epochs
    assert DataRemixing(warmup=0).options_in_epochs == []


@pytest.mark.parametrize("other", [MultiLoss, GradientBlending])
def test_what_makes_the_same_losses_excludes_it(other):
    if other is GradientBlending:
        with pytest.raises(ValueError, match="data_remixing adds losses to those that gradient_blending replaces"):
            ModulationStack([other(), DataRemixing()], NAMES)
        return
    stack = ModulationStack([other(), DataRemixing()], NAMES)
    stack.begin_step(Step(NAMES))
    stack.begin_micro_batch(MicroBatch({}, LABELS))
    with pytest.raises(ValueError, match="gives a loss named 'audio', which is already taken"):
        tiny_model().train()(**BATCH, labels=LABELS, modulation=stack)


def test_presets():
    assert DataRemixing().config.batches == "one_modality"
    assert DataRemixing(preset="released").config.batches == "in_turn"


@pytest.mark.parametrize("options", [{"warmup": -1}, {"weight": -1}, {"assignment": "step"}, {"batches": "sorted"}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DataRemixing(**options)
