"""Started by test_deepspeed.py under torchrun: trains the cases with DeepSpeed ZeRO on two processes of the CPU."""

from __future__ import annotations

import gc
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from exactness import Run, arguments, build_trainer
from tiny import tiny_dataset
from torch import Tensor, nn

from hf_bml import MultimodalBalancedTrainer, MultimodalConfig, MultimodalForClassification

STAGES = (2, 3)
RUNS = {
    "none": Run(dtype=torch.float32),
    "opm": Run("opm", dtype=torch.float32),
    "opm in micro-batches": Run("opm", micro_batches=2, dtype=torch.float32),
    "graph": Run("graph", dtype=torch.float32),
    "opm+graph": Run("opm+graph", dtype=torch.float32),
    "deep opm+graph": Run("opm+graph", "deep", dtype=torch.float32),
    "film opm+graph": Run("opm+graph", "film", dtype=torch.float32),
    "rank without audio": Run("opm+graph", absent=(4, 5, 6, 7), dtype=torch.float32),
}


def zero(stage: int) -> dict[str, Any]:
    """A DeepSpeed config. With stage 3 even the smallest parameter is gathered only where it is used."""
    partition = {"stage3_param_persistence_threshold": 0} if stage == 3 else {}
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {"stage": stage, **partition},
        "zero_allow_untested_optimizer": True,  # SGD
    }


def full_weights(model: nn.Module) -> dict[str, Tensor]:
    import deepspeed

    weights = {}
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            weights[name] = parameter.detach().clone()
    return weights


def train(run: Run, stage: int) -> dict[str, Any]:
    run = replace(run, arguments={"deepspeed": zero(stage)})
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(run, folder)
        trainer.train()
    logs = {key: value for key, value in trainer.state.log_history[0].items() if "/" in key or key == "grad_norm"}
    return {"weights": full_weights(trainer.model), "logs": logs, "kind": type(trainer.model_wrapped).__name__}


def bert_model() -> MultimodalForClassification:
    bert = {"model_type": "bert", "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8}
    text = {**bert, "num_attention_heads": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    config = MultimodalConfig(
        modalities={
            "text": {"type": "transformers", "config": text},
            "audio": {"type": "sequence", "input_size": 5, "hidden_size": 6, "num_heads": 1, "num_layers": 0},
        },
        num_labels=3,
    )
    return MultimodalForClassification(config)


def train_bert(run: Run, start: dict[str, Tensor] | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A transformers encoder, built after the arguments as on the command line; weights at the start and the end."""
    tokens = torch.randint(0, 20, (64, 5), generator=torch.Generator().manual_seed(0))
    dataset = tiny_dataset(("audio",), 64).add_column("text", tokens.tolist())
    processes = dist.get_world_size() if dist.is_initialized() else 1
    with tempfile.TemporaryDirectory() as folder:
        args = arguments(run, folder, processes)
        model = bert_model()
        if start is not None:
            model.load_state_dict(start)
        first = full_weights(model) if start is None else start
        trainer = MultimodalBalancedTrainer(model, args, train_dataset=dataset)
        trainer.train()
    return first, full_weights(trainer.model) if start is None else dict(model.named_parameters())


def refusal() -> str:
    try:
        train(Run("ogm", dtype=torch.float32), 2)
    except ValueError as error:
        return str(error)
    return "no error"


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    gc.freeze()
    first, last = train_bert(Run("graph", arguments={"deepspeed": zero(3)}))
    outcome = {
        "world_size": dist.get_world_size(),
        "runs": {f"{name} {stage}": train(run, stage) for name, run in RUNS.items() for stage in STAGES},
        "bert": {"first": first, "last": last},
        "refusal": refusal(),
    }
    torch.save(outcome, folder / f"rank{dist.get_rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
