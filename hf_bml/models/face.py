"""What trainer, preflight, cards, commands and modulations may ask of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..ground.task import CLASSIFICATION, Task


class ModelFace:
    """Base class with defaults; our models and `BalancedModel` have it, another model is adapted by `face_of`.

    Attributes:
        encoders: per modality its modules, in modality order; their parameters are the paper's theta^m.
        config: None of a model that has none, or one of its own kind, which the Trainer cannot read.
        main_input_name: the column that stands for all inputs, for what the Trainer counts and hands to metrics; a
            model need not have it.
        task: the loss and the score of its predictions.
        gradient_enters_by_features: whether the loss reaches an encoder's parameters only through the feature that
            modulations see.
        can_be_compiled: whether `torch.compile` has an effect.
        auxiliary_heads: classifiers of single modalities; empty if there are none.
        trains_own_heads: whether their losses reach the encoders.
        score_every: in which training steps the modalities are scored, every so many; in the others the trainer passes
            `score_modalities=False`, and the output has no unimodal logits.
        score_fraction: of a training batch's samples that are scored.
    """

    encoders: Mapping[str, nn.Module]
    config: PreTrainedConfig | None
    main_input_name: ClassVar[str] = "input_ids"
    task: ClassVar[Task] = CLASSIFICATION
    gradient_enters_by_features: ClassVar[bool] = True
    can_be_compiled: ClassVar[bool] = True
    trains_own_heads: ClassVar[bool] = False
    score_every: int = 1
    score_fraction: float = 1.0
    auxiliary_heads: Mapping[str, nn.Module]  # no default: it would hide a submodule of this name

    @property
    def input_columns(self) -> list[str]:
        """The columns of a dataset that the model reads beside labels."""
        return list(self.encoders)

    @property
    def required_columns(self) -> list[str]:
        """Those of them that every dataset must have."""
        return list(self.encoders)

    @property
    def num_labels(self) -> int:
        """Classes that the model tells apart."""
        return self.config.num_labels

    @property
    def other_loss(self) -> str | None:
        """The config's option that names another loss than the cross-entropy, `"name: value"`; None if none does."""
        return None

    def standardise_labels(self, mean: list[float], std: list[float]) -> None:
        """Takes the mean and standard deviation of the labels of a regression to train on, unless it has others; a
        model that predicts in the labels' units by itself needs none.

        Args:
            mean: `num_labels` numbers.
            std: the same, > 0.
        """

    @property
    def wrapped_model(self) -> nn.Module | None:
        """The model that is saved in the place of this one; None if it is this one."""
        return None

    @property
    def balance_arguments(self) -> dict[str, Any] | None:
        """What wraps `wrapped_model` again in the same way; None if there is none."""
        return None

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that predict from the features; they belong to no modality."""
        owners = [*self.encoders.values(), *self.auxiliary_heads.values()]
        owned = {id(parameter) for owner in owners for parameter in owner.parameters()}
        return [p for p in self.parameters() if id(p) not in owned]

    def parameter_groups(self, with_head: bool) -> dict[str, list[nn.Parameter]]:
        """The parameters of every modality's encoder, `head` if it is asked for, and the rest, `shared`."""
        groups = {name: list(encoder.parameters()) for name, encoder in self.encoders.items()}
        if with_head:
            groups["head"] = self.head_parameters()
        taken = {id(parameter) for group in groups.values() for parameter in group}
        return {**groups, "shared": [p for p in self.parameters() if id(p) not in taken]}

    def own_feature(self, modality: str, feature: Any) -> Any:
        """The part of a modality's features `(batch, ...)` that its own classifier sees."""
        return feature

    def shares_when_absent(self) -> dict[str, Tensor] | None:
        """Per modality its share `(num_labels,)` of the joint logits of a sample that lacks it; None unless the
        modalities' own predictions are their shares, which sum to the joint logits."""
        return None

    def why_not_fuse(self) -> str | None:
        """Why the joint prediction is not a function of the modalities' features; None if it is."""
        return None

    def why_no_head_graph(self) -> str | None:
        """Why a modality's share of the joint head cannot be trained; None if it can."""
        return self.why_not_fuse()

    def why_no_exact_split(self) -> str | None:
        """Why the joint logits are not the sum of the modalities' shares of the joint head; None if they are."""
        return (
            "Its logits must be the sum of what it makes of each modality. Use fusion: concat without "
            "head_hidden_sizes, sum, bounded, cosine, or shared with shared_prediction: sum."
        )

    def why_no_checkpointing(self) -> str | None:
        """Why activation checkpointing cannot be turned on; None if it can."""
        return None

    def why_no_unimodal_graph(self) -> str | None:
        """Why a modality's own prediction cannot have a graph; None if it can."""
        return None if self.trains_own_heads else self.why_no_head_graph()


class AdaptedModel(ModelFace):
    """The face of a user's own model, which has `encoders` and takes the trainer's `modulation`.

    Args:
        model: with `encoders`, a mapping from modality to module; what else of [`ModelFace`] it has is used.
    """

    # attributes, not properties:
    input_columns = required_columns = other_loss = wrapped_model = balance_arguments = None

    def __init__(self, model: nn.Module):
        def own(name: str, default: Any = None) -> Any:
            return getattr(model, name, default)  # the one place where a model is probed

        self._model, self.encoders, self.parameters = model, model.encoders, model.parameters
        self.config = own("config") if isinstance(own("config"), PreTrainedConfig) else None
        self.main_input_name = own("main_input_name", self.main_input_name)
        self.task = own("task", self.task)
        self.gradient_enters_by_features = own("gradient_enters_by_features", self.gradient_enters_by_features)
        self.can_be_compiled = own("can_be_compiled", self.can_be_compiled)
        self.auxiliary_heads = own("auxiliary_heads", {})
        self.input_columns = own("input_columns", list(model.encoders))
        self.required_columns = own("required_columns", self.input_columns)
        self.other_loss, self.wrapped_model = own("other_loss"), own("wrapped_model")
        self.balance_arguments, self._num_labels = own("balance_arguments"), own("num_labels")
        self.trains_own_heads = own("trains_own_heads", self.trains_own_heads)
        self.why_not_fuse = own("why_not_fuse", self.why_not_fuse)
        self.why_no_head_graph = own("why_no_head_graph", self.why_no_head_graph)
        self.why_no_exact_split = own("why_no_exact_split", self.why_no_exact_split)
        self.why_no_unimodal_graph = own("why_no_unimodal_graph", self.why_no_unimodal_graph)
        self.why_no_checkpointing = own("why_no_checkpointing", self.why_no_checkpointing)
        if not (own("activation_checkpointing_enable") or own("gradient_checkpointing_enable")):
            self.why_no_checkpointing = lambda: (
                f"{type(model).__name__} has no method activation_checkpointing_enable("
                "activation_checkpointing_kwargs, every_n_layers, offload). Write it, or leave it out."
            )

    @property
    def num_labels(self) -> int:
        return self._model.config.num_labels if self._num_labels is None else self._num_labels


def face_of(model: nn.Module) -> ModelFace:
    """The face of a model: itself if it declares one, else the parts it has, with defaults for the rest.

    Raises:
        TypeError: the model has no encoders by modality.
    """
    if isinstance(model, ModelFace):
        return model
    if not isinstance(getattr(model, "encoders", None), Mapping | nn.ModuleDict):
        raise TypeError(
            "MultimodalBalancedTrainer needs a model with `encoders`, a mapping from modality to encoder, such as "
            f"MultimodalForClassification; found {type(model).__name__}. Wrap a model of another kind: "
            "balance(model, modalities={'vision': 'path.of.its.encoder', ...})."
        )
    return AdaptedModel(model)


def modality_names(model: nn.Module) -> Sequence[str]:
    """The model's modalities in its order."""
    return tuple(face_of(model).encoders)
