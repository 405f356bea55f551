from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_model
from tiny_images import MODALITIES, tiny_image_dataset, tiny_image_model, without_batch_norm
from torch import nn

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import Gradients, Greedy
from hf_bml.modulation.greedy import conditional_learning_speeds, energy, next_window


def test_speeds_of_the_hand_computed_case():
    """T-D2: bypass energies (0.02, 0.01), (0.08, 0.04); main (0.5, 0.1), (0.2, 0.1)."""
    speeds = conditional_learning_speeds(torch.tensor([0.02 + 0.01, 0.08 + 0.04]), torch.tensor([0.6, 0.3]))
    torch.testing.assert_close(speeds, torch.tensor([-1.301030, -0.397940]), atol=1e-6, rtol=0)
    assert (speeds[0] - speeds[1]).item() == pytest.approx(-0.903090, abs=1e-6)
    remaining, caring = next_window(speeds, torch.tensor(0), torch.tensor([False, False]), 0.01, 5, True)
    assert remaining == 5 and caring.tolist() == [False, True]


def test_energy():
    """(9 + 16 + 144) / (1 + 4 + 4); a parameter without gradient does not count, on either side."""
    first, second, third = (nn.Parameter(torch.tensor(v)) for v in ([1.0, 2.0], [[2.0]], [100.0]))
    first.grad, second.grad = torch.tensor([3.0, 4.0]), torch.tensor([[12.0]])
    assert energy([first, second, third]).item() == pytest.approx(169 / 9, rel=1e-6)
    assert energy([third]).item() == 0


def run_windows(gaps, epsilon=0.1, window=3, may_open=lambda step: True):
    """The caring modality in every step (None outside a window) when the speeds are (gap, 0) after each."""
    remaining, caring, seen = torch.tensor(0), torch.tensor([False, False]), []
    for step, gap in enumerate(gaps):
        seen.append(caring.nonzero().item() if caring.any() else None)
        speeds = torch.tensor([gap, 0.0])
        remaining, caring = next_window(speeds, remaining, caring, epsilon, window, may_open(step))
    return seen


def test_windows_open_run_and_close():
    """A window of three steps after a gap; in it nothing is decided; the step after it decides anew."""
    assert run_windows([0.05, 0.2, -5.0, -5.0, -5.0, -0.2, 0, 0, 0, 0]) == [
        None, None, 0, 0, 0, None, 1, 1, 1, None,
    ]  # fmt: skip
    assert run_windows([0.1, float("nan"), 0.05]) == [None] * 3


def test_before_its_epoch_no_window_opens():
    assert run_windows([1.0] * 5, may_open=lambda step: step >= 2) == [None, None, None, 0, 0]


def test_of_three_the_fastest_is_cared_for():
    speeds = torch.tensor([-0.5, 0.3, 0.0])
    _, caring = next_window(speeds, torch.tensor(0), torch.zeros(3, dtype=torch.bool), 0.7, 2, True)
    assert caring.tolist() == [False, True, False]
    _, caring = next_window(speeds, torch.tensor(0), torch.zeros(3, dtype=torch.bool), 0.9, 2, True)
    assert not caring.any()


class Reference:
    """Greedy over MMTM in plain PyTorch, with Python numbers and lists."""

    def __init__(self, model, epsilon, window, starting_step):
        self.model, self.names = model, list(model.encoders)
        self.epsilon, self.window, self.starting_step = epsilon, window, starting_step
        self.bypass, self.main = dict.fromkeys(self.names, 0.0), dict.fromkeys(self.names, 0.0)
        self.history = []  # all gates so far: [module][modality] -> list of (batch, channels)
        self.gates = [{name: [] for name in self.names} for _ in model.interaction.transfer_modules]
        self.left, self.caring = 0, None

    def forward(self, rows):
        maps = {name: rows[name] for name in self.names}
        new = []
        for stage, module in enumerate(self.model.interaction.transfer_modules):
            maps = {name: self.model.encoders[name].stage(stage, value) for name, value in maps.items()}
            pooled = torch.cat([maps[name].mean((-2, -1)) for name in self.names], 1)
            hidden = torch.relu(module.squeeze(pooled))
            gates = {name: 2 * torch.sigmoid(module.excite[name](hidden)) for name in self.names}
            new.append({name: gate.detach() for name, gate in gates.items()})
            if self.caring is not None:
                gates[self.caring] = torch.cat(self.gates[stage][self.caring]).mean(0).expand_as(gates[self.caring])
            maps = {name: value * gates[name][:, :, None, None] for name, value in maps.items()}
        for stage, gates in enumerate(new):
            for name, gate in gates.items():
                self.gates[stage][name].append(gate)
        return self.model.head({name: value.mean((-2, -1)) for name, value in maps.items()})

    def after_backward(self, step):
        self.history.append(self.caring)
        if self.left:
            self.left -= 1
            self.caring = self.caring if self.left else None
            return
        modules = self.model.interaction.transfer_modules
        speeds = {}
        for name in self.names:
            bypass = [
                p for module in modules for p in (*module.squeeze.parameters(), *module.excite[name].parameters())
            ]
            for total, parameters in ((self.bypass, bypass), (self.main, self.model.encoders[name].parameters())):
                parameters = list(parameters)
                gradient = sum((p.grad**2).sum().item() for p in parameters)
                total[name] += gradient / sum((p**2).sum().item() for p in parameters)
            speeds[name] = math.log10(self.bypass[name] / self.main[name])
        if step >= self.starting_step and max(speeds.values()) - min(speeds.values()) > self.epsilon:
            self.left, self.caring = self.window, max(speeds, key=speeds.get)


def greedy_model(modalities=("audio", "visual"), seed=0):
    return without_batch_norm(tiny_image_model(modalities, seed, interaction="mmtm"))


def greedy_trainer(args, modalities=("audio", "visual"), seed=0):
    dataset = tiny_image_dataset(modalities, dtype=torch.float64)
    return MultimodalBalancedTrainer(greedy_model(modalities, seed), args, train_dataset=dataset)


OPTIONS = {"epsilon": 0.05, "window": 2, "starting_epoch": 0.5}  # of six steps
ARGUMENTS = {
    "modulations": {"greedy": OPTIONS},
    "max_steps": 11,
    "learning_rate": 0.01,
    "train_sampling_strategy": "sequential",
}


@pytest.mark.parametrize("count", [2, 3])
def test_equals_an_independent_loop(training_args, count):
    modalities = MODALITIES[:count]
    trainer = greedy_trainer(training_args(max_grad_norm=0, logging_steps=1, **ARGUMENTS), modalities)
    rows = trainer.train_dataset
    trainer.train()
    model = greedy_model(modalities).train()
    reference = Reference(model, 0.05, 2, starting_step=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for step in range(11):
        batch = rows[step % 6 * 8 : step % 6 * 8 + 8]
        optimizer.zero_grad(set_to_none=False)  # in a window momentum goes on for the gates that are not used
        nn.functional.cross_entropy(reference.forward(batch), batch["labels"]).backward()
        reference.after_backward(step)
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trainer.model.get_parameter(name), parameter, atol=1e-9, rtol=0)
    assert reference.history[:4] == [None] * 4 and reference.history[4] is not None
    logged = [
        [name for name in modalities if entry[f"greedy/rebalancing_{name}"]]
        for entry in trainer.state.log_history[:11]
    ]
    assert logged == [[] if caring is None else [caring] for caring in reference.history]


@pytest.mark.parametrize("batch", [2, 4])
def test_accumulation_gives_the_update_of_the_big_batch(training_args, batch):
    def run(size):
        args = training_args(per_device_train_batch_size=size, gradient_accumulation_steps=8 // size, **ARGUMENTS)
        trainer = greedy_trainer(args)
        trainer.train()
        return trainer

    big, accumulated = run(8), run(batch)
    assert any(entry.get(f"greedy/rebalancing_{name}") for entry in big.state.log_history for name in MODALITIES)
    for name, parameter in big.model.named_parameters():
        torch.testing.assert_close(parameter, accumulated.model.get_parameter(name), atol=1e-9, rtol=0)
    for mean, other in zip(
        *(t.modulation.state_dict()["greedy"]["gate_means"] for t in (big, accumulated)), strict=True
    ):
        torch.testing.assert_close(mean, other, atol=1e-6, rtol=0)


def test_resuming_inside_a_window_is_bitwise(training_args, tmp_path):
    options = {**ARGUMENTS, "modulations": {"greedy": {**OPTIONS, "window": 4}}, "output_dir": str(tmp_path)}
    whole = greedy_trainer(training_args(save_strategy="steps", save_steps=5, **options))
    whole.train()
    saved = torch.load(tmp_path / "checkpoint-5" / "modulation_state.pt", weights_only=True)["modulations"]["greedy"]
    assert saved["remaining"] == 3 and saved["caring"].any()
    resumed = greedy_trainer(training_args(**options), seed=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, resumed.model.get_parameter(name)), name


def attached(**options):
    run = SimpleNamespace(model=greedy_model())
    greedy = Greedy(**options)
    greedy.bind(("audio", "visual"))
    greedy.attach(run)
    return greedy, run


def features_of(model, rows):
    """Through the joint path: what the head sees."""
    started = {name: model.interaction.start(model.encoders[name], rows[name]) for name in model.encoders}
    return model.interaction(model.encoders, started)


def test_a_window_cuts_the_caring_modality_off_and_leaves_the_other(training_args):
    """Visual's feature no longer depends on audio; audio's still depends on visual. Evaluation is untouched."""
    trainer = greedy_trainer(training_args(modulations={"greedy": {"starting_epoch": 99}}, max_steps=3))
    trainer.train()
    (greedy,) = trainer.modulation.modulations
    model, rows = trainer.model.train(), trainer.train_dataset[:4]
    other = {"audio": torch.randn(4, 1, 8, 8, dtype=torch.float64), "visual": rows["visual"]}
    greedy._caring = torch.tensor([False, True])
    greedy.begin_step(None)
    assert torch.equal(features_of(model, rows)["visual"], features_of(model, other)["visual"])
    mixed = {"audio": rows["audio"], "visual": torch.randn(4, 1, 8, 8, dtype=torch.float64)}
    assert not torch.equal(features_of(model, rows)["audio"], features_of(model, mixed)["audio"])
    gradients = torch.autograd.grad(
        features_of(model, rows)["visual"].sum(), list(model.encoders["audio"].parameters()), allow_unused=True
    )
    assert all(gradient is None or not gradient.any() for gradient in gradients)
    model.eval()
    assert not torch.equal(features_of(model, rows)["visual"], features_of(model, other)["visual"])


def test_outside_its_active_window_it_does_nothing(training_args):
    """`end` may come while a re-balancing window is open."""
    short = {"greedy": {**OPTIONS, "window": 50, "end": 5, "unit": "steps"}}
    trainer = greedy_trainer(training_args(**{**ARGUMENTS, "modulations": short, "logging_steps": 1}))
    trainer.train()
    entries = trainer.state.log_history[:11]
    assert ["greedy/rebalancing_audio" in entry for entry in entries] == [True] * 5 + [False] * 6
    assert entries[4]["greedy/rebalancing_audio"] + entries[4]["greedy/rebalancing_visual"] == 1
    rows = trainer.train_dataset[:4]
    expected = greedy_model()
    expected.load_state_dict(trainer.model.state_dict())
    got = features_of(trainer.model.train(), rows)
    for name, feature in features_of(expected.train(), rows).items():
        assert torch.equal(feature, got[name])


def test_overflowing_gradients_do_not_count(training_args):
    trainer = greedy_trainer(training_args(modulations={"greedy": {}}, max_steps=2))
    trainer.train()
    (greedy,) = trainer.modulation.modulations
    before = greedy._energies.clone()
    greedy.begin_step(None)
    features_of(trainer.model.train(), trainer.train_dataset[:4])
    parameters = {name: list(encoder.parameters()) for name, encoder in trainer.model.encoders.items()}
    for parameter in trainer.model.parameters():
        parameter.grad = torch.full_like(parameter, math.inf)
    greedy.modulate_gradients(Gradients(parameters), trainer._new_step())
    assert torch.equal(greedy._energies, before)


def test_attaching_twice_counts_once():
    greedy, run = attached()
    greedy.attach(run)
    assert [len(module._forward_hooks) for module in run.model.interaction.transfer_modules] == [1, 1, 1]


@pytest.mark.parametrize("interaction", [None, "centralnet"])
def test_another_interaction(training_args, interaction):
    options = {"interaction_options": {"stages": 2}} if interaction else {}
    model = tiny_image_model(interaction=interaction, **options)
    with pytest.raises(ValueError, match=f"the model has interaction {interaction!r}. Set interaction: mmtm"):
        MultimodalBalancedTrainer(model, training_args(modulations={"greedy": {}}))
    with pytest.raises(ValueError, match="Set interaction: mmtm"):
        MultimodalBalancedTrainer(tiny_model(), training_args(modulations={"greedy": {}}))


def test_a_frozen_encoder(training_args):
    model = tiny_image_model(interaction="mmtm")
    model.encoders["visual"].requires_grad_(False)
    with pytest.raises(ValueError, match="that of 'visual' has no trainable parameter"):
        MultimodalBalancedTrainer(model, training_args(modulations={"greedy": {}}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -1}, "epsilon"),
        ({"window": 0}, "window must be a whole number of at least 1, found 0"),
        ({"window": 2.5}, "window must be a whole number"),
        ({"starting_epoch": -1}, "starting_epoch"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Greedy(**options)
