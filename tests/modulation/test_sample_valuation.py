from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_dataset, tiny_model

from hf_bml import MultimodalBalancedTrainer
from hf_bml.ground.task import CLASSIFICATION
from hf_bml.modulation import DataRemixing, ModulationStack, SampleValuation
from hf_bml.modulation.sample_valuation import added_shares, contributions, copies
from hf_bml.testing import check


@pytest.mark.parametrize(
    ("right", "shares", "numbers"),
    [
        ((1, 1, 0), (1.5, 0.5), (0, 1)),
        ((0, 1, 0), (0.5, -0.5), (1, 3)),
        ((0, 0, 0), (0, 0), (2, 2)),
        ((1, 0, 0), (1, 1), (0, 0)),
        ((0, 1, 1), (0, 0), (2, 2)),
        ((1, 1, 1), (1, 1), (0, 0)),
    ],
)
def test_the_hand_computed_outcomes(right, shares, numbers):
    """T-N11: whether all, the first and the second modality predict rightly."""
    joint, first, second = right
    found = contributions(torch.tensor([[0.0, first, second, 2 * joint]], dtype=torch.float64))
    assert found.tolist() == [list(shares)]
    assert copies(found).tolist() == [list(numbers)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_contributions_share_out_what_all_are_worth(count):
    """As the mean over all orders in which the modalities may come; whole numbers stay whole."""
    values = torch.randint(0, 5, (50, 2**count), generator=torch.Generator().manual_seed(0)).double()
    values[:, 0] = 0
    expected = torch.zeros(50, count, dtype=torch.float64)
    orders = list(itertools.permutations(range(count)))
    for order in orders:
        code = 0
        for member in order:
            expected[:, member] += (values[:, code | 1 << member] - values[:, code]) / len(orders)
            code |= 1 << member
    found = contributions(values)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), values[:, -1])
    sizes = torch.tensor([[float(code.bit_count()) for code in range(2**count)]], dtype=torch.float64)
    assert contributions(sizes).tolist() == [[1.0] * count] and not copies(contributions(sizes)).any()


def test_bounds_between_numbers_of_copies():
    assert copies(torch.tensor([-0.1, -0.09, 0.4, 0.41, 0.99, 1.0, 1.5], dtype=torch.float64)).tolist() == [
        3,
        2,
        2,
        1,
        1,
        0,
        0,
    ]


def test_the_share_that_a_gap_of_the_means_adds():
    """T-N11; of three, each is compared to the one that contributes most."""
    assert added_shares(torch.tensor([0.9, 0.3]), 1.0).tolist() == pytest.approx([0, 0.4])
    assert added_shares(torch.tensor([0.9, 0.3, 0.6]), 0.5).tolist() == pytest.approx([0, 0.2, 0.1])
    assert added_shares(torch.tensor([1.0, -2.0]), 2.0).tolist() == [0, 1]


class Fixed:
    """A run of samples with known predictions: one coalition's right ones by name, `all` for the whole."""

    def __init__(self, right, present=None, modalities=("audio", "visual")):
        self.right, self.count, self.modalities = right, len(right["all"]), modalities
        self.present = torch.ones(self.count, len(modalities), dtype=torch.bool) if present is None else present
        self.model, self.task, self.seed, self.passes = torch.nn.Linear(1, 1), CLASSIFICATION, 0, []

    def collect(self, split, fields, fraction=1.0, modalities=None):
        assert split == "train"
        self.passes.append((fraction, modalities))
        found = {"labels": torch.ones(self.count, dtype=torch.long), "keep_mask": self.present}
        logits = {
            name: torch.tensor([[0.0, 1.0 if one else -1.0] for one in each]) for name, each in self.right.items()
        }
        found["logits"] = logits["all" if modalities is None else "+".join(modalities)]
        found |= {f"unimodal_logits_{name}": logits[name] for name in self.modalities}
        return {name: value for name, value in found.items() if name.startswith(tuple(fields))}


def planned(run, epoch=5, **options):
    method = SampleValuation(**options)
    method.bind(run.modalities)
    method.attach(run)
    return method.plan_epoch(epoch), method.logs()


def test_an_epoch_is_drawn_from_samples_and_copies():
    """Outcomes (1,1,0), (0,1,0) and (1,1,1) a third each: copies (0,1), (1,3) and none, five in all with three."""
    count = 3000
    right = {"all": [1, 0, 1] * 1000, "audio": [1, 1, 1] * 1000, "visual": [0, 0, 1] * 1000}
    plan, logs = planned(Fixed(right))
    assert len(plan.rows) == count and plan.shuffled
    assert logs["sample_valuation/contribution_audio"].item() == pytest.approx(1.0)
    assert logs["sample_valuation/copies_visual"].item() == pytest.approx(4 / 3)
    assert len(set(zip(plan.rows[plan.keep.all(1)].tolist(), strict=True))) == plan.keep.all(1).sum()  # once each
    drawn = torch.zeros(3, 4)
    for row, keep in zip(plan.rows % 3, plan.keep, strict=True):
        drawn[row, keep[0] + 2 * keep[1]] += 1
    expected = torch.tensor([[0, 0, 1, 1], [0, 1, 3, 1], [0, 0, 0, 1.0]]) * count / 8
    assert torch.equal(drawn > 0, expected > 0)
    assert ((drawn - expected).abs() < 120).all()  # of a fixed seed; a standard deviation is below 30
    again, _ = planned(Fixed(right))
    other, _ = planned(Fixed(right), epoch=6)
    assert torch.equal(plan.rows, again.rows) and not torch.equal(plan.rows, other.rows)


def test_where_nothing_is_to_be_added():
    all_right = {name: [1, 1] for name in ("all", "audio", "visual")}
    assert planned(Fixed(all_right))[0] is None
    run = Fixed({name: [0, 0] for name in ("all", "audio", "visual")})
    assert planned(run, epoch=4)[0] is None and not run.passes  # warm-up
    run = Fixed({"all": [0, 0], "audio": [0, 0]}, modalities=("audio",))
    assert planned(run)[0] is None and not run.passes


def test_a_copy_keeps_a_modality_that_the_sample_has():
    present = torch.tensor([[True, False], [True, True]])
    for level in ("sample", "modality"):
        right = {"all": [0] * 2, "audio": [1] * 2, "visual": [0] * 2}
        run = Fixed(right, present)
        for epoch in range(5, 15):
            plan, _ = planned(run, epoch, level=level)
            alone = ~plan.keep.all(1)
            assert (plan.keep[alone].sum(1) == 1).all()
            assert (present[plan.rows] & plan.keep).any(1).all()


def test_three_modalities_take_a_pass_for_each_pair():
    """v = 1 of audio alone, 0 of the other two, 2 of the pairs with audio, 0 of the third pair, and 3 of all."""
    names = ("audio", "visual", "text")
    right = {"all": [1], "audio": [1], "visual": [0], "text": [0]}
    right |= {"audio+visual": [1], "audio+text": [1], "visual+text": [0]}
    run = Fixed(right, modalities=names)
    plan, logs = planned(run)
    assert run.passes == [(1.0, None), *((1.0, [names[a], names[b]]) for a, b in ((0, 1), (0, 2), (1, 2)))]
    shares = [logs[f"sample_valuation/contribution_{name}"].item() for name in names]
    assert shares == pytest.approx([(1 + 2 + 3) / 3, 1 / 6 + 1 / 3, 1 / 6 + 1 / 3])  # of the orders
    assert plan is not None


def test_the_level_of_modalities_looks_at_a_part():
    """A mean contribution of 1.5 and 0.5: two thirds of the samples get a copy with the second one alone."""
    run = Fixed({"all": [1] * 30, "audio": [1] * 30, "visual": [0] * 30})
    plan, logs = planned(run, level="modality", part=0.5)
    assert run.passes == [(0.5, None), (1.0, None)]
    assert logs["sample_valuation/copies_visual"].item() == pytest.approx(20 / 30)
    assert plan.keep[:, 1].all() and not plan.keep.all()


def test_means_are_of_the_samples_that_have_a_modality():
    """All predictions are right, and visual is missing in half: each contributes 1 to every sample that has it."""
    everything_right = {name: [1] * 30 for name in ("all", "audio", "visual")}
    present = torch.ones(30, 2, dtype=torch.bool)
    present[:15, 1] = False
    for level in ("modality", "sample"):
        plan, logs = planned(Fixed(everything_right, present), level=level)
        assert plan is None
        for name in ("audio", "visual"):
            assert logs[f"sample_valuation/contribution_{name}"] == 1
            assert logs[f"sample_valuation/copies_{name}"] == 0


def test_a_modality_that_no_valued_sample_has_gets_no_copies():
    """Audio and visual contribute 0.5 and 1.5; text, of which nothing is known, others than those valued have."""
    names = ("audio", "visual", "text")
    right = {"all": [1, 1], "audio": [0, 0], "visual": [1, 1], "text": [0, 0]}
    right |= {"audio+visual": [1, 1], "audio+text": [0, 0], "visual+text": [1, 1]}
    run = Fixed(right, torch.tensor([[True, True, False]] * 2), names)
    method = SampleValuation(level="modality", part=0.5, alpha=5.0)
    method.bind(names)
    method.attach(run)
    method._present = torch.ones(2, 3, dtype=torch.bool)
    method.plan_epoch(5)
    logs = method.logs()
    assert [logs[f"sample_valuation/contribution_{name}"].item() for name in names] == [0.5, 1.5, 0]
    assert [logs[f"sample_valuation/copies_{name}"].item() for name in names] == [1, 0, 0]


def test_labels_by_segment_count_by_their_share():
    run = Fixed({name: [1] for name in ("all", "audio", "visual")})
    found = run.collect("train", ["logits", "unimodal_logits", "labels", "keep_mask"])
    half = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    segments = {**found, "labels": torch.ones(1, 2).long(), "logits": half, "unimodal_logits_visual": -half}
    segments["unimodal_logits_audio"] = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    method = SampleValuation()
    method.attach(SimpleNamespace(task=CLASSIFICATION, collect=lambda *arguments: segments))
    assert method._values(("audio", "visual"), 1.0)[0].tolist() == [[0.0, 1.0, 0.5, 1.0]]


def test_collected_with_some_of_the_modalities(training_args):
    """A pass with some modalities is one over samples that lack the others."""
    seen = {}

    class Looks(SampleValuation):
        name = "looks"

        def plan_epoch(self, epoch):
            run = self._run
            seen["audio"] = run.collect("train", ["logits", "keep_mask"], modalities=["audio"])
            model = run.model.eval()
            data = tiny_dataset(samples=6)[:]
            mask = torch.tensor([[True, False]] * 6)
            with torch.no_grad():
                seen["expected"] = model(audio=data["audio"], visual=data["visual"], modality_mask=mask).logits
            run.model.train()
            assert run.window == 8

    args = training_args(max_steps=1, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    MultimodalBalancedTrainer(tiny_model(), args, [Looks(warmup=0)], train_dataset=tiny_dataset(samples=6)).train()
    torch.testing.assert_close(seen["audio"]["logits"], seen["expected"])
    assert seen["audio"]["keep_mask"].tolist() == [[True, False]] * 6


def test_the_level_of_modalities_in_training():
    for property in ("accumulation", "missing modalities"):
        assert check("sample_valuation", property, level="modality", part=0.5, alpha=5.0) is None


@pytest.mark.parametrize("name", ["sample_valuation", "data_remixing", "relearning"])
def test_what_looks_at_every_sample_needs_an_index(training_args, name):
    stream = tiny_dataset().with_format(None).to_iterable_dataset()
    with pytest.raises(ValueError, match=rf"{name}.* streamed\. Load .* without streaming"):
        MultimodalBalancedTrainer(tiny_model(), training_args(modulations={name: {}}), train_dataset=stream)
    if name != "relearning":  # which leaves the order as it is
        args = training_args(modulations={name: {}}, train_sampling_strategy="group_by_length")
        with pytest.raises(ValueError, match=rf"\['{name}'\] choose the order of the rows, and so does"):
            MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset())


def test_two_plans_exclude_each_other():
    with pytest.raises(ValueError, match="both plan epochs"):
        ModulationStack([SampleValuation(), DataRemixing()], ("audio", "visual"))
    ModulationStack([SampleValuation(), DataRemixing(assignment="batch")], ("audio", "visual"))


@pytest.mark.parametrize(("epochs", "warns"), [(5, True), (6, False)])
def test_a_training_within_the_warm_up(epochs, warns, recwarn):
    encoders = dict.fromkeys(("audio", "visual"))
    SampleValuation().warn_if_idle(encoders, epochs, 100)
    assert [str(each.message).startswith("sample_valuation waits for 5 epochs") for each in recwarn] == [True] * warns


@pytest.mark.parametrize(
    "options", [{"level": "both"}, {"warmup": -1}, {"alpha": -1}, {"part": 0}, {"part": 1.5}, {"preset": "released"}]
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SampleValuation(**options)
