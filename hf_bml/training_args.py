"""Training arguments of the balanced trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from transformers import TrainingArguments

from .learning_rates import check_multipliers
from .modulation import build_modulations


@dataclass
class BalancedTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` and the modulations.

    Defaults that differ from `TrainingArguments`: `remove_unused_columns=False` (the columns are the modalities) and
    `label_names=["labels"]`.

    Args:
        modulations: options per modulation, such as `{"opm": {"q_base": 0.5, "lam": 0.5}, "ogm": {"alpha": 0.8}}`;
            JSON on the command line. Empty or None: plain training that still logs the discrepancy.
        lr_multipliers: learning rates that differ from `learning_rate`, as a factor per module or parameter of the
            model by its dotted name, such as `{"encoders.flow.model.conv1": 5}` (TSN's first convolution of flow);
            JSON on the command line. The longest matching name counts.
        sync_batch_norm: with several processes, BatchNorm takes its statistics from the micro-batches of all of them
            (`torch.nn.SyncBatchNorm`, not on the CPU) instead of each process's own. A single process trains as
            without it. The micro-batches of gradient accumulation keep their own statistics.

    Raises:
        ValueError: unknown modulation or option, a value out of its range, or a learning rate's factor that is no
            number of at least 0.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*TrainingArguments._VALID_DICT_FIELDS, "modulations", "lr_multipliers"]

    modulations: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": 'Options per modulation, such as {"opm": {"q_base": 0.5}, "ogm": {"alpha": 0.8}}.'},
    )
    lr_multipliers: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": 'Factors of the learning rate by module, such as {"encoders.flow.model.conv1": 5}.'},
    )
    sync_batch_norm: bool = field(
        default=False, metadata={"help": "BatchNorm statistics over all processes (not on the CPU)."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Remove columns that are not in the signature of the model's forward."}
    )
    label_names: list[str] | None = field(
        default_factory=lambda: ["labels"], metadata={"help": "Keys of the inputs that are labels."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modulations is not None and not isinstance(self.modulations, Mapping):
            raise ValueError(
                f"modulations must be a mapping from name to options, found {self.modulations!r}. "
                "On the command line give JSON: --modulations '{\"opm\": {}}'."
            )
        build_modulations(self.modulations)
        check_multipliers(self.lr_multipliers)
