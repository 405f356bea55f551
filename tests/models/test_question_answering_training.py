"""Question answering models under the balanced trainer."""

from __future__ import annotations

import itertools

import pytest
import torch
from tiny_questions import ARCHITECTURES, MODALITIES, tiny_question_dataset, tiny_question_model

from hf_bml import MODULATIONS, MultimodalBalancedTrainer, MultimodalDataCollator
from hf_bml.metrics import question_answering_metrics

both = pytest.mark.parametrize("architecture", ARCHITECTURES)
METHODS = [{"opm": {"q_base": 0.5}}, {"ogm": {"alpha": 0.5}}, {"opm": {}, "ogm": {"noise": "entry_std"}}]
NEEDS_OTHER_MODELS = {  # what they say
    "greedy": "gates of MMTM",
    "mla": "found a MultimodalForQuestionAnswering",
    "tcmax": "need the head as a function of the features",
}
NEEDS_IN_TRAINING = {
    "pmr": "needs one feature vector for each label",
    "g2d": "learn from a model of each modality that was trained alone",
    "umt": "learn from a model of each modality that was trained alone",
}


def collator_of(model):
    collator = MultimodalDataCollator(list(model.encoders), 4, passed_on=["question_type"])

    def collate(rows):
        return collator([{**row, "text": tokens(row["text"])} for row in rows])

    return collate


def tokens(ids):
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def trainer_of(model, args, samples=32, **options):
    rows = tiny_question_dataset(samples=samples)
    return MultimodalBalancedTrainer(
        model,
        args,
        data_collator=collator_of(model),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=question_answering_metrics,
        **options,
    )


@both
@pytest.mark.parametrize("modulations", METHODS, ids="+".join)
def test_modulations_act(architecture, modulations, training_args):
    model = tiny_question_model(architecture)
    plain = tiny_question_model(architecture)
    trainer = trainer_of(model, training_args(modulations=modulations, max_steps=4, logging_steps=4))
    trainer.train()
    trainer_of(plain, training_args(max_steps=4)).train()
    logs = trainer.state.log_history[0]
    assert {f"balance/ratio_{name}" for name in MODALITIES} <= logs.keys()
    if "opm" in modulations:
        assert any(0 < logs[f"opm/drop_probability_{name}"] < 1 for name in MODALITIES)
    if "ogm" in modulations:
        assert any(0 < logs[f"ogm/coefficient_{name}"] < 1 for name in MODALITIES)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    trained, other = model.state_dict(), plain.state_dict()
    assert any(not torch.equal(trained[name], other[name]) for name in trained if name.startswith("encoders."))
    metrics = trainer.evaluate()
    assert {"eval_accuracy", "eval_accuracy_on_0", "eval_accuracy_on_1", "eval_accuracy_text"} <= metrics.keys()


@both
def test_the_answers_to_64_questions_can_be_learnt(architecture):
    """The first word says which of the other two to look at; no single modality knows that."""
    model = tiny_question_model(architecture, architecture_options={"hidden_size": 32})
    batch = collator_of(model)(list(tiny_question_dataset(samples=64)))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    with torch.no_grad():
        output = model.eval()(**batch)
    accuracy = {name: correct(logits, batch) for name, logits in output.unimodal_logits.items()}
    assert correct(output.logits, batch) > 0.95 and max(accuracy.values()) < 0.9


def correct(logits, batch):
    return (logits.argmax(1) == batch["labels"]).float().mean().item()


@both
def test_bfloat16(architecture, training_args):
    model = tiny_question_model(architecture)
    trainer = trainer_of(model, training_args(bf16=True, modulations={"opm": {}, "ogm": {}}, max_steps=3))
    trainer.train()
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())


@both
def test_questions_that_lack_a_modality_train(architecture, training_args):
    model = tiny_question_model(architecture)
    collate = collator_of(model)
    collate([tiny_question_dataset(samples=1)[0]])

    def without(rows):
        return collate([{**row, "audio": None} if index % 3 == 0 else row for index, row in enumerate(rows)])

    trainer = trainer_of(model, training_args(modulations={"opm": {}, "ogm": {}}, max_steps=3))
    trainer.data_collator = without
    trainer.train()
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "architecture"), list(zip(MODULATIONS, itertools.cycle(ARCHITECTURES))))
def test_every_modulation_trains_or_says_why_not(architecture, name, training_args):
    model = tiny_question_model(architecture, **MODULATIONS[name]().needs(()).model_options)
    args = training_args(modulations={name: {}}, max_steps=2)
    if name in NEEDS_OTHER_MODELS:
        with pytest.raises(ValueError, match=NEEDS_OTHER_MODELS[name]):
            trainer_of(model, args)
        return
    trainer = trainer_of(model, args)
    if name in NEEDS_IN_TRAINING:
        with pytest.raises(ValueError, match=NEEDS_IN_TRAINING[name]):
            trainer.train()
        return
    trainer.train()
    assert all(torch.isfinite(p).all() for p in model.parameters())
