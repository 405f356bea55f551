"""Short trainings with one modulation: in one piece or cut, sharded, in half precision, with draws fixed per row."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import (
    AutocastKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
    broadcast_object_list,
)
from datasets import Dataset
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode
from transformers import PrinterCallback, default_data_collator

from ..modulation import MODULATIONS, Modulation, Needs
from ..modulation.step import seeded_generator
from ..training.trainer import MultimodalBalancedTrainer
from ..training.training_args import BalancedTrainingArguments
from .samples import KINDS

BATCH, SAMPLES = 8, 32
HALF = (torch.bfloat16, torch.float16)
NEVER = {"unit": "steps", "start": 10**6, "end": None}  # an active window that never opens


@dataclass(frozen=True, eq=False)
class Subject:
    """A modulation with the options with which it is checked; two with one `key` are equal.

    Args:
        method: the class.
        options: over its `example_options`.
    """

    method: type[Modulation]
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, **changes: Any) -> Modulation:
        """A new object, with further options."""
        return self.method(**{**self.method.example_options, **self.options, **changes})

    @property
    def key(self) -> str:
        """Method and options."""
        return f"{self.path} {sorted(self.options.items())}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subject) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def path(self) -> str:
        """What another process imports it by."""
        return f"{self.method.__module__}:{self.method.__qualname__}"


def subject_of(method: type[Modulation] | str, options: Mapping[str, Any]) -> Subject:
    """From a class, a name in the registry or `package.module:Name`.

    Raises:
        TypeError: it is not a modulation.
        ValueError: no such name.
    """
    found = MODULATIONS.find(method) if isinstance(method, str) else method
    if not (isinstance(found, type) and issubclass(found, Modulation)):
        raise TypeError(f"Expected a subclass of Modulation, its name or 'package.module:Name', found {method!r}.")
    return Subject(found, dict(options))


@dataclass(frozen=True)
class Setting:
    """What may differ between trainings.

    Args:
        kind: a key of KINDS.
        modalities: their number, of the first ones; None for those of the kind.
        micro_batches: per optimizer step and process.
        fsdp2: shard the model over the processes.
        missing: let samples lack modalities; what the absent inputs hold, None if every sample has all.
        steps: optimizer steps.
        fixed_draws: let random draws depend on step and row alone, not on how a batch is cut.
        dtype: of model and data.
        own_loss: give the trainer a `compute_loss_func`, which divides a sum by the number of items in the batch.
        arguments: further training arguments.
    """

    kind: str = "classification"
    modalities: tuple[str, ...] | None = None
    micro_batches: int = 1
    fsdp2: bool = False
    missing: float | None = None
    steps: int = 5
    fixed_draws: bool = True
    dtype: torch.dtype = torch.float64
    own_loss: bool = False
    arguments: tuple[tuple[str, Any], ...] = ()


def flat(state: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings and lists by path."""
    if isinstance(state, Mapping):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    else:
        return {prefix: state}
    return {path: leaf for key, value in items for path, leaf in flat(value, f"{prefix}/{key}").items()}


class DataOf(Modulation):
    """Does nothing at any time, but asks for the model and the data that another modulation asks for.

    Args:
        model_options: those that the other needs.
        held_out: its held-out fraction.
        steps_per_batch: those that it takes.
    """

    name = "data_of"
    phase = "features"

    def __init__(self, model_options: Mapping[str, Any], held_out: float, steps_per_batch: int):
        super().__init__(**NEVER)
        self._needs = Needs(model_options=model_options, steps_per_batch=steps_per_batch)
        self._held_out = held_out

    def needs(self, modalities: Sequence[str]) -> Needs:
        return self._needs

    @property
    def held_out_fraction(self) -> float:
        """That of the other."""
        return self._held_out


class RowDraws(TorchFunctionMode):
    """Makes what a modulation draws in a micro-batch from `Step.generator` depend on step and row alone.

    The draws of methods differ between ranks and micro-batches by design, which would hide whether anything else does.
    The first axis of what is drawn must go by samples, or by samples times something; other draws depend on the step.

    Args:
        trainer: in whose training steps this is used; its batches must be numbered.
    """

    def __init__(self, trainer: PropertyTrainer):
        super().__init__()
        self._trainer = trainer
        self._batch, self._draws = None, 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        generators = self._trainer.generators
        names = [name for (name, _), own in generators.items() if own is kwargs.get("generator")]
        batch = self._trainer.modulation.batch
        if not names or batch is None:
            return function(*args, **kwargs)
        if batch is not self._batch:
            self._batch, self._draws = batch, 0
        self._draws += 1
        step, device = self._trainer.state.global_step, kwargs["generator"].device

        def drawn(*arguments: Any, row: int = -1) -> Tensor:
            generator = seeded_generator(names[0], device, step, self._draws, row + 1)
            return function(*arguments, **{**kwargs, "generator": generator})

        rows = batch.rows.tolist()
        given = args[0] if args and isinstance(args[0], Tensor) else None
        size = () if given is None and function not in (torch.rand, torch.randn) else None
        if size is None:
            size = given.shape if given is not None else torch.Size(torch.empty(*args, device="meta").shape)
        if not len(size) or size[0] % len(rows):
            return drawn(*args)
        if given is None:
            kwargs.pop("size", None)
            shape = size[0] // len(rows), *size[1:]
            return torch.cat([drawn(shape, row=row) for row in rows])
        parts = [drawn(part, *args[1:], row=row) for part, row in zip(given.chunk(len(rows)), rows, strict=True)]
        return given if function.__name__.endswith("_") else torch.cat(parts)


class PropertyTrainer(MultimodalBalancedTrainer):
    """A trainer whose modulations draw by row, and that keeps what was seen.

    Args:
        fixed_draws: see [`Setting`].

    Attributes:
        first: of the first optimizer step, the mean `loss` of this process's micro-batches, and the `scores`.
    """

    def __init__(self, *args: Any, fixed_draws: bool, **kwargs: Any):
        self._fixed_draws = fixed_draws
        self._first_losses: list[Tensor] = []
        self.first: dict[str, Tensor] = {}
        super().__init__(*args, **kwargs)

    @property
    def generators(self) -> Mapping[tuple[str, torch.device], torch.Generator]:
        """What modulations have drawn from in the open step, by their names."""
        return {} if self._step is None else self._step._generators

    def _prepare_balancing(self) -> None:
        super()._prepare_balancing()
        self.numbers_rows |= self._fixed_draws

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        with RowDraws(self) if self._fixed_draws else nullcontext():
            loss = super().training_step(*args, **kwargs)
        if self.state.global_step == 0 and self.accelerator.sync_gradients:
            self.first = {"loss": torch.stack(self._first_losses).mean(), "scores": self.monitor.scores}
        return loss

    def watch(self, loss: Tensor, unimodal_logits: Mapping[str, Tensor]) -> None:
        super().watch(loss, unimodal_logits)
        if self.state.global_step == 0:
            self._first_losses.append(loss.detach())


def use_gradient_scaler(
    trainer: MultimodalBalancedTrainer, scale: float, autocast: bool = True
) -> MultimodalBalancedTrainer:
    """What Accelerate does for fp16 on a GPU; on the CPU it leaves fp16 out without a word.

    Raises:
        ValueError: the trainer's arguments do not say fp16, or it has a scaler.
    """
    accelerator = trainer.accelerator
    if accelerator.mixed_precision != "fp16" or accelerator.scaler is not None:
        raise ValueError("Expected fp16 without a gradient scaler, as Accelerate sets it up on the CPU.")
    accelerator.native_amp = True
    accelerator.autocast_handler = AutocastKwargs(enabled=autocast)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    return trainer


def shard_by_accelerate(trainer: MultimodalBalancedTrainer, version: int) -> None:
    """Puts Accelerate in the state that its FSDP config leads to on GPUs; on the CPU it takes DDP without a word."""
    wrap = "transformer_based_wrap" if version == 2 else "no_wrap"
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=version, auto_wrap_policy=wrap, state_dict_type="FULL_STATE_DICT"
    )
    if trainer.accelerator.mixed_precision != "no":
        plugin.set_mixed_precision(trainer.accelerator.mixed_precision)
    AcceleratorState._shared_state.update(distributed_type=DistributedType.FSDP, fsdp_plugin=plugin)
    PartialState._shared_state.update(distributed_type=DistributedType.FSDP)
    trainer.is_fsdp_enabled = True
    if version == 1:  # Accelerate leaves a wrapped model as it is; it would itself name a device "cpu:0"
        trainer.model = trainer.model_wrapped = FullyShardedDataParallel(
            trainer.model, use_orig_params=True, device_id=torch.device("cpu")
        )


def full_weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters by name, whole on every process."""
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model):
            return {
                name.replace("_fsdp_wrapped_module.", ""): p.detach().clone() for name, p in model.named_parameters()
            }
    return {
        name.removeprefix("_orig_mod."): (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
        for name, p in model.named_parameters()
    }


def presence(samples: int, modalities: int) -> Tensor:
    """Which modalities the samples have, bool `(samples, modalities)`: some lack one, and eight on end the last."""
    mask = torch.ones(samples, modalities, dtype=torch.bool)
    for column in range(modalities):
        mask[column :: modalities + 1, column] = False
    mask[BATCH : 2 * BATCH] = True
    mask[BATCH : 2 * BATCH, -1] = modalities == 1
    return mask


def with_missing(dataset: Dataset, modalities: tuple[str, ...], value: float) -> Dataset:
    """The dataset with a column `modality_mask`, and with `value` in the inputs that are absent."""
    mask, columns = presence(len(dataset), len(modalities)), dataset[:]
    for column, name in enumerate(modalities):
        columns[name] = columns[name].clone()
        columns[name][~mask[:, column]] = value
    arrays = {name: value.numpy() for name, value in columns.items()}
    return Dataset.from_dict({**arrays, "modality_mask": mask.numpy()}).with_format("torch", dtype=None)


@lru_cache
def data_of(kind: str, modalities: tuple[str, ...], dtype: torch.dtype, missing: float | None) -> Dataset:
    """The data of a setting, made once: it takes as long as a few optimizer steps."""
    dataset = KINDS[kind].data(modalities, SAMPLES, dtype)
    return dataset if missing is None else with_missing(dataset, modalities, missing)


def collate(rows: list[dict[str, Any]], modalities: tuple[str, ...]) -> dict[str, Any]:
    """Stacks rows; a modality that the whole batch lacks is None."""
    batch = default_data_collator(rows)
    mask = batch["modality_mask"]
    absent = {name: None for column, name in enumerate(modalities) if not mask[:, column].any()}
    return {**batch, **absent}


def own_loss(outputs: Mapping[str, Any], labels: Tensor, num_items_in_batch: Tensor | int) -> Tensor:
    """A `compute_loss_func`."""
    return nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


def arguments_of(setting: Setting, folder: str) -> BalancedTrainingArguments:
    """For a short, quiet run on the CPU with SGD and momentum, which logs at its end."""
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    options = {
        "output_dir": folder,
        "use_cpu": True,
        "optim": "sgd",
        "optim_args": "momentum=0.9",
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": BATCH // processes // setting.micro_batches,
        "gradient_accumulation_steps": setting.micro_batches,
        "max_steps": setting.steps,
        "logging_steps": setting.steps,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": [],
        "ddp_find_unused_parameters": False,
    }
    return BalancedTrainingArguments(**{**options, **dict(setting.arguments)})


def save_teachers(setting: Setting, folder: str) -> dict[str, str]:
    """Saves a model of each modality that stands for one trained alone; empty where the kind has none. The main
    process, which alone writes models, does so in its folder."""
    kind = KINDS[setting.kind]
    [root] = broadcast_object_list([f"{folder}/teachers"])
    folders = (
        {} if kind.teacher is None else {name: f"{root}/{name}" for name in setting.modalities or kind.modalities}
    )
    for name, path in folders.items():
        kind.teacher(name).to(setting.dtype).save_pretrained(path)
    PartialState().wait_for_everyone()
    return folders


def build_trainer(subject: Subject, setting: Setting, folder: str, **changes: Any) -> PropertyTrainer:
    """A trainer on all processes of this launch.

    Args:
        subject: what to train with.
        setting: how.
        folder: for its output.
        changes: of the modulation's options.

    Raises:
        ValueError: the method does not go with the setting.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    kind = KINDS[setting.kind]
    modalities = setting.modalities or kind.modalities
    method = subject.build(**changes)
    needs = method.needs(modalities)
    dataset = data_of(setting.kind, modalities, setting.dtype, setting.missing)
    collator = default_data_collator if setting.missing is None else partial(collate, modalities=modalities)
    arguments = arguments_of(setting, folder)
    if needs.trained_alone:
        arguments.trained_alone = save_teachers(setting, folder)
    trainer = PropertyTrainer(
        kind.model(modalities, needs.model_options).to(setting.dtype),
        arguments,
        [method],
        train_dataset=dataset,
        eval_dataset=dataset,
        data_collator=collator,
        compute_loss_func=own_loss if setting.own_loss else None,
        fixed_draws=setting.fixed_draws,
    )
    trainer.remove_callback(PrinterCallback)
    if setting.fsdp2:
        shard_by_accelerate(trainer, 2)
    return trainer


@dataclass
class Outcome:
    """How a training ended.

    Attributes:
        weights: by name, whole.
        start: the same before the training.
        logs: what the trainer logged of the modalities and of the modulation, over all steps.
        kind: class name of the wrapped model.
        first: see [`PropertyTrainer`].
        half: what the modulation keeps in half precision, by path.
    """

    weights: dict[str, Tensor]
    start: dict[str, Tensor]
    logs: dict[str, float]
    kind: str
    first: dict[str, Tensor] = field(default_factory=dict)
    half: list[str] = field(default_factory=list)


def train(subject: Subject, setting: Setting, **changes: Any) -> Outcome:
    """Trains on all processes of this launch; arguments and errors as of `build_trainer`."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = build_trainer(subject, setting, folder, **changes)
        start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        trainer.train()
    state = flat(trainer._modulation_state())
    half = [path for path, leaf in state.items() if isinstance(leaf, Tensor) and leaf.dtype in HALF]
    kind = type(trainer.model_wrapped).__name__
    return Outcome(full_weights(trainer.model), start, balance_logs(trainer), kind, trainer.first, half)


def balance_logs(trainer: MultimodalBalancedTrainer) -> dict[str, float]:
    """What was logged of the modalities and the modulations, but for seconds; a value per key, the last."""
    logged = {key: value for entry in trainer.state.log_history for key, value in entry.items()}
    return {key: value for key, value in logged.items() if "/" in key and not key.endswith("seconds")}
