"""Configuration of a multimodal model: one encoder config per modality, how they are fused, what is predicted."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig

from ..ground.repository_code import keep_code, own_code_only
from ..ground.suggestion import check_name, registered_names_only
from ..ground.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from .encoders.build import build_encoder_config
from .fusion import FUSIONS, SHARED_PREDICTIONS
from .interaction import INTERACTIONS
from .options import (
    check_flag,
    check_fraction,
    check_positive,
    check_size,
    check_weight,
    chosen_options,
    is_number,
    number_list,
    size_list,
)

# What `save_code` writes. A registered class needs no code from a repository, and a model that is loaded with it and
# saved elsewhere would not take that code along.
REPOSITORY_CODE = ("auto_map", "custom_pipelines")
FORWARD_KEYWORDS = ("self", "labels", "modality_mask", "modulation", "sample_weight")


def option(default: Any, help: str) -> Any:
    """A field that recipes and the command line take as a model option, too."""
    return field(default=default, metadata={"help": help})


def options_by_name(owners: Mapping[str, Any]) -> str:
    """`mmtm: stages, ratio; ...`, the options of everything that has an `options_class`."""
    named = {name: [f.name for f in fields(owner.options_class)] for name, owner in owners.items()}
    return "; ".join(f"{name}: {', '.join(names)}" for name, names in named.items())


def check_modality_name(name: Any) -> None:
    """A modality is a keyword of the model's forward and a key of an `nn.ModuleDict`.

    Raises:
        ValueError: `name` cannot be both.
    """
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        reason = "it is not a Python identifier (letters, digits and _, no keyword)"
    elif name in FORWARD_KEYWORDS:
        reason = "the model's forward uses this keyword"
    elif name in dir(nn.ModuleDict()):
        reason = "torch.nn.ModuleDict has an attribute of this name"
    else:
        return
    raise ValueError(
        f"{name!r} cannot be the name of a modality: {reason}. Rename it, to 'audio' or 'my_audio' for example."
    )


class ModalitiesConfig(PreTrainedConfig):
    """What the configs of all tasks share: an encoder config per modality, in an order.

    Args:
        modalities (`dict[str, dict]`): encoder config per modality. The order is the modality order everywhere.
        modality_order (`list[str]`, *optional*): the names of `modalities` in that order; kept because `config.json`
            sorts its keys.
        auxiliary_loss_weight (`float`, *optional*): gives every modality a classifier of its own, and adds this times
            their summed losses to the training loss.
        own_head_when_alone (`bool`): whether, in evaluation, the answer comes from a modality's own classifier where a
            sample has no other modality; needs `auxiliary_loss_weight`.
        class_weights (`list[float]`, *optional*): what the loss of each class is multiplied by, `num_labels` numbers
            of at least 0; with several labels a sample, that of their "yes". The mean divides by the number of
            samples, not by the sum of the weights.

    Raises:
        ValueError: a modality's name or encoder config is not valid, a weight is negative, there are no own
            classifiers to answer, or the models of this config do not solve this `problem_type`.
    """

    problem_types: ClassVar[tuple[str, ...]] = (SINGLE_LABEL,)

    keys_to_ignore_at_inference: ClassVar[list[str]] = ["features", "modality_mask", "auxiliary_logits"]

    modalities: dict[str, Any] | None = option(
        None, "Encoder config per modality, each with a `type` and its options; the order counts."
    )
    modality_order: list[str] | None = None
    auxiliary_loss_weight: float | None = option(
        None, "Adds a classifier per modality and this times their losses; 0 adds them without a loss."
    )
    own_head_when_alone: bool = option(
        False, "In evaluation a modality's own classifier answers where a sample has no other modality."
    )
    class_weights: list[float] | None = option(
        None, "What the loss of each class is multiplied by; with several labels a sample, that of their yes."
    )

    def __post_init__(self, **kwargs: Any) -> None:
        encoders = {} if self.modalities is None else self.modalities
        if not isinstance(encoders, Mapping):
            raise ValueError(
                f"modalities must be a dict of an encoder config per modality, found {encoders!r}. "
                "For example {'audio': {'type': 'conv', 'in_channels': 1}}."
            )
        for name in encoders:
            check_modality_name(name)
        order = self.modality_order or list(encoders)
        if not isinstance(order, Sequence) or sorted(map(str, order)) != sorted(encoders):
            raise ValueError(f"modality_order must hold the names of modalities {list(encoders)}, found {order!r}.")
        self.modality_order = list(order)
        self.modalities = {name: self.complete_encoder(name, encoders[name]) for name in order}
        if self.auxiliary_loss_weight is not None:
            check_weight("auxiliary_loss_weight", self.auxiliary_loss_weight)
        check_flag("own_head_when_alone", self.own_head_when_alone)
        if self.own_head_when_alone and self.auxiliary_loss_weight is None:
            raise ValueError(
                "own_head_when_alone needs a classifier per modality, found auxiliary_loss_weight=None. Set "
                "auxiliary_loss_weight, to 0 where a modulation weighs their losses."
            )
        if self.model_type in CONFIG_MAPPING and CONFIG_MAPPING[self.model_type] is type(self):
            for name in REPOSITORY_CODE:
                kwargs.pop(name, None)
        super().__post_init__(**kwargs)
        if self.problem_type not in (None, *self.problem_types):
            raise ValueError(
                f"problem_type must be {' or '.join(self.problem_types)}, or left out, found {self.problem_type!r}: "
                f"the models of a {type(self).__name__} solve no other."
            )
        if self.class_weights is not None:
            self.class_weights = number_list("class_weights", self.class_weights, self.num_labels)
            if self.problem_type == REGRESSION or min(self.class_weights) < 0:
                raise ValueError(
                    f"class_weights must be numbers of at least 0, of classes, found {self.class_weights} and "
                    f"problem_type {self.problem_type!r}. Leave them out, or weigh samples by a column sample_weight."
                )

    @property
    def loss_options(self) -> dict[str, Any]:
        """What makes the task that `problem_type` names."""
        return {"class_weights": self.class_weights}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in every transformers config; what a file names is not imported (see `Registry`)."""
        with registered_names_only():
            return super().from_dict(config_dict, **kwargs)

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """As in every transformers config; of one that came with code from a repository, all of it goes along."""
        with own_code_only(type(self)) as came_with_repository:
            super().save_pretrained(save_directory, *args, **kwargs)
        if came_with_repository:
            classes, pipelines = (vars(self).get(name, {}).values() for name in REPOSITORY_CODE)
            references = [*classes, *(pipeline["impl"] for pipeline in pipelines)]
            keep_code(type(self), references, self._name_or_path, save_directory)

    def complete_encoder(self, modality: str, options: Any) -> dict[str, Any]:
        """One modality's encoder config, checked, with its defaults filled in."""
        encoder = build_encoder_config(modality, options)
        return {"type": options["type"], **asdict(encoder)}


class MultimodalConfig(ModalitiesConfig):
    r"""Configuration of [`MultimodalForClassification`].

    Usage: `modalities: {audio: {type: conv, in_channels: 1}, visual: {type: conv, in_channels: 3}}, fusion: concat`

    Args:
        modalities (`dict[str, dict]`): encoder config per modality, each with a `type` (a key of `ENCODERS`, or
            `package.module:Name` of your own, see [`Encoder`]) and that type's options. The order is the modality
            order everywhere.
        modality_order (`list[str]`, *optional*): the names of `modalities` in that order; kept because `config.json`
            sorts its keys.
        fusion (`str`): `"concat"`, `"sum"`, `"bounded"`, `"cosine"`, `"shared"`, `"film"`, `"gated"`, `"product"`,
            `"average_logits"`, `"average_probabilities"`, or `package.module:Name` of your own (see [`FusionHead`]).
        conditioning (`str`, *optional*): the modality that conditions the others in `film` and `gated`; default the
            first.
        interaction (`str`, *optional*): what the encoders exchange before fusion: `"centralnet"`, `"mmtm"` or
            `"cross_attention"`; default nothing.
        interaction_options (`dict`, *optional*): options of the interaction; see its options class.
        head_hidden_sizes (`list[int]`): hidden layers of the head; empty for a linear head.
        head_dropout (`float`): dropout before every layer of the head, in [0, 1).
        head_init_std (`float`, *optional*): the head's weights start from N(0, head_init_std^2), as TSN's classifier
            with 0.001; default Xavier normal.
        bias_split (`dict[str, float]`, *optional*): the share of the linear concat head's bias that counts for each
            modality's own prediction (paper Table 14); default 1 / modalities.
        logit_bound (`float`): of `fusion: bounded`, tau: the length that no modality's logits reach, > 0.
        cosine_scale (`float`): of `fusion: cosine`, s: what the cosines are multiplied by, > 0.
        shared_prediction (`str`): of `fusion: shared`: `"mean"`, `"sum"` or `"entropy"`, see [`SharedHead`].
        shared_width (`int`, *optional*): of `fusion: shared`: the size to which features of another size are
            projected; default the largest.
        unimodal_prediction (`str`): how a modality's own prediction is estimated. `"auto"`: the exact split where the
            head has one, else zero-out; `"zero_out"`; `"probe"`: a linear head per modality that learns on the
            detached feature beside the training, or the modality's own classifier where `auxiliary_loss_weight` gives
            it one. A probe's cross-entropy is part of the training loss; its gradient counts when gradients are
            clipped by their norm.
        auxiliary_loss_weight (`float`, *optional*): gives every modality a classifier of its own on its feature, and
            adds this times their summed cross-entropies to the training loss. 0 keeps the heads out of the loss, for
            modulations that weigh them. Default: no such heads.
        own_head_when_alone (`bool`), class_weights (`list[float]`, *optional*): see [`ModalitiesConfig`].
        problem_type (`str`, *optional*): `"single_label_classification"` (default), `"multi_label_classification"`
            (labels: floats (batch, num_labels), 0 or 1) or `"regression"` (labels: floats (batch,) or (batch,
            num_labels)); see [`Task`], [`MultiLabelTask`] and [`RegressionTask`].
        label_mean, label_std (`list[float]`, *optional*): of a regression's labels, `num_labels` numbers each. The
            heads then predict in standard deviations from the mean, which the loss is in; logits are in the labels'
            units all the same. The trainer sets them by a `datasets.Dataset` to train on where they are left out.
        num_labels, id2label, label2id: as in every transformers config.

    Example:

    ```python
    >>> from hf_bml import MultimodalConfig
    >>> config = MultimodalConfig(
    ...     modalities={
    ...         "audio": {"type": "timm", "architecture": "resnet18", "in_channels": 1},
    ...         "visual": {"type": "timm", "architecture": "resnet18", "in_channels": 3},
    ...     },
    ...     num_labels=6,
    ... )
    >>> list(config.modalities)
    ['audio', 'visual']

    ```
    """

    model_type = "multimodal"
    problem_types = (SINGLE_LABEL, MULTI_LABEL, REGRESSION)

    fusion: str = option("concat", f"Fusion head: {', '.join(FUSIONS)}.")
    conditioning: str | None = option(
        None, "The modality that conditions the others in film and gated; default the first."
    )
    interaction: str | None = option(None, f"What the encoders exchange before fusion: {', '.join(INTERACTIONS)}.")
    interaction_options: dict[str, Any] | None = option(
        None, f"Options of the interaction ({options_by_name(INTERACTIONS)})."
    )
    head_hidden_sizes: list[int] | None = option(None, "Hidden layer sizes of the head; none for a linear head.")
    head_dropout: float = option(0.0, "Dropout before every layer of the head, in [0, 1).")
    head_init_std: float | None = option(
        None, "Standard deviation of the head's initial weights; TSN 0.001; default Xavier."
    )
    bias_split: dict[str, float] | None = option(
        None, "Share of the linear head's bias per modality in its own prediction."
    )
    logit_bound: float = option(5.0, "Of fusion bounded: the length that no modality's logits reach, > 0.")
    cosine_scale: float = option(10.0, "Of fusion cosine: what the cosines are multiplied by, > 0.")
    shared_prediction: str = option(
        "mean", f"Of fusion shared: how the modalities' logits are joined: {', '.join(SHARED_PREDICTIONS)}."
    )
    shared_width: int | None = option(
        None, "Of fusion shared: size to which features of another size are projected; default the largest."
    )
    unimodal_prediction: str = option(
        "auto",
        "How a modality's own prediction is estimated: auto (exact split, else zero_out), zero_out, or probe, a "
        "linear head beside the training.",
    )
    label_mean: list[float] | None = option(None, "Of a regression's labels; default those of the training split.")
    label_std: list[float] | None = option(None, "Their standard deviations; default those of the training split.")

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self._check_fusion()
        self._check_interaction()
        check_name("unimodal_prediction", self.unimodal_prediction, ("auto", "zero_out", "probe"))
        self.head_hidden_sizes = size_list(
            "head_hidden_sizes", [] if self.head_hidden_sizes is None else self.head_hidden_sizes
        )
        check_fraction("head_dropout", self.head_dropout)
        self.head_dropout = float(self.head_dropout)
        if self.head_init_std is not None:
            check_positive("head_init_std", self.head_init_std)
        check_positive("logit_bound", self.logit_bound)
        check_positive("cosine_scale", self.cosine_scale)
        check_name("shared_prediction", self.shared_prediction, SHARED_PREDICTIONS)
        if self.shared_width is not None:
            check_size("shared_width", self.shared_width)
        if self.bias_split is not None:
            self._check_bias_split()
        self._check_problem()

    @property
    def loss_options(self) -> dict[str, Any]:
        if self.problem_type == REGRESSION:
            return {"mean": self.label_mean, "std": self.label_std}
        return super().loss_options

    def _check_problem(self) -> None:
        """What only one class out of several has, and what only numbers have."""
        scale = {"label_mean": self.label_mean, "label_std": self.label_std}
        given = [name for name, values in scale.items() if values is not None]
        if given and (self.problem_type != REGRESSION or len(given) == 1):
            raise ValueError(
                f"label_mean and label_std belong together and to problem_type: regression, found {given} and "
                f"problem_type {self.problem_type!r}. Give both or none."
            )
        for name in given:
            setattr(self, name, number_list(name, scale[name], self.num_labels))
        if self.label_std is not None and min(self.label_std) <= 0:
            raise ValueError(f"label_std must be above 0, found {self.label_std}: a constant label needs no model.")
        of_classes = self.fusion == "average_probabilities" or (
            self.fusion == "shared" and self.shared_prediction == "entropy"
        )
        if of_classes and self.problem_type in (MULTI_LABEL, REGRESSION):
            raise ValueError(
                f"fusion {self.fusion!r} joins the probabilities of one class out of several"
                f"{' (shared_prediction: entropy)' if self.fusion == 'shared' else ''}, which problem_type "
                f"{self.problem_type!r} does not have. Use fusion: average_logits, or shared_prediction: mean."
            )

    def _check_fusion(self) -> None:
        head = FUSIONS.find(self.fusion)
        if len(self.modalities) == 1 and head.joins_several:
            raise ValueError(
                f"fusion {self.fusion!r} joins two or more modalities, found only {list(self.modalities)}. "
                "Use 'concat' for a single one."
            )
        if self.conditioning is not None:
            if not head.takes_conditioning:
                raise ValueError(f"conditioning applies to the fusions film and gated, found fusion={self.fusion!r}.")
            check_name("conditioning", self.conditioning, self.modalities)

    def _check_interaction(self) -> None:
        if self.interaction is None:
            if self.interaction_options:
                raise ValueError(f"interaction_options {self.interaction_options!r} need an `interaction`.")
            return
        check_name("interaction", self.interaction, INTERACTIONS)
        interaction = INTERACTIONS[self.interaction]
        if len(self.modalities) < 2:
            raise ValueError(
                f"interaction {self.interaction!r} joins two or more modalities, found only {list(self.modalities)}. "
                "Leave it out for a single one."
            )
        self.interaction_options = asdict(self.interaction_config)
        if self.auxiliary_loss_weight is not None and not interaction.features_are_unimodal:
            raise ValueError(
                "auxiliary_loss_weight needs a feature per modality that no other one has touched, which interaction "
                f"{self.interaction!r} does not leave. Use unimodal_prediction: probe, or another interaction."
            )
        if interaction.has_own_head and (self.fusion != "concat" or self.head_hidden_sizes or self.bias_split):
            raise ValueError(
                f"interaction {self.interaction!r} brings its own head: leave fusion at 'concat', without "
                f"head_hidden_sizes and bias_split; found fusion={self.fusion!r}, "
                f"head_hidden_sizes={self.head_hidden_sizes!r}, bias_split={self.bias_split!r}."
            )

    @property
    def interaction_config(self) -> Any:
        """The options of the interaction as its dataclass; None without interaction."""
        if self.interaction is None:
            return None
        return chosen_options("interaction", self.interaction, INTERACTIONS, self.interaction_options)

    def _check_bias_split(self) -> None:
        split, names = self.bias_split, list(self.modalities)
        if not isinstance(split, Mapping) or set(split) != set(names) or not all(map(is_number, split.values())):
            raise ValueError(f"bias_split must name every modality {names} with a number each, found {split!r}.")
        if self.fusion != "concat" or self.head_hidden_sizes or self.unimodal_prediction != "auto":
            raise ValueError(
                "bias_split applies to the exact split of the linear concat head: fusion='concat', no "
                f"head_hidden_sizes, unimodal_prediction='auto'; found fusion={self.fusion!r}, "
                f"head_hidden_sizes={self.head_hidden_sizes!r}, unimodal_prediction={self.unimodal_prediction!r}."
            )
