"""What the Trainer replaces after it was built: arguments by a search, the model by `model_init`, the optimizer."""

from __future__ import annotations

import copy
import json
from functools import partial

import pytest
import torch
from tiny import SIZES, tiny_dataset, tiny_image_config, tiny_images, tiny_model
from torch import nn
from transformers.trainer_utils import HPSearchBackend

from hf_bml import MODULATIONS, OPM, BalancedTrainingArguments, MultimodalBalancedTrainer, MultimodalForClassification
from hf_bml.training.training_args import with_option

BOTH = {"opm": {"q_base": 0.5}, "ogm": {"alpha": 0.5}}


def searching(args, **options):
    options = {
        "model_init": lambda: tiny_model(),
        "train_dataset": tiny_dataset(),
        "eval_dataset": tiny_dataset(),
        **options,
    }
    trainer = MultimodalBalancedTrainer(None, args, **options)
    trainer.histories = []
    train = trainer.train

    def recording(*arguments, **keywords):
        result = train(*arguments, **keywords)
        trainer.histories.append([entry for entry in trainer.state.log_history if "loss" in entry])
        return result

    trainer.train = recording
    return trainer


def search(trainer, grid, space=None):
    """One trial for each value of a grid, in some order."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    [(name, values)] = grid.items()
    return trainer.hyperparameter_search(
        space or (lambda trial: {name: trial.suggest_categorical(name, values)}),
        n_trials=len(values),
        sampler=optuna.samplers.GridSampler(grid, seed=0),
        backend="optuna",
    )


def drops(history):
    return [entry["opm/drop_probability_audio"] for entry in history]


def logged(history):
    """What a training computes, without its speed."""
    return [{key: value for key, value in entry.items() if "/" in key or key == "loss"} for entry in history]


def test_a_search_over_an_option_of_a_modulation_and_its_best_values(training_args):
    """Each trial drops with its own q_base, the other modulation stays, and the best values train the same again."""
    trainer = searching(training_args(modulations=BOTH))
    best = search(trainer, {"modulations.opm.q_base": [0.84, 0.24, 0.05]})
    assert len({json.dumps(drops(history)) for history in trainer.histories}) == 3
    assert all("ogm/coefficient_audio" in entry for history in trainer.histories for entry in history)
    number = int(best.run_id)
    fresh = searching(training_args(modulations=BOTH))
    for name, value in best.hyperparameters.items():  # as transformers' documentation says
        setattr(fresh.args, name, value)
    fresh.train()
    assert logged(fresh.histories[0]) == logged(trainer.histories[number])
    assert fresh.args.modulations["opm"]["q_base"] == best.hyperparameters["modulations.opm.q_base"]
    written = searching(
        training_args(modulations={**BOTH, "opm": {"q_base": fresh.args.modulations["opm"]["q_base"]}})
    )
    written.train()
    assert logged(written.histories[0]) == logged(fresh.histories[0])


def test_a_search_over_the_methods(training_args):
    """JSON, which optuna chooses among, with and without modulations in the arguments."""
    for before in (None, BOTH):
        trainer = searching(training_args(modulations=before, max_steps=2))
        search(trainer, {"modulations": ['{"opm": {}}', '{"ogm": {"alpha": 0.9}}', "{}"]})
        assert sorted(sorted(key[:3] for key in history[0] if key[:3] in BOTH) for history in trainer.histories) == [
            [],
            ["ogm", "ogm"],
            ["opm", "opm", "opm", "opm"],
        ]
        assert trainer.args.modulations in ({"opm": {}}, {"ogm": {"alpha": 0.9}}, {})


def test_a_trial_starts_from_the_arguments_before_the_search(training_args):
    trainer = searching(training_args(modulations=BOTH, max_steps=2))

    def space(trial):
        q_base = trial.suggest_categorical("q", [0.9, 0.5])
        return {"modulations.opm.q_base": 0.9} if q_base == 0.9 else {"learning_rate": 0.1}

    search(trainer, {"q": [0.9, 0.5]}, space)
    plain = searching(training_args(modulations=BOTH, max_steps=2))
    plain.train()
    assert logged(plain.histories[0]) in [logged(history) for history in trainer.histories]


OPTIONS = {"opm": "q_base", "ogm": "alpha", "ogm_star": "alpha", "mod_drop": "p", "dropout": "p"}


@pytest.mark.parametrize("name", sorted(MODULATIONS))
def test_every_modulation_takes_its_options_from_a_trial(name):
    options = copy.deepcopy(BalancedTrainingArguments("x", use_cpu=True, modulations={name: {}}))
    field = OPTIONS.get(name, "start")
    setattr(options, f"modulations.{name}.{field}", 0.25)
    options.check()
    assert options.modulations == {name: {field: 0.25}}


def test_with_option_copies():
    before = {"opm": {"q_base": 0.5}}
    assert with_option(before, ["ogm", "alpha"], 0.1) == {"opm": {"q_base": 0.5}, "ogm": {"alpha": 0.1}}
    assert with_option(None, ["opm"], None) == {"opm": None}
    assert before == {"opm": {"q_base": 0.5}}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"modulations.opm.q_bas": 0.3}, "Did you mean 'q_base'"),
        ({"modulations.opm.q_base": 1.5}, r"q_base must be a number in \(0, 1\), found 1.5"),
        ({"modulations": '{"opn": {}}'}, "Did you mean 'opm'"),
        ({"lr_multipliers": '{"encoders.sound": 2}'}, "no parameter in 'encoders.sound'"),
        ({"lr_drop_at": [70]}, r"each in \(0, 1\)"),
    ],
)
def test_a_trial_with_a_bad_value(training_args, asked, message):
    with pytest.raises(ValueError, match=message):
        search(searching(training_args()), {"x": [0]}, lambda trial: {**asked, "seed": trial.suggest_int("x", 0, 0)})


def test_objects_cannot_be_searched(training_args):
    trainer = searching(training_args(), modulations=[OPM()])
    with pytest.raises(ValueError, match=r"cannot change the modulation objects .* Describe them in BalancedTraining"):
        search(trainer, {"modulations.opm.q_base": [0.3]})
    search(trainer, {"learning_rate": [0.1]})  # everything else can


def test_backends_that_pass_a_dict(training_args):
    """As Ray Tune and W&B do."""
    trainer = searching(training_args(modulations=BOTH))
    trainer.hp_search_backend, trainer.hp_space = HPSearchBackend.RAY, None
    trainer._modulations_before_search = BOTH
    trainer._hp_search_setup({"modulations.opm.q_base": 0.3, "lr_multipliers": '{"head": 2}', "learning_rate": 0.2})
    assert trainer.args.modulations == {"opm": {"q_base": 0.3}, "ogm": {"alpha": 0.5}}
    assert (trainer.args.lr_multipliers, trainer.args.learning_rate) == ({"head": 2}, 0.2)


def mmtm_model():
    torch.manual_seed(0)
    config = tiny_image_config(interaction="mmtm", interaction_options={"stages": 2}, auxiliary_loss_weight=None)
    return MultimodalForClassification(config)


def image_rows():
    rows = tiny_images(batch=8)
    return [{**{name: rows[name][row] for name in rows}, "labels": row % 3} for row in range(8)]


def model_of(name, needs):
    return mmtm_model() if name == "greedy" else tiny_model(**needs.model_options)


@pytest.mark.parametrize("name", sorted(MODULATIONS))
def test_model_init_trains_as_the_model_itself(training_args, tmp_path, name):
    """Every modulation works on the model in training; a second training starts from a new one."""
    options = dict(MODULATIONS[name].example_options)
    needs = MODULATIONS[name](**options).needs(("audio", "visual"))
    make = partial(model_of, name, needs)
    rows = image_rows() if name == "greedy" else tiny_dataset(samples=16)
    args = training_args(modulations={name: options}, max_steps=8, logging_steps=1)
    if needs.trained_alone:
        args.trained_alone = {modality: str(tmp_path / modality) for modality in ("audio", "visual")}
        for modality, folder in args.trained_alone.items():
            tiny_model((modality,)).save_pretrained(folder)
    by_model = MultimodalBalancedTrainer(make(), args, train_dataset=rows)
    torch.manual_seed(args.seed)
    by_model.train()
    by_init = MultimodalBalancedTrainer(None, args, model_init=make, train_dataset=rows)
    for _ in range(2):
        by_init.train()
        logged, expected = (
            [{key for key in entry if key.startswith(name)} for entry in trainer.state.log_history]
            for trainer in (by_init, by_model)
        )
        assert logged == expected and any(logged)
        handles = [len(module._forward_hooks) for module in by_init.model.modules()]
        assert sum(handles) == (2 if name == "greedy" else 0)
        assert by_init.modulation.modulations[0].name == name


def test_model_init_converts_batch_norm_again(training_args, monkeypatch):
    monkeypatch.setattr(BalancedTrainingArguments, "world_size", property(lambda self: 2))
    monkeypatch.setattr("hf_bml.training.preflight.check_sync_batch_norm", lambda device: None)

    def make():
        return MultimodalForClassification(tiny_image_config())

    trainer = MultimodalBalancedTrainer(None, training_args(sync_batch_norm=True), model_init=make)
    trainer.model = make()
    trainer._prepare_balancing()
    assert not [module for module in trainer.model.modules() if type(module) is nn.BatchNorm2d]


def test_lr_multipliers_are_checked_on_the_new_model(training_args):
    names = iter([("audio", "visual"), ("visual", "text")])
    trainer = MultimodalBalancedTrainer(
        None,
        training_args(lr_multipliers={"encoders.audio": 2}),
        model_init=lambda: tiny_model(next(names)),
        train_dataset=tiny_dataset(tuple(SIZES)),
    )
    with pytest.raises(ValueError, match=r"no parameter in 'encoders.audio'"):
        trainer.train()


def test_the_arguments_of_the_moment_count(training_args):
    """Trained twice, with other arguments in between; earlier hooks are gone."""
    trainer = MultimodalBalancedTrainer(
        tiny_model(), training_args(modulations={"opm": {}}), train_dataset=tiny_dataset()
    )
    trainer.train()
    trainer.args.modulations = {"ogm": {"alpha": 0.3}}
    trainer.train()
    assert {key.partition("/")[0] for key in trainer.state.log_history[0] if "/" in key} == {
        "balance",
        "unimodal",
        "ogm",
    }
    trainer.args.modulations = {"opn": {}}
    with pytest.raises(ValueError, match="Did you mean 'opm'"):
        trainer.train()


def test_hooks_leave_a_model_that_is_trained_without_them(training_args):
    model = mmtm_model()
    trainer = MultimodalBalancedTrainer(
        model, training_args(modulations={"greedy": {}}, max_steps=2), train_dataset=image_rows()
    )
    trainer.train()
    assert any(module._forward_hooks for module in model.modules())
    trainer.args.modulations = {}
    trainer.train()
    assert not any(module._forward_hooks for module in model.modules())


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def schedule(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 2)


@pytest.mark.parametrize("with_schedule", [False, True])
def test_a_given_optimizer_and_lr_multipliers(training_args, with_schedule):
    model = tiny_model()
    optimizer = sgd(model)
    args = training_args(lr_multipliers={"head": 2})
    optimizers = (optimizer, schedule(optimizer) if with_schedule else None)
    with pytest.raises(ValueError, match=r"lr_multipliers do not reach .* pass optimizer_cls_and_kwargs"):
        MultimodalBalancedTrainer(model, args, optimizers=optimizers)


def test_a_given_schedule_and_lr_drop_at(training_args):
    model = tiny_model()
    optimizer = sgd(model)
    with pytest.raises(ValueError, match=r"lr_drop_at does not reach the schedule .*optimizers=\(optimizer, None\)"):
        MultimodalBalancedTrainer(model, training_args(lr_drop_at=[0.5]), optimizers=(optimizer, schedule(optimizer)))
    MultimodalBalancedTrainer(model, training_args(lr_drop_at=[0.5]), optimizers=(optimizer, None))


@pytest.mark.parametrize("with_schedule", [False, True])
def test_a_given_optimizer_is_used(training_args, with_schedule):
    model = tiny_model()
    optimizer = sgd(model)
    optimizers = (optimizer, schedule(optimizer) if with_schedule else None)
    trainer = MultimodalBalancedTrainer(
        model, training_args(modulations=BOTH), train_dataset=tiny_dataset(), optimizers=optimizers
    )
    trainer.train()
    assert trainer.optimizer.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.1**4 if with_schedule else 0.1)


def test_an_optimizer_class_takes_lr_multipliers(training_args):
    trainer = MultimodalBalancedTrainer(
        tiny_model(),
        training_args(lr_multipliers={"head": 0}),
        train_dataset=tiny_dataset(),
        optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.1}),
    )
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    moved = {name: not torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items()}
    assert all(is_moved != name.startswith("head") for name, is_moved in moved.items())


def test_multipliers_that_change_between_trainings(training_args):
    trainer = MultimodalBalancedTrainer(tiny_model(), training_args(), train_dataset=tiny_dataset())
    trainer.train()
    trainer.args.lr_multipliers = {"head": 2}
    with pytest.raises(ValueError, match=r"Set trainer.optimizer = None"):
        trainer.train()
    trainer.optimizer = None
    trainer.train()
    assert {group["lr"] for group in trainer.optimizer.param_groups if group["params"]} == {0.1, 0.2}
