"""Started by test_distributed.py under torchrun, once for all of its cases; writes what each rank found.

Everything is trained on two gloo processes. One launch, because importing takes ten times as long as a case.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from exactness import SELDOM, Run, arguments, build_trainer, train
from tiny import tiny_dataset, tiny_model
from tiny_images import tiny_image_dataset, tiny_image_model, without_batch_norm
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer
from hf_bml.modulation import OGM, OPM, Gradients, ModulationStack, Step
from hf_bml.modulation.ogm import gradient_entry_std
from hf_bml.testing.training import full_weights, shard_by_accelerate
from hf_bml.training.needs import check_parallelism

FLOAT32 = {"dtype": torch.float32}  # FSDP1 clips in float32 only
BACKENDS = {"ddp": {}, "fsdp2": {"fsdp": 2}}
COMPILED = {"compiled": "aot_eager"}
RUNS: dict[str, Run] = {
    **{
        f"{modulations} {backend} {micro_batches}": Run(modulations, micro_batches=micro_batches, **options)
        for backend, options in BACKENDS.items()
        for modulations in ("none", "opm", "ogm", "opm+ogm", "opm+rescored", "ogm_star")
        for micro_batches in (1, 2)
    },
    **{
        f"{modulations} {backend}": Run(modulations, **options)
        for backend, options in BACKENDS.items()
        for modulations in ("graph", "opm+graph", "opm+rescored graph")
    },
    **{
        f"{head} {modulations} {backend}": Run(modulations, head, **options)
        for backend, options in BACKENDS.items()
        for head in ("deep", "film")
        for modulations in ("opm+ogm", "graph")
    },
    **{
        f"rank without audio {modulations} {backend}": Run(modulations, absent=(4, 5, 6, 7), **options)
        for backend, options in BACKENDS.items()
        for modulations in ("opm+ogm", "graph")
    },
    "rank without audio in micro-batches": Run("opm+ogm", absent=(2, 3, 6, 7), micro_batches=2),
    "ogm_ge ddp 1": Run("ogm_ge"),
    "ogm_ge ddp 2": Run("ogm_ge", micro_batches=2),
    "opm+ogm_ge ddp 4": Run("opm+ogm_ge", micro_batches=4),
    "own loss": Run("ogm_ge", own_loss=True),
    "own loss in micro-batches": Run("ogm_ge", own_loss=True, micro_batches=2),
    "no clipping fsdp2": Run("opm+ogm", fsdp=2, arguments={"max_grad_norm": 0}),
    "last step is half a batch": Run("opm+ogm_ge", samples=36, micro_batches=2),
    "last batch is filled up": Run("opm+ogm_ge", samples=36),
    **{
        f"balance {how} {backend}": Run("opm+ogm_ge" if backend == "ddp" else "opm+ogm", balance=scores, **options)
        for how, scores in {"every step": {}, "seldom": SELDOM}.items()
        for backend, options in BACKENDS.items()
    },
    "balance seldom in micro-batches": Run("opm+ogm_ge", balance=SELDOM, micro_batches=2),
    "fsdp1 none": Run("none", fsdp=1, **FLOAT32),
    "fsdp1 opm": Run("opm", fsdp=1, micro_batches=2, **FLOAT32),
    "fsdp1 graph": Run("graph", fsdp=1, **FLOAT32),
    "fsdp1 opm+graph": Run("opm+graph", fsdp=1, **FLOAT32),
    "compiled ddp": Run("opm+ogm_ge", **COMPILED),
    "compiled fsdp2": Run("opm+ogm", fsdp=2, **COMPILED),
    "compiled graph ddp": Run("opm+graph", **COMPILED),
}
BF16 = {
    f"{modulations} {backend}": Run(modulations, dtype=torch.float32, arguments={"bf16": True}, **options)
    for backend, options in BACKENDS.items()
    for modulations in ("opm+ogm", "opm+ogm_ge", "opm+graph")
}
OWN_DRAWS = {"ddp": Run("opm+ogm_ge", own_draws=True), "fsdp2": Run("opm+ogm_ge", own_draws=True, fsdp=2)}


def modulated_shards(shape: tuple[int, ...], mesh_shape: tuple[int, int]) -> dict[str, Tensor]:
    """OGM-GE on sharded gradients: what they were, what they became and their spread, in full.

    The entries of the second half of the rows are ten times as large, so the shards differ in their spread.
    """
    mesh = init_device_mesh("cpu", mesh_shape, mesh_dim_names=("replicate", "shard"))
    torch.manual_seed(0)
    gradient = torch.randn(shape, dtype=torch.float64)
    gradient[shape[0] // 2 :] *= 10
    placements = [Replicate(), Shard(0)]
    parameters = {}
    for modality in ("audio", "visual"):
        parameter = nn.Parameter(distribute_tensor(torch.zeros_like(gradient), mesh, placements))
        parameter.grad = distribute_tensor(gradient.clone(), mesh, placements)
        parameters[modality] = [parameter]
    ogm = OGM(noise="entry_std")
    ogm.bind(tuple(parameters))
    with CommDebugMode() as communication:
        std = gradient_entry_std(parameters["audio"][0].grad)
    ogm.modulate_gradients(Gradients(parameters), Step(tuple(parameters), ratios=torch.tensor([2.0, 0.5])))
    local = parameters["audio"][0].grad.to_local()
    return {
        "gradient": gradient,
        "std": std,
        "std_gathers": sum(n for op, n in communication.get_comm_counts().items() if "gather" in str(op)),
        "rows_here": len(local),
        **{modality: group[0].grad.full_tensor() for modality, group in parameters.items()},
    }


def resumed(folder: Path, fsdp: int) -> dict[str, Any]:
    """The same training whole, and cut after step 3; with OPM's own masks and OGM-GE."""

    def train(name: str, resume: bool = False, **options: Any) -> dict[str, Any]:
        run = Run("opm+ogm_ge", fsdp=fsdp, own_draws=True, arguments={"save_steps": 3, **options})
        output = folder / f"fsdp{fsdp}" / name
        trainer = build_trainer(run, str(output))
        trainer.train(resume_from_checkpoint=str(output / "checkpoint-3") if resume else None)
        logs = {key: value for key, value in trainer.state.log_history[0].items() if "/" in key}
        return {"weights": full_weights(trainer.model), "logs": logs}

    whole = train("whole")
    train("cut", save_strategy="steps")
    return {"whole": whole, "resumed": train("cut", resume=True)}


METHODS = {  # with a model that fits, where batches of any size give equal updates
    "greedy": (
        {"epsilon": 0.05, "window": 2, "starting_epoch": 0.25},
        lambda: without_batch_norm(tiny_image_model(interaction="mmtm")),
    ),
    "gradient_blending": (
        {"held_out": 0.25, "estimation_epochs": 1},
        lambda: without_batch_norm(tiny_image_model(auxiliary_loss_weight=0.0)),
    ),
}


def method(name: str, folder: Path, processes: int, micro_batches: int = 1) -> dict[str, Any]:
    """A run of one of METHODS on images."""
    options, build_model = METHODS[name]
    run = Run(micro_batches=micro_batches, arguments={"modulations": {name: options}})
    trainer = MultimodalBalancedTrainer(
        build_model(),
        arguments(run, str(folder), processes),
        train_dataset=tiny_image_dataset(samples=64, dtype=torch.float64),
    )
    trainer.train()
    logs = {key: value for key, value in trainer.state.log_history[0].items() if "/" in key}
    return {"weights": {name: p.detach() for name, p in trainer.model.named_parameters()}, "logs": logs}


def modality_of_none(folder: Path) -> dict[str, Tensor]:
    """Rank 1 passes no audio at all, which DDP allows while it looks for unused parameters (transformers' default)."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        return {**batch, "audio": None} if dist.get_rank() else batch

    args = arguments(Run("opm+ogm_ge", arguments={"ddp_find_unused_parameters": None}), str(folder), 2)
    dataset = tiny_dataset(dtype=torch.float64, samples=64)
    trainer = MultimodalBalancedTrainer(
        tiny_model(dtype=torch.float64), args, train_dataset=dataset, data_collator=collate
    )
    trainer.train()
    return {name: p.detach() for name, p in trainer.model.named_parameters()}


def message_of(make: Callable[[], Any]) -> str:
    try:
        make()
    except ValueError as error:
        return str(error)
    return "no error"


def messages(folder: Path) -> dict[str, str]:
    """What the trainer says to ways of running that cannot do what is asked."""
    sync = BalancedTrainingArguments(str(folder), use_cpu=True, sync_batch_norm=True)
    found = {"sync_batch_norm": message_of(lambda: MultimodalBalancedTrainer(tiny_model(), sync))}
    for version in (1, 2):
        trainer = build_trainer(Run(dtype=torch.float32), str(folder))
        shard_by_accelerate(trainer, version)
        for modulation in (OGM(), OGM(noise="entry_std"), OGM(placement="graph"), OPM()):
            name = f"fsdp{version} {modulation.name} {getattr(modulation.config, 'placement', '')}".strip()
            found[name] = message_of(
                partial(check_parallelism, trainer, ModulationStack([modulation], ("audio", "visual")))
            )
    return found


def main(folder: Path) -> None:
    args = BalancedTrainingArguments(str(folder), use_cpu=True)  # starts the process group
    rank = args.process_index
    gc.freeze()  # as in conftest.py
    outcome = {
        "world_size": dist.get_world_size(),
        "bf16": {name: train(run) for name, run in BF16.items()},
        "own_draws": {name: train(run) for name, run in OWN_DRAWS.items()},
        "shards": {
            f"{shape} {mesh}": modulated_shards(shape, mesh)
            for shape in ((400, 51), (401, 50), (3, 2), (1, 4), (1, 1))
            for mesh in ((1, 2), (2, 1))
        },
        "resumed": {"ddp": resumed(folder, 0), "fsdp2": resumed(folder, 2)},
        "methods": {f"{name} {cut}": method(name, folder, 2, cut) for name in METHODS for cut in (1, 2)},
        "modality_of_none": modality_of_none(folder),
        "messages": messages(folder),
        # last, and of them the compiled ones: the garbage that every training collects is sought in what they keep
        "runs": {name: train(run) for name, run in RUNS.items()},
    }
    torch.save(outcome, folder / f"rank{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
