"""Started by test_distributed.py under torchrun: trains a tiny model and writes weights, logs and masks per rank."""

import argparse
import json
import os
from pathlib import Path

import torch
from tiny import tiny_dataset, tiny_model
from tiny_images import tiny_image_dataset, tiny_image_model, without_batch_norm
from torch import nn

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer

OPM, GE = {"q_base": 0.5, "lam": 0.5}, {"alpha": 0.8, "noise": "entry_std"}
CASES = {
    "own_loss": {},
    "ogm_ge": {"ogm": GE},
    "opm": {"opm": OPM},
    "opm+ogm_ge": {"opm": OPM, "ogm": GE},
    "gradient_blending": {"gradient_blending": {"held_out": 0.25, "estimation_epochs": 1}},
    "greedy": {"greedy": {"epsilon": 0.05, "window": 2, "starting_epoch": 0.25}},
}


def own_loss(outputs, labels, num_items_in_batch=None):
    return nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


def model_and_data(case):
    """Batches of any size give equal updates."""
    if case == "greedy":
        model = without_batch_norm(tiny_image_model(interaction="mmtm"))
        return model, tiny_image_dataset(samples=64, dtype=torch.float64)
    options = {"auxiliary_loss_weight": 0.0} if case == "gradient_blending" else {}
    return tiny_model(dtype=torch.float64, **options), tiny_dataset(dtype=torch.float64, samples=64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("output", type=Path)
    for switch in ("--accumulate", "--save", "--resume"):
        parser.add_argument(switch, action="store_true")
    chosen = parser.parse_args()
    world_size = int(os.environ["WORLD_SIZE"])
    accumulation = 2 if chosen.accumulate else 1
    args = BalancedTrainingArguments(
        output_dir=str(chosen.output / "run"),
        use_cpu=True,
        optim="sgd",
        optim_args="momentum=0.9",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        per_device_train_batch_size=8 // world_size // accumulation,
        gradient_accumulation_steps=accumulation,
        max_steps=6,
        logging_steps=6,
        save_strategy="steps" if chosen.save else "no",
        save_steps=3,
        disable_tqdm=True,
        modulations=CASES[chosen.case],
    )
    model, dataset = model_and_data(chosen.case)
    trainer = MultimodalBalancedTrainer(
        model,
        args,
        train_dataset=dataset,
        compute_loss_func=own_loss if chosen.case == "own_loss" else None,
    )
    masks = []
    compute_loss = trainer.compute_loss

    def recording(model, inputs, return_outputs=False, **options):
        loss, outputs = compute_loss(model, inputs, return_outputs=True, **options)
        masks.append(outputs["keep_mask"].clone())
        return (loss, outputs) if return_outputs else loss

    trainer.compute_loss = recording
    checkpoint = str(chosen.output / "run" / "checkpoint-3") if chosen.resume else None
    trainer.train(resume_from_checkpoint=checkpoint)
    logs = {key: value for key, value in trainer.state.log_history[0].items() if "/" in key}
    chosen.output.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "weights": {name: p.detach() for name, p in trainer.model.named_parameters()},
            "logs": json.dumps(logs),
            "masks": torch.cat(masks),
            "world_size": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
        },
        chosen.output / f"rank{args.process_index}.pt",
    )


if __name__ == "__main__":
    main()
