"""What a card tells about a training that has not begun, and that has ended."""

from __future__ import annotations

from tiny import tiny_dataset, tiny_model

from hf_bml import MultimodalBalancedTrainer, OPMConfig
from hf_bml.training.card_facts import changed_arguments, facts_of_trainer


def test_a_trainer_before_and_after_training(training_args):
    args = training_args(modulations={"opm": {}}, eval_strategy="steps", eval_steps=4, run_name="mine")
    data = tiny_dataset()
    trainer = MultimodalBalancedTrainer(
        tiny_model(), args, train_dataset=data, eval_dataset=data, compute_metrics=lambda _: {"accuracy": 0.25}
    )
    before = facts_of_trainer(trainer)
    assert before.results == {} and before.ratios == {} and before.step == 0 and not before.is_finished
    trainer.train()
    facts = facts_of_trainer(trainer, name="mine")
    assert facts.is_finished and facts.step == facts.max_steps == 8 and facts.seed == 42
    assert facts.results["validation"]["accuracy"] == 0.25 and "test" not in facts.results
    assert set(facts.ratios) == {"audio", "visual"}
    assert facts.modulations["opm"]["q_base"] == OPMConfig().q_base
    assert facts.settings["optim"] == "sgd" and facts.settings["max_steps"] == 8
    assert not {"output_dir", "run_name", "disable_tqdm"} & set(facts.settings)
    trainer.run_options = {"dataset": "digits", "output_dir": args.output_dir}
    assert facts_of_trainer(trainer).settings == {"dataset": "digits"}


def test_only_what_differs_from_the_defaults(training_args):
    assert changed_arguments(training_args(learning_rate=0.5))["learning_rate"] == 0.5
    assert "adam_beta1" not in changed_arguments(training_args())
