"""Training arguments of the balanced trainer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from transformers import SchedulerType, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..ground.disk import check_output_dir
from ..modulation import build_modulations, bundled_model_options, expanded

LEAST_LOGS = 20
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")  # transformers 5.20 has the second only
DICT_FIELDS = ("modulations", "lr_multipliers", "trained_alone")  # mappings, also given as JSON, wherever from


def with_option(options: Mapping[str, Any] | None, path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of nested options with one of them set.

    Example:
        >>> with_option({"opm": {"lam": 0.3}}, ["opm", "q_base"], 0.8)
        {'opm': {'lam': 0.3, 'q_base': 0.8}}
    """
    name, *rest = path
    options = dict(options or {})
    return {**options, name: with_option(options.get(name), rest, value) if rest else value}


def check_multipliers(multipliers: Any) -> None:
    """Raises ValueError unless `multipliers` is None or maps names to numbers of at least 0."""
    if multipliers is None:
        return
    is_valid = isinstance(multipliers, Mapping) and all(
        isinstance(factor, int | float) and not isinstance(factor, bool) and 0 <= factor < float("inf")
        for factor in multipliers.values()
    )
    if not is_valid:
        raise ValueError(
            "lr_multipliers must map names of modules or parameters to numbers of at least 0, found "
            f"{multipliers!r}. For example {{'encoders.flow.model.conv1': 5}}."
        )


@dataclass
class OwnArguments:
    """What [`BalancedTrainingArguments`] have beside the Trainer's own, which says what they mean."""

    bundled_model_options = MappingProxyType({})  # no field: what the bundles among `modulations` want of the model

    modulations: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": 'Options per modulation, such as {"opm": {"q_base": 0.5}, "ogm": {"alpha": 0.8}}; or '
            "names joined by +, such as balanced."
        },
    )
    lr_multipliers: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": 'Factors of the learning rate by module, such as {"encoders.flow.model.conv1": 5}.'},
    )
    sync_batch_norm: bool = field(
        default=False, metadata={"help": "BatchNorm statistics over all processes (not on the CPU)."}
    )
    lr_drop_at: list[float] = field(
        default_factory=list,
        metadata={"help": "Parts of the training, in (0, 1), after which the learning rate falls by lr_drop_factor."},
    )
    lr_drop_factor: float = field(
        default=0.1, metadata={"help": "What the learning rate is multiplied by at each of lr_drop_at, > 0."}
    )
    trained_alone: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'Folders of models of one modality each, such as {"audio": "runs/audio"}.'}
    )
    push_code: bool = field(
        default=True, metadata={"help": "Push the code, so that trust_remote_code loads the model without hf_bml."}
    )


def own_arguments(args: TrainingArguments) -> OwnArguments:
    """The arguments themselves; of a plain Trainer's, the defaults."""
    return args if isinstance(args, OwnArguments) else OwnArguments()


@dataclass
class BalancedTrainingArguments(OwnArguments, TrainingArguments):
    """`transformers.TrainingArguments` and the modulations.

    Defaults that differ from `TrainingArguments`: `remove_unused_columns=False` (the columns are the modalities) and
    `label_names=["labels"]`. With the default `logging_steps=500`, a training of fewer than 10,000 steps logs after
    every twentieth of it.

    Args:
        modulations: options per modulation, such as `{"opm": {"q_base": 0.5, "lam": 0.5}, "ogm": {"alpha": 0.8}}`;
            JSON on the command line. Or the names of modulations and bundles, such as `"balanced"` or
            `"balanced+opm"`; the attribute holds what they stand for. Empty or None: plain training that still logs
            the discrepancy.
        lr_multipliers: learning rates that differ from `learning_rate`, as a factor per module or parameter of the
            model by its dotted name, such as `{"encoders.flow.model.conv1": 5}` (TSN's first convolution of flow);
            JSON on the command line. The longest matching name counts.
        sync_batch_norm: with several processes, BatchNorm takes its statistics from the micro-batches of all of them
            (`torch.nn.SyncBatchNorm`, not on the CPU) instead of each process's own. A single process trains as
            without it. The micro-batches of gradient accumulation keep their own statistics.
        lr_drop_at: parts of the training, in (0, 1), after which the learning rate falls: 0.7 of 100 epochs is a drop
            after epoch 70. Needs `lr_scheduler_type="constant"`.
        lr_drop_factor: what it is multiplied by at each drop, > 0.
        trained_alone: by modality the folder of a model that was trained on it alone, for modulations that compare
            with one (`Run.trained_alone`); JSON on the command line.
        push_code: push the code of model, processor and pipeline along (see `save_code`), so that
            `trust_remote_code=True` loads them where hf_bml is not installed. Only of models of hf_bml.

    Raises:
        ValueError: unknown modulation or option, a value out of its range, or a learning rate's factor that is
            not a number of at least 0.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*TrainingArguments._VALID_DICT_FIELDS, *DICT_FIELDS]

    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Remove columns that are not in the signature of the model's forward."}
    )
    label_names: list[str] | None = field(
        default_factory=lambda: ["labels"], metadata={"help": "Keys of the inputs that are labels."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(vars(self).get(name) for name in CHECKPOINTING) and self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = True  # a batch may lack a modality; Trainer would set False here
        check_output_dir(self.output_dir)
        self.check()

    def __setattr__(self, name: str, value: Any) -> None:
        """Also sets one option of a modulation, `setattr(args, "modulations.opm.q_base", 0.8)`, and takes JSON; puts
        modulations in the place of bundles."""
        if name in DICT_FIELDS and isinstance(value, str) and value.startswith("{"):
            value = json.loads(value)
        if name.startswith("modulations."):
            name, value = "modulations", with_option(self.modulations, name.split(".")[1:], value)
        elif name == "modulations":
            super().__setattr__("bundled_model_options", bundled_model_options(value))
        if name == "modulations" and value is not None:
            value = expanded(value)
        super().__setattr__(name, value)

    def check(self) -> None:
        """Raises ValueError as `__init__` does; for arguments that were changed since."""
        build_modulations(self.modulations)
        check_multipliers(self.lr_multipliers)
        if not isinstance(self.trained_alone, Mapping | None):
            raise ValueError(
                f"trained_alone must map modalities to folders, found {self.trained_alone!r}. "
                'On the command line give JSON, such as {"audio": "runs/audio"}.'
            )
        self._check_drops()

    def _check_drops(self) -> None:
        if not all(0 < drop < 1 for drop in self.lr_drop_at):
            raise ValueError(
                f"lr_drop_at holds parts of the training, each in (0, 1), found {self.lr_drop_at}. "
                "For a drop after epoch 70 of 100, give 0.7."
            )
        if not self.lr_drop_factor > 0:
            raise ValueError(f"lr_drop_factor must be > 0, found {self.lr_drop_factor}. 0.1 is usual.")
        if self.lr_drop_at and self.lr_scheduler_type != SchedulerType.CONSTANT:
            raise ValueError(
                "lr_drop_at is a schedule of its own and needs lr_scheduler_type: constant, found "
                f"{str(self.lr_scheduler_type.value)!r}. Set it, or leave lr_drop_at out."
            )


class LogShortTrainings(TrainerCallback):
    """Lets a training log at least 20 times where `logging_steps` was left at the Trainer's 500: balance is what these
    trainings are watched for, and a short one would show nothing of it."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.logging_steps == TrainingArguments.logging_steps:
            state.logging_steps = max(1, min(state.logging_steps, state.max_steps // LEAST_LOGS))
