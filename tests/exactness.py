"""Trainings that must end alike, however the batch of an optimizer step is cut, sharded or compiled.

Each takes steps of 8 samples in float64, on one process or on all processes of a launch. OPM's draws are fixed per
sample and step, because its own differ between ranks and micro-batches by design.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import torch
from accelerate.state import AcceleratorState
from tiny import tiny_dataset
from torch import Tensor, nn

from hf_bml import (
    BalancedTrainingArguments,
    MultimodalBalancedTrainer,
    MultimodalConfig,
    MultimodalForClassification,
    balance,
)
from hf_bml.modulation import opm
from hf_bml.processing import MultimodalDataCollator
from hf_bml.testing.training import full_weights, shard_by_accelerate

BATCH, SAMPLES, LABELS = 8, 64, 3
MODALITIES = ("audio", "visual", "text")
OPM, OGM = {"q_base": 0.5, "lam": 0.5}, {"alpha": 0.8}
GE, GRAPH = {**OGM, "noise": "entry_std"}, {**OGM, "placement": "graph"}
MODULATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "opm": {"opm": OPM},
    "ogm": {"ogm": OGM},
    "ogm_ge": {"ogm": GE},
    "opm+ogm": {"opm": OPM, "ogm": OGM},
    "opm+ogm_ge": {"opm": OPM, "ogm": GE},
    "graph": {"ogm": GRAPH},
    "opm+graph": {"opm": OPM, "ogm": GRAPH},
    "opm+rescored": {"opm": OPM, "ogm": {**OGM, "rescore_after_drop": True}},
    "opm+rescored graph": {"opm": OPM, "ogm": {**GRAPH, "rescore_after_drop": True}},
    "ogm_star": {"ogm_star": {}},
    "mmpareto": {"mmpareto": {"heads": "split"}},
    "lfm": {"lfm": {"schedule": "learned", "initial": 0.5}},
}
SELDOM = {"score_every": 3, "score_fraction": 0.5}  # of `balance()`
HEADS: dict[str, dict[str, Any]] = {"linear": {}, "deep": {"head_hidden_sizes": [6]}, "film": {"fusion": "film"}}


@dataclass(frozen=True)
class Run:
    """What may differ between trainings.

    Args:
        modulations: a key of MODULATIONS.
        head: a key of HEADS.
        balance: options of `balance()`, around a model that knows nothing of balancing; None for one of this library.
        micro_batches: per optimizer step and process.
        fsdp: version of fully sharded data parallelism; 0 for DDP or a single process.
        compiled: a backend of `torch.compile`.
        samples: length of the dataset, at most 64.
        repeated: how many of the first samples the dataset repeats at its end.
        absent: rows (modulo 8) that have no audio.
        own_draws: let OPM draw its masks itself.
        own_loss: compute the loss outside the model.
        dtype: of the model and the data.
        arguments: further training arguments.
    """

    modulations: str = "none"
    head: str = "linear"
    balance: dict[str, Any] | None = None
    micro_batches: int = 1
    fsdp: int = 0
    compiled: str | None = None
    samples: int = SAMPLES
    repeated: int = 0
    absent: tuple[int, ...] = ()
    own_draws: bool = False
    own_loss: bool = False
    dtype: torch.dtype = torch.float64
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> Run:
        """The same training with the batch of a step in one piece, neither sharded nor compiled."""
        return replace(self, micro_batches=1, fsdp=0, compiled=None)


def exact_model(dtype: torch.dtype = torch.float64, **options: Any) -> MultimodalForClassification:
    """Without BatchNorm and dropout; two processes shard it unevenly (7 rows are 4 + 3, 1 row is 1 + 0)."""
    sequence = {"type": "sequence", "num_heads": 1, "dropout": 0.0}
    torch.manual_seed(0)
    config = MultimodalConfig(
        modalities={
            "audio": {**sequence, "input_size": 5, "hidden_size": 7, "num_layers": 1, "feedforward_size": 9},
            "visual": {**sequence, "input_size": 7, "hidden_size": 4, "num_layers": 0},
            "text": {**sequence, "input_size": 3, "hidden_size": 1, "num_layers": 0},
        },
        num_labels=LABELS,
        **options,
    )
    return MultimodalForClassification(config).to(dtype)


class PlainModel(nn.Module):
    """Three encoders, and a network on the sum of their features."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict(
            {name: nn.Linear(size, 6) for name, size in zip(MODALITIES, (5, 7, 3), strict=True)}
        )
        self.head = nn.Sequential(nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, LABELS))

    def forward(self, audio: Tensor, visual: Tensor, text: Tensor) -> Tensor:
        given = dict(zip(MODALITIES, (audio, visual, text), strict=True))
        return self.head(sum(layer(given[name]) for name, layer in self.layers.items()))


def balanced_model(dtype: torch.dtype, **options: Any) -> nn.Module:
    """A plain model in `balance()`."""
    torch.manual_seed(0)
    paths = {name: f"layers.{name}" for name in MODALITIES}
    return balance(PlainModel().to(dtype), paths, num_labels=LABELS, **options)


def exact_dataset(run: Run) -> Any:
    dataset = tiny_dataset(MODALITIES, run.samples, LABELS, dtype=run.dtype)
    dataset = dataset.add_column("index", list(range(run.samples)))
    return dataset.select([*range(run.samples), *range(run.repeated)])


def own_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int) -> Tensor:
    return nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


class ExactTrainer(MultimodalBalancedTrainer):
    """Draws OPM's masks by the column `index` of the batch; `masks["<step> <index>"]` is what was kept."""

    def __init__(self, *args: Any, own_draws: bool, **kwargs: Any):
        super().__init__(*args, **kwargs)
        shape = self.args.max_steps, SAMPLES, len(self.modalities)
        self.draws = None if own_draws else torch.rand(shape, generator=torch.Generator().manual_seed(1))
        self.masks: dict[str, list[bool]] = {}

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        step, index = self.state.global_step, inputs.pop("index")
        keep_masks = opm.keep_masks

        def keep(probabilities: Tensor, draws: Tensor, modality_mask: Tensor | None = None) -> Tensor:
            draws = draws if self.draws is None else self.draws[step, index]
            kept = keep_masks(probabilities, draws, modality_mask)
            self.masks.update({f"{step} {sample}": k for sample, k in zip(index.tolist(), kept.tolist(), strict=True)})
            return kept

        with mock.patch.object(opm, "keep_masks", keep):
            return super().compute_loss(model, inputs, *args, **kwargs)


def exact_collator(absent: tuple[int, ...], example: dict[str, Any]) -> Any:
    collator = MultimodalDataCollator(list(MODALITIES), LABELS)
    collator([example])  # the shape of a modality that a whole batch may lack

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [{**row, "audio": None} if int(row["index"]) % BATCH in absent else row for row in rows]
        return {**collator(rows), "index": torch.stack([row["index"] for row in rows])}

    return collate


def arguments(run: Run, folder: str, processes: int) -> BalancedTrainingArguments:
    options = {
        "output_dir": folder,
        "use_cpu": True,
        "optim": "sgd",
        "optim_args": "momentum=0.9",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": BATCH // processes // run.micro_batches,
        "gradient_accumulation_steps": run.micro_batches,
        "train_sampling_strategy": "sequential",
        "max_steps": 6,
        "logging_steps": 6,
        "save_strategy": "no",
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
        "torch_compile": run.compiled is not None,
        "torch_compile_backend": run.compiled,
        "modulations": MODULATIONS[run.modulations],
    }
    return BalancedTrainingArguments(**{**options, **run.arguments})


def build_trainer(run: Run, folder: str) -> ExactTrainer:
    AcceleratorState._reset_state(reset_partial_state=True)
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    dataset = exact_dataset(run)
    trainer = ExactTrainer(
        exact_model(run.dtype, **HEADS[run.head]) if run.balance is None else balanced_model(run.dtype, **run.balance),
        arguments(run, folder, processes),
        train_dataset=dataset,
        data_collator=exact_collator(run.absent, dataset[0]),
        compute_loss_func=own_loss if run.own_loss else None,
        own_draws=run.own_draws,
    )
    if run.fsdp:
        shard_by_accelerate(trainer, run.fsdp)
    return trainer


def train(run: Run) -> dict[str, Any]:
    """Trains on all processes of this launch.

    Returns:
        weights: by name, in full on every process.
        logs: what the balanced trainer logged over all steps, and the last norm of the gradient.
        masks: `"<step> <sample>"` to the modalities that OPM kept, of this process's samples.
        kind: class name of the wrapped model.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(run, folder)
        trainer.train()
    logs = trainer.state.log_history[0]
    return {
        "weights": full_weights(trainer.model),
        "logs": {key: value for key, value in logs.items() if "/" in key or key in ("loss", "grad_norm")},
        "masks": trainer.masks,
        "kind": type(trainer.model_wrapped).__name__,
    }
