"""Every option of the Trainer that touches inputs, precision, sampling or metrics works, is forwarded, or is refused
when the trainer is built, with the way that works."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny_dataset, tiny_model
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.debug_utils import DebugOption

from hf_bml import MultimodalBalancedTrainer, MultimodalDataCollator, balance
from hf_bml.metrics import classification_metrics
from hf_bml.training.refused_options import refusals

WORKS = {  # a value of each
    "label_smoothing_factor": 0.1,
    "bf16": True,
    "bf16_full_eval": True,
    "fp16_full_eval": True,
    "tf32": False,
    "torch_compile": False,  # tests/models/test_compile.py compiles
    "torch_empty_cache_steps": 1,
    "auto_find_batch_size": True,
    "gradient_accumulation_steps": 2,
    "average_tokens_across_devices": False,
    "max_grad_norm": 0.5,
    "logging_nan_inf_filter": False,
    "per_device_train_batch_size": 3,
    "per_device_eval_batch_size": 5,
    "prediction_loss_only": True,
    "eval_strategy": "epoch",
    "eval_steps": 3,
    "eval_delay": 1,
    "eval_on_start": True,
    "eval_do_concat_batches": False,
    "eval_use_gather_object": True,
    "eval_accumulation_steps": 1,
    "include_for_metrics": ["loss"],
    "batch_eval_metrics": True,
    "metric_for_best_model": "accuracy",
    "greater_is_better": True,
    "load_best_model_at_end": True,
    "full_determinism": True,
    "data_seed": 3,
    "dataloader_drop_last": True,
    "remove_unused_columns": True,
    "label_names": ["labels"],
    "train_sampling_strategy": "sequential",
    "length_column_name": "seconds",
    "use_cache": True,
    "accelerator_config": {"split_batches": True},
}
BESIDE = {  # what goes with it
    "load_best_model_at_end": {"eval_strategy": "epoch", "save_strategy": "epoch", "metric_for_best_model": "loss"},
    "metric_for_best_model": {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True},
    "eval_steps": {"eval_strategy": "steps"},
    "length_column_name": {"train_sampling_strategy": "group_by_length"},
    "eval_on_start": {"eval_strategy": "epoch"},
}
REFUSED = {  # a value of each, and the message
    "include_for_metrics": (["inputs"], "Let compute_metrics read the evaluation split itself"),
    "include_num_input_tokens_seen": ("non_padding", "count tokens in a data_collator"),
    "neftune_noise_alpha": (5.0, "neftune_post_forward_hook on the text encoder's embedding"),
    "activation_checkpointing": (True, "needs an encoder with layers that can be computed again"),
    "gradient_checkpointing": (True, "needs an encoder with layers that can be computed again"),
    "use_liger_kernel": (True, "patch an encoder yourself"),
    "debug": ([DebugOption.UNDERFLOW_OVERFLOW], "set_detect_anomaly"),
    "label_names": (["classes"], r"Set label_names: \['labels'\]"),
    "train_sampling_strategy": ("group_by_length", r"dataset.add_column\('length', lengths\)"),
}
PARALLEL = {  # need several processes or devices: test_distributed.py, test_deepspeed.py, test_precision.py
    *("fp16", "fsdp", "fsdp_config", "deepspeed", "use_cpu", "local_rank"),
    *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend"),
    *("ddp_timeout", "parallelism_config"),
}
WITH_THEIR_SWITCH = {  # only say how, what another option turns on
    *("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs", "liger_kernel_config"),
    *("torch_compile_backend", "torch_compile_mode"),
}
ELSEWHERE = {  # touch none of inputs, precision, sampling and metrics
    *("output_dir", "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs"),
    *("warmup_steps", "optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("optim_target_modules", "logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node"),
    *("log_level", "log_level_replica", "disable_tqdm", "report_to", "run_name", "project", "trackio_space_id"),
    *("trackio_bucket_id", "trackio_static_space_id", "save_only_model", "save_strategy", "save_steps"),
    *("save_on_each_node", "save_total_limit", "enable_jit_checkpoint", "push_to_hub", "hub_token"),
    *("hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision", "ignore_data_skip"),
    *("restore_callback_states_from_checkpoint", "seed", "dataloader_num_workers", "dataloader_pin_memory"),
    *("dataloader_persistent_workers", "dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
    *("dataloader_in_order", "skip_memory_metrics", "do_train", "do_eval", "do_predict", "resume_from_checkpoint"),
}


def test_every_field_is_in_the_table():
    """A new release's new field belongs into one of these lists."""
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    known = {*WORKS, *REFUSED, *PARALLEL, *WITH_THEIR_SWITCH, *ELSEWHERE}
    assert fields - known == set(), "new in transformers: does it work, and with what value?"
    assert not known - fields, "gone from transformers"


def accuracy_of_logits(eval_pred, compute_result=True):
    """As in transformers' tutorials, where `eval_pred` holds no losses."""
    logits, labels = eval_pred.predictions, eval_pred.label_ids
    if isinstance(logits, list):  # eval_do_concat_batches=False
        logits, labels = np.concatenate([np.asarray(part) for part in logits]), np.concatenate(labels)
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": float((np.asarray(predictions) == np.asarray(labels)).mean())}


@pytest.mark.parametrize("name", sorted(WORKS))
def test_it_works(training_args, name):
    options = {"modulations": {"opm": {}, "ogm": {}}, "max_steps": 5, "logging_steps": 1, **BESIDE.get(name, {})}
    dataset = tiny_dataset().add_column("seconds", list(range(32)))
    trainer = MultimodalBalancedTrainer(
        tiny_model(),
        training_args(**{**options, name: WORKS[name]}),
        train_dataset=dataset,
        eval_dataset=dataset,
        data_collator=MultimodalDataCollator(["audio", "visual"]),
        compute_metrics=accuracy_of_logits,
    )
    trainer.train()
    assert all(math.isfinite(entry["balance/ratio_audio"]) for entry in trainer.state.log_history if "loss" in entry)
    metrics = trainer.evaluate()
    assert math.isfinite(metrics["eval_loss"])
    assert ("eval_accuracy" in metrics) == (name != "prediction_loss_only")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_it_is_refused_when_the_trainer_is_built(training_args, name):
    value, message = REFUSED[name]
    args = training_args()
    setattr(args, name.replace("gradient_ch", "activation_ch"), value)  # liger and the like need not be installed
    with pytest.raises(ValueError, match=message):
        MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset())


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_a_problem_type(training_args, problem_type):
    model = tiny_model()
    model.config.problem_type = problem_type
    with pytest.raises(
        ValueError, match=f"problem_type: {problem_type}, but the model's task is single_label_classification"
    ):
        MultimodalBalancedTrainer(model, training_args())
    model.config.problem_type = "single_label_classification"
    MultimodalBalancedTrainer(model, training_args())


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.read, self.see, self.head = nn.EmbeddingBag(50, 4), nn.Linear(5, 4), nn.Linear(8, 3)

    def forward(self, input_ids, pixels):
        return {"logits": self.head(torch.cat([self.read(input_ids), self.see(pixels)], dim=-1))}


def test_a_wrapped_model_with_token_ids_has_a_main_input(training_args):
    """Tokens are counted and the inputs reach the metrics, as the Trainer does for the model alone."""
    rows = [{"input_ids": torch.arange(6) + row, "pixels": torch.randn(5), "labels": row % 3} for row in range(8)]
    seen = []
    trainer = MultimodalBalancedTrainer(
        balance(TwoInputs(), {"text": "read", "vision": "see"}, num_labels=3),
        training_args(include_num_input_tokens_seen="all", include_for_metrics=["inputs"], max_steps=2),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=lambda prediction: seen.append(prediction.inputs) or {},
    )
    trainer.train()
    assert trainer.state.num_input_tokens_seen == 2 * 8 * 6
    trainer.evaluate()
    assert seen[0].shape == (8, 6)


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
def test_rows_grouped_by_length(training_args, strategy):
    dataset = tiny_dataset().add_column("length", [1 + row % 7 for row in range(32)])

    def build(**options):
        options = {"train_dataset": dataset, "eval_dataset": dataset, **options}
        args = training_args(train_sampling_strategy=strategy, **options.pop("args", {}))
        collator = MultimodalDataCollator(["audio", "visual"])
        return MultimodalBalancedTrainer(tiny_model(), args, data_collator=collator, **options)

    trainer = build()
    trainer.train()
    assert math.isfinite(trainer.evaluate()["eval_loss"])
    with pytest.raises(ValueError, match="remove_unused_columns: true removes"):
        build(args={"remove_unused_columns": True})
    if strategy == "group_by_length":
        with pytest.raises(ValueError, match=r"eval_dataset\['a'\] has none"):
            build(eval_dataset={"a": tiny_dataset()})
    with pytest.raises(ValueError, match=f"{strategy} needs .* and train_dataset has none"):
        build(train_dataset=[dict(row) for row in dataset])


def test_parts_of_a_sequence_on_several_processes(training_args):
    trainer = MultimodalBalancedTrainer(tiny_model(), training_args())
    assert list(refusals(trainer)) == []
    trainer.args.parallelism_config = SimpleNamespace(tp_size=1, cp_size=2)
    assert "'cp_size': 2" in next(refusals(trainer))


def compute_metrics_of_the_tutorial(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": float((predictions == labels).mean())}


def test_the_tutorials_compute_metrics(training_args):
    """It sees joint logits; ours sees the unimodal ones too."""
    dataset = tiny_dataset()
    trainer = MultimodalBalancedTrainer(
        tiny_model(), training_args(), eval_dataset=dataset, compute_metrics=compute_metrics_of_the_tutorial
    )
    theirs = trainer.evaluate()["eval_accuracy"]
    trainer.compute_metrics = classification_metrics
    ours = trainer.evaluate()
    assert theirs == ours["eval_accuracy"]
    assert {"eval_accuracy_audio", "eval_accuracy_visual"} <= set(ours)


@pytest.mark.parametrize(
    "preprocess",
    [
        lambda logits, labels: logits.argmax(dim=-1),
        lambda logits, labels: (logits[0] if isinstance(logits, tuple) else logits).argmax(dim=-1),
    ],
)
def test_preprocessed_logits_for_metrics(training_args, preprocess):
    trainer = MultimodalBalancedTrainer(
        tiny_model(),
        training_args(),
        compute_metrics=lambda prediction: {"accuracy": float((prediction[0] == prediction[1]).mean())},
        preprocess_logits_for_metrics=preprocess,
    )
    plain = MultimodalBalancedTrainer(tiny_model(), training_args(), compute_metrics=compute_metrics_of_the_tutorial)
    assert trainer.evaluate(tiny_dataset())["eval_accuracy"] == plain.evaluate(tiny_dataset())["eval_accuracy"]


WEIGHTS = torch.tensor([1.0, 2.0, 5.0])


def class_weights(base):
    class ClassWeights(base):
        """As transformers' documentation recommends."""

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            logits = outputs.get("logits")
            loss = nn.functional.cross_entropy(logits.view(-1, 3), labels.view(-1), weight=WEIGHTS)
            return (loss, outputs) if return_outputs else loss

    return ClassWeights


def sample_weights(base):
    class SampleWeights(base):
        """A column `sample_weight`, which an evaluation may lack."""

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels, weights = inputs.pop("labels"), inputs.pop("sample_weight", 1.0)
            outputs = model(**inputs)
            losses = nn.functional.cross_entropy(outputs["logits"], labels, reduction="none")
            loss = (weights * losses).mean()
            return (loss, outputs) if return_outputs else loss

    return SampleWeights


def half(base):
    class Half(base):
        """Builds on the loss of the Trainer."""

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            return (loss / 2, outputs) if return_outputs else loss / 2

    return Half


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("override", [class_weights, sample_weights, half])
def test_an_overridden_compute_loss(training_args, override, accumulation):
    """Without modulations it trains as on a plain Trainer; with them they see the labels, and the loss is as given."""
    dataset, collator = tiny_dataset(), MultimodalDataCollator(["audio", "visual"], passed_on=["sample_weight"])
    if override is sample_weights:
        dataset = dataset.add_column("sample_weight", [row % 3 / 2 for row in range(32)])
    options = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4}

    def train(base, modulations):
        arguments = training_args(modulations=modulations, **options)
        trainer = override(base)(tiny_model(), arguments, train_dataset=dataset, data_collator=collator)
        trainer.train()
        return trainer

    plain, ours = train(Trainer, None), train(MultimodalBalancedTrainer, None)
    for name, parameter in plain.model.named_parameters():
        assert torch.equal(parameter, ours.model.get_parameter(name)), name
    assert "balance/ratio_audio" in ours.state.log_history[0]
    modulated = train(MultimodalBalancedTrainer, {"opm": {}, "ogm": {"alpha": 0.8}})
    assert "opm/drop_probability_audio" in modulated.state.log_history[0]
    assert modulated.state.log_history[0]["ogm/coefficient_audio"] != 1
    assert not torch.equal(modulated.model.head.classifier[-1].weight, ours.model.head.classifier[-1].weight)
    assert math.isfinite(modulated.evaluate(tiny_dataset())["eval_loss"])


def test_an_overridden_compute_loss_that_hides_the_output(training_args):
    class Hiding(MultimodalBalancedTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            outputs = model(**inputs)
            return (outputs["loss"], outputs["logits"]) if return_outputs else outputs["loss"]

    trainer = Hiding(tiny_model(), training_args(), train_dataset=tiny_dataset())
    with pytest.raises(ValueError, match=r"compute_loss must return \(loss, output\) .* found Tensor"):
        trainer.train()
