"""Trainings of every task, and with labels and weights of every kind: exact, resumable, or refused by name."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_dataset, tiny_model
from torch import nn
from transformers import PreTrainedConfig

from hf_bml import OGM, MultimodalBalancedTrainer, balance
from hf_bml.modulation import MODULATIONS, DiscrepancyMonitor
from hf_bml.processing import MultimodalDataCollator
from hf_bml.testing.training import Setting, Subject, train

MODALITIES = ["audio", "visual"]
BITS, NUMBERS = "multi_label_classification", "regression"


def labelled(labels, **columns):
    """The tiny data set with other labels, and further columns."""
    data = tiny_dataset().remove_columns("labels").add_column("labels", labels)
    for name, values in columns.items():
        data = data.add_column(name, values)
    return data


def bits(samples=32):
    return [[float(row % 2), float(row % 3 == 0), 1.0] for row in range(samples)]


def numbers(samples=32):
    return [70.0 + row for row in range(samples)]


CLASSES = [row % 3 for row in range(32)]
WEIGHTS = [0.5 + row % 4 for row in range(32)]
SOFT = [[0.6, 0.4, 0.0]] * 16 + [[0.0, 0.1, 0.9]] * 16
CASES = {
    "several labels": ({"problem_type": BITS, "class_weights": [1, 2, 0.5]}, labelled(bits(), sample_weight=WEIGHTS)),
    "regression": ({"problem_type": NUMBERS, "num_labels": 1}, labelled(numbers(), sample_weight=WEIGHTS)),
    "class weights": ({"class_weights": [1, 2, 0.5]}, labelled(CLASSES)),
    "sample weights": ({"auxiliary_loss_weight": 0.5}, labelled(CLASSES, sample_weight=WEIGHTS)),
    "soft labels": ({"auxiliary_loss_weight": 0.5}, labelled(SOFT)),
    "some unlabelled": ({}, labelled([-100 if row % 4 == 0 else row % 3 for row in range(32)])),
}


def trainer_of(training_args, options, data, modulations=(), **arguments):
    model = tiny_model(dtype=torch.float64, **options)
    collator = MultimodalDataCollator(MODALITIES, model.config.num_labels, problem_type=model.config.problem_type)
    data = data.with_format("torch", dtype=torch.float64, columns=MODALITIES, output_all_columns=True)
    args = training_args(**{"max_steps": 4, **arguments})
    return MultimodalBalancedTrainer(model, args, modulations, train_dataset=data, data_collator=collator)


@pytest.mark.parametrize("name", CASES)
def test_micro_batches_make_the_step_of_the_whole_batch(training_args, name):
    options, data = CASES[name]
    ends = []
    for size, count in ((8, 1), (4, 2)):  # a quarter of each four rows is unlabelled
        cut = {"per_device_train_batch_size": size, "gradient_accumulation_steps": count}
        cut["train_sampling_strategy"] = "sequential"
        trainer = trainer_of(training_args, options, data, [OGM(alpha=1.0)], **cut)
        trainer.train()
        logs = {key: value for entry in trainer.state.log_history for key, value in entry.items() if "balance/" in key}
        ends.append((dict(trainer.model.named_parameters()), logs))
    for parameter, value in ends[0][0].items():
        torch.testing.assert_close(ends[1][0][parameter], value, rtol=0, atol=1e-10)
    assert ends[0][1] == pytest.approx(ends[1][1], abs=1e-6)
    assert all(0 < value <= 1 for key, value in ends[0][1].items() if "score" in key)


def test_a_loss_is_the_weighted_sum_by_the_number_of_samples(training_args):
    trainer = trainer_of(training_args, *CASES["sample weights"], max_steps=1, train_sampling_strategy="sequential")
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(8)])
    output = trainer.model(**batch)
    heads = [output.logits, *output.auxiliary_logits.values()]
    losses = [nn.functional.cross_entropy(head, batch["labels"], reduction="none") for head in heads]
    means = [(loss * batch["sample_weight"]).mean() for loss in losses]
    torch.testing.assert_close(output.loss, means[0] + 0.5 * (means[1] + means[2]))


def test_a_regression_resumes_with_its_variance(training_args, tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 2}
    options, data = CASES["regression"]
    whole = trainer_of(training_args, options, data, [OGM(alpha=1.0)], **arguments)
    whole.train()
    resumed = trainer_of(training_args, options, data, [OGM(alpha=1.0)], **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert torch.equal(whole.model.task.variance, resumed.model.task.variance)
    for name, value in whole.model.named_parameters():
        assert torch.equal(value, resumed.model.get_parameter(name)), name
    assert whole.model.config.label_mean == [pytest.approx(85.5)]
    again = type(whole.model).from_pretrained(tmp_path / "run" / "checkpoint-2")
    assert again.task.mean == tuple(whole.model.config.label_mean)


def test_processes_share_the_variance():
    logits, labels = {"audio": torch.tensor([[1.0]]), "visual": torch.tensor([[3.0]])}, torch.zeros(1)
    task = tiny_model(problem_type=NUMBERS, num_labels=1).task
    monitor = DiscrepancyMonitor(MODALITIES, task)
    monitor.update(logits, labels)
    monitor.step(lambda totals: totals + torch.tensor([2.0, 2.0]) if totals.dim() == 1 else 2 * totals)
    assert task.variance.tolist() == [pytest.approx((1 + 9 + 2) / 4)]


@pytest.mark.parametrize("name", ["soft labels", "some unlabelled"])
def test_methods_that_read_class_numbers_say_so(training_args, name):
    with pytest.raises(ValueError, match=r"\['pmr'\] read (the labels as )?class numbers"):
        trainer_of(training_args, {}, CASES[name][1], [MODULATIONS["pmr"]()])
    rows = list(CASES[name][1])  # a torch Dataset, of which only a batch can tell
    trainer = trainer_of(training_args, {}, tiny_dataset(), [MODULATIONS["pmr"](prototypes="online")])
    trainer.train_dataset = rows
    with pytest.raises(ValueError, match=r"\['pmr'\] read the labels as class numbers"):
        trainer.train()


def test_mixup_in_a_collator(training_args):
    trainer = trainer_of(training_args, {"class_weights": [1, 2, 1]}, tiny_dataset(), [OGM()])
    plain = trainer.data_collator

    def mixed(samples):
        batch = plain(samples)
        soft = nn.functional.one_hot(batch["labels"], 3).double()
        return {**batch, "labels": 0.7 * soft + 0.3 * soft.flip(0)}

    trainer.data_collator = mixed
    assert trainer.train().training_loss > 0


def test_a_method_with_other_options_fits_other_tasks(training_args):
    options = {"problem_type": BITS, "fusion": "shared", "shared_prediction": "mean"}
    assert trainer_of(training_args, options, labelled(bits()), [MODULATIONS["mla"]()]).train().global_step == 4
    own = {"problem_type": NUMBERS, "num_labels": 1, "auxiliary_loss_weight": 0.0}
    methods = [MODULATIONS["multi_loss"](heads="own"), MODULATIONS["mod_drop"]()]
    assert trainer_of(training_args, own, labelled(numbers()), methods).train().global_step == 4


@pytest.mark.parametrize(
    ("options", "data", "arguments", "match"),
    [
        (
            {"problem_type": BITS},
            labelled(bits()),
            {"label_smoothing_factor": 0.1},
            "smooths one class out of several",
        ),
        ({"class_weights": [1, 2, 3]}, tiny_dataset(), {"label_smoothing_factor": 0.1}, "has class_weights"),
        ({}, labelled(CLASSES, sample_weight=WEIGHTS), {"label_smoothing_factor": 0.1}, "column sample_weight"),
        ({"problem_type": BITS}, tiny_dataset(), {}, "sample 0|row 0: expected different class numbers"),
        ({"problem_type": BITS}, labelled([[2.0, 0.0, 0.0]] * 32), {}, r"3 numbers in \[0, 1\] a sample, found \[2"),
        ({"problem_type": NUMBERS, "num_labels": 2}, labelled(numbers()), {}, "2 finite numbers a sample"),
        ({}, labelled([[0.6, 0.6, 0.0]] * 32), {}, "probabilities of the 3 classes, found"),
        ({}, labelled(numbers()), {}, "labels must be integers"),
    ],
)
def test_what_does_not_go_together(training_args, options, data, arguments, match):
    with pytest.raises(ValueError, match=match):
        trainer_of(training_args, options, data, **arguments)


def test_smoothing_soft_labels(training_args):
    trainer = trainer_of(training_args, {}, CASES["soft labels"][1], label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="probabilities of the classes already"):
        trainer.train()


def test_smoothing_leaves_unlabelled_samples_out(training_args):
    data = labelled([-100] * 8 + CLASSES[8:])
    arguments = {"label_smoothing_factor": 0.1, "train_sampling_strategy": "sequential", "max_steps": 1}
    trainer = trainer_of(training_args, {}, data, [MODULATIONS["multi_loss"]()], **arguments)
    start = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, start[name]), name


def test_an_evaluation_in_half_precision_keeps_the_labels(training_args):
    labels = [1000.0 + row for row in range(32)]  # bfloat16 would have every fourth one
    options, data = {"problem_type": NUMBERS, "num_labels": 1}, labelled(labels, sample_weight=WEIGHTS)
    trainer = trainer_of(training_args, options, data, bf16_full_eval=True)
    assert trainer.predict(trainer.train_dataset).label_ids.ravel().tolist() == labels


class Plain(nn.Module):
    """A model of another package; with `own_loss` it returns a loss."""

    def __init__(self, problem_type, num_labels):
        super().__init__()
        self.config = PreTrainedConfig(num_labels=num_labels, problem_type=problem_type)
        self.see, self.hear, self.head = nn.Linear(7, 4), nn.Linear(5, 4), nn.Linear(8, num_labels)

    def forward(self, visual, audio):
        return {"logits": self.head(torch.cat([self.see(visual), self.hear(audio)], 1))}


class WithLoss(Plain):
    """Computes its own loss."""

    def forward(self, visual, audio, labels=None):
        output = super().forward(visual, audio)
        return output if labels is None else {"loss": output["logits"].square().mean(), **output}


def balanced(training_args, model, data):
    collator = MultimodalDataCollator(
        ["visual", "audio"], model.config.num_labels, 0, problem_type=model.config.problem_type
    )
    collate = lambda rows: {  # noqa: E731
        key: value["values"] if isinstance(value, dict) else value for key, value in collator(rows).items()
    }
    model = balance(model, {"visual": "see", "audio": "hear"})
    data = data.with_format("torch", columns=MODALITIES, output_all_columns=True)
    return MultimodalBalancedTrainer(
        model, training_args(max_steps=4), [OGM()], train_dataset=data, data_collator=collate
    )


@pytest.mark.parametrize(("problem_type", "labels", "count"), [(BITS, bits(), 3), (NUMBERS, numbers(), 1)])
def test_models_of_other_packages(training_args, problem_type, labels, count):
    trainer = balanced(training_args, Plain(problem_type, count), labelled(labels, sample_weight=WEIGHTS))
    trainer.train()
    assert trainer.face.task.problem_type == problem_type
    logged = {key for entry in trainer.state.log_history for key in entry}
    assert {"balance/score_visual", "ogm/coefficient_audio"} <= logged
    with pytest.raises(ValueError, match="the loss of WithLoss is its own and does not see it"):
        balanced(training_args, WithLoss(problem_type, count), labelled(labels, sample_weight=WEIGHTS)).train()


@pytest.mark.parametrize("kind", ["several labels", "regression"])
def test_gradients_of_single_losses_add_up_for_every_task(kind):
    subject = Subject(MODULATIONS["mmpareto"])
    whole, cut = (train(subject, Setting(kind=kind, micro_batches=count, steps=3)) for count in (1, 4))
    for name, value in whole.weights.items():
        torch.testing.assert_close(cut.weights[name], value, rtol=0, atol=1e-10)
