"""A first recipe for a user's data: what the data is, written down as a commented YAML that trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from datasets import ClassLabel, Dataset, List, Value

from ..data.columns import check_columns, column_values, field_of
from ..data.data_report import shortened
from ..data.from_columns import TYPES, load, named_splits, split_names
from ..data.label_columns import Label, label_columns
from ..data.sources import read_source
from ..data.splits import SPLITS
from .column_kinds import Fitting, fitting, kind_of

LOOKED_AT = 32  # values of a column, evenly spaced; all of text
STEPS = 600  # of the training, about
EPOCHS = (3, 30)  # at least, at most
FEW_ROWS = 300  # of which larger shares are held out
GROUPS = ("speaker", "person", "subject", "participant", "actor", "patient", "user", "group", "video", "session")


@dataclass
class FirstRecipe:
    """A recipe and what it is based on.

    Attributes:
        text: the YAML.
        seen: lines about the data.
    """

    text: str
    seen: list[str]


def first_recipe(
    source: Mapping[str, Any],
    modalities: Mapping[str, tuple[str, str | None]],
    label: Label,
    group: str | None = None,
    media_dir: str | None = None,
    numbers: bool = False,
) -> FirstRecipe:
    """Looks at the data and writes a recipe that trains on it.

    Args:
        source: `path`, `name`, `data_files`, `revision` of `from_columns`, those that are given.
        modalities: column and kind (see KINDS; None to look) of each.
        label, group, media_dir, numbers: see `from_columns`.

    Raises:
        FileNotFoundError: the data or its files are not there.
        ValueError: a column is missing or cannot be used, or the label tells no rows apart.
    """
    name = str(source["path"])
    given = read_source(**source)
    names = split_names(given, None, name)
    tables = named_splits(given, names)
    rows = tables["train"]
    columns = {modality: column for modality, (column, _) in modalities.items()}
    if not columns:
        raise ValueError(
            f"Expected at least one modality, found none. The columns of '{name}': {list(rows.features)}."
        )
    check_columns(rows, columns, label_columns(label), group, name)
    for column in label_columns(label):
        check_label(rows, column)
    kinds = {}
    for modality, (column, kind) in modalities.items():
        kinds[modality] = kind or kind_of(rows.features[column], some_values(rows, column), column)
        if kind is None and (modality, kinds[modality]) == ("audio", "video"):
            kinds[modality] = "audio"  # the sound of the same file
    types = {
        modality: kind
        for modality, kind in kinds.items()
        if kind in TYPES and isinstance(some_values(rows, columns[modality], 1)[0], str)
    }
    held_out = [split for split in SPLITS if split not in tables]
    share = 0.2 if len(rows) < FEW_ROWS else 0.1
    options = {
        **source,
        **{"modalities": columns, "label": label},
        **({"numbers": True} if numbers else {}),
        **({"types": types} if types else {}),
        **({"media_dir": media_dir} if media_dir is not None else {}),
        **({"group": group} if group is not None else {}),
        **{f"{split}_fraction": share for split in held_out},
    }
    dataset = load(**options)
    train = dataset["train"]
    found = {}
    for modality, kind in kinds.items():
        found[modality] = fitting(kind, some_values(train, modality, len(train) if kind == "text" else LOOKED_AT))
    task, about = label_task(train, label)
    has_video = "video" in kinds.values()
    sizes = ", ".join(f"{split} {len(own)}" for split, own in dataset.items())
    how = f" ({' and '.join(held_out)} held out of train)" if held_out else ""
    width = max(map(len, ["label", *columns]))
    batches = list(train.select_columns(list(columns)).with_format("arrow").iter(1000))
    gaps = {modality: sum(batch[modality].null_count for batch in batches) for modality in columns}
    seen = [
        f"{name}: {sizes} rows{how}",
        *(
            f"  {modality:{width}}  {columns[modality]}: {fit.text}"
            + (f"; missing in {gaps[modality]} rows" if gaps[modality] else "")
            for modality, fit in found.items()
        ),
        f"  {'label':{width}}  {', '.join(label_columns(label))}: {about}",
        *notes(rows, {*columns.values(), *label_columns(label)}, group),
    ]
    text = recipe_text(seen[0], task, options, found, *length_of(len(train), has_video))
    return FirstRecipe(text, seen)


def some_values(rows: Dataset, column: str, count: int = LOOKED_AT) -> list[Any]:
    """At most `count` values of a column that are not None, evenly spaced over the rows."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    values = [value for value in rows.select(chosen).with_format(None)[column] if value is not None]
    return values or [value for value in rows.with_format(None)[column] if value is not None][:count]


def check_label(rows: Dataset, label: str) -> None:
    """Raises ValueError if some rows of a float label have none, which would make numbers of a table's classes too."""
    kind = field_of(rows.features, label)
    if isinstance(kind, Value) and "float" in kind.dtype:
        missing = [row for row, value in enumerate(column_values(rows, label)) if value is None or np.isnan(value)]
        if missing:
            raise ValueError(
                f"Expected the label {label!r} in every row, found none in {len(missing)}: {shortened(missing)}. Drop "
                "them."
            )


def label_task(train: Dataset, label: Label) -> tuple[str, str]:
    """The task that labels are of, and what they are, in words.

    Raises:
        ValueError: all rows have the same label, or nearly each a class of its own.
    """
    feature, labels = train.features["labels"], train["labels"][:]
    several = isinstance(feature, List) and isinstance(feature.feature, ClassLabel)
    if not several and not isinstance(feature, ClassLabel):
        numbers = np.asarray(labels, dtype=float).reshape(len(labels), -1)
        if not np.ptp(numbers, axis=0).all():
            raise ValueError(f"Expected different numbers in {label!r}, found {labels[0]} everywhere. Choose another.")
        of_each = f"{numbers.shape[1]} numbers a row" if numbers.shape[1] > 1 else "numbers"
        about = f"{of_each} from {numbers.min():.4g} to {numbers.max():.4g}, the mean is {numbers.mean():.4g}"
        return "regression", about
    counts = Counter(number for own in labels for number in own) if several else Counter(labels)
    names = (feature.feature if several else feature).names
    if len(counts) < (1 if several else 2) or len(counts) > len(train) / 2:
        or_numbers = ", or --numbers" if all(name.lstrip("-").isdigit() for name in names) else ""
        raise ValueError(
            f"Expected a label with at least two classes, each in several rows, found {len(counts)} different values "
            f"of {label!r} in {len(train)} rows: {shortened(names)}. Choose another column{or_numbers}."
        )
    share = max(counts.values()) / len(train)
    if several:
        return "multi_label_classification", f"{len(names)} labels, the most frequent is that of {share:.0%} of train"
    return "classification", f"{len(counts)} classes, the largest is {share:.0%} of train"


def length_of(rows: int, has_video: bool) -> tuple[int, int]:
    """Batch size and epochs for a number of training rows: about STEPS steps, smaller batches of few rows or videos.

    Example:
        >>> length_of(3000, False), length_of(100, False)
        ((32, 7), (8, 30))
    """
    batch = 32
    while batch > 8 and (batch * 12 > rows or (has_video and batch > 16)):
        batch //= 2
    return batch, int(np.clip(-(-STEPS * batch // rows), *EPOCHS))


def notes(rows: Dataset, used: set[str], group: str | None) -> list[str]:
    """What the columns that are not used may be good for."""
    others = [column for column in rows.features if column not in used]
    found = []
    groups = [column for column in others if any(word in column.lower() for word in GROUPS)]
    if group is None and groups:
        found.append(f"  rows of one {groups[0]} can be in several splits; --group {groups[0]} keeps them together")
    if "split" in others:
        found.append("  the column 'split' is not used: write a file for each split, and give them as --data_files")
    return found


def recipe_text(
    about: str, task: str, options: Mapping[str, Any], found: Mapping[str, Fitting], batch: int, epochs: int
) -> str:
    """The YAML of a recipe with comments.

    Args:
        about: a line about the data.
        task: what is predicted.
        options: of `from_columns`.
        found: what fits each modality.
        batch, epochs: of the training.
    """
    comments = {
        "modalities": "column of each modality",
        "types": "what the files are whose names these columns hold",
        "media_dir": "which the files' names are relative to",
        "validation_fraction": "held out of train, as there is no such split",
        "test_fraction": "the same; what has the same `group: COLUMN` stays in one split",
    }
    is_default = task == "classification"
    lines = [f"# {about}", *([] if is_default else [f"task: {task}"]), "dataset: from_columns", "dataset_options:"]
    for option, value in options.items():
        comment = f" # {comments[option]}" if option in comments else ""
        lines.append(f"  {option}: {flow(value)}{comment}")
    lines.append("processors: # from a column to tensors")
    for modality, fit in found.items():
        lines += [f"  # {fit.text}", f"  {modality}: {flow(fit.processor)}"]
    lines.append("modalities: # an encoder each, small and untrained")
    for modality, fit in found.items():
        lines.append(f"  {modality}: {flow(fit.encoder)}")
    lines += [f"  # {hint}" for hint in hints(found)]
    if len(found) > 1 and task == "regression":
        lines.append("fusion: average_logits # the shares of a sum do not predict by themselves")
    if len(found) > 1:
        lines.append("modulations: {opm: {}} # holds the dominant modality back; {} trains without")
    return "\n".join(lines) + TRAINING.format(batch=batch, epochs=epochs)


TRAINING = """
optim: adamw_torch # OGM needs sgd: Adam divides its scale away
learning_rate: 1e-3
lr_scheduler_type: cosine
weight_decay: 1e-2
num_train_epochs: {epochs}
per_device_train_batch_size: {batch}
per_device_eval_batch_size: 64
logging_strategy: epoch
eval_strategy: epoch
# on_error: mask # a file that cannot be read counts as an absent modality instead of ending the training
"""


def hints(found: Mapping[str, Fitting]) -> list[str]:
    """Larger encoders in place of the small ones, where there are such."""
    kinds = {fit.processor["type"] for fit in found.values()}
    result = []
    if kinds & {"frames", "video"}:
        result.append("pictures, pretrained: {type: timm, architecture: resnet18, pretrained: true}, size: 224 above")
    if "words" in kinds:
        result.append("text, pretrained: {type: transformers, model: bert-base-uncased, pretrained: true} and above ")
        result[-1] += "{type: tokens, tokenizer: bert-base-uncased}"
    return result


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10000)
    return text.removesuffix("...\n").strip()
