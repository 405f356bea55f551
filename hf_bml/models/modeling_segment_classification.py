"""Models that label every segment of a clip, such as the seconds of AVE (paper Table 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ..ground.task import CLASSIFICATION, Task
from .configuration_segment_classification import SegmentClassificationConfig
from .encoders.lstm import RecurrentLayer
from .forward_view import call_detached
from .fusion import drop_features
from .interaction.base import call
from .modeling_multimodal import MultimodalClassifierOutput
from .precision import full_precision_scores
from .prediction import Prediction
from .pretrained import MultimodalPreTrainedModel, Pass
from .segments import SEGMENT_ARCHITECTURES
from .segments.inputs import build_segment_input
from .segments.losses import EverySegmentTask, SoftMarginTask, pair_similarity_loss

SOFT_MARGIN = SoftMarginTask()


@dataclass
class SegmentClassifierOutput(MultimodalClassifierOutput):
    """Output of [`MultimodalForSegmentClassification`]: that of a classifier with a segment axis.

    Args:
        loss: the mean over all segments, a scalar, when labels are given; in training with the auxiliary heads' part.
        logits: `(batch, segments, num_labels)`; the last class is the background.
        unimodal_logits: per modality `(batch, segments, num_labels)`, what that modality alone predicts; detached,
            float32.
        features: per modality `(batch, segments, dim)`, the input of its recurrent layers without modulation.
        auxiliary_logits: per modality `(batch, segments, num_labels)` of its own classifier, if the model has such.
        keep_mask: bool `(batch, modalities)`, the modalities that reached the recurrent layers.
        modality_mask: bool `(batch, modalities)`, the modalities the samples have; None if no sample lacks one.
        losses: as of a classifier.
    """


class MultimodalForSegmentClassification(MultimodalPreTrainedModel):
    """Labels every segment of a clip with an event class or as background; balancing as in the classifier.

    A modality is scored by zero-out at the input of the recurrent layers, over all segments, background included:
    `S^m = sum_i sum_t softmax(logits^m_it)[y_it]`. A modality that is dropped or that a sample lacks is zero there for
    the whole clip. `encoders[name]` holds all that lies before the modalities meet for good, recurrent layers included
    (see `models/segments`).

    A modality's input is features `(batch, segments, dim)`, `(batch, segments, positions, dim)` or `(batch, segments,
    height, width, dim)`; the main input of an encoder, `(batch, segments, ...)`; a dict of keywords; or None when
    every sample lacks it. Labels are class indices `(batch, segments)`.

    Args:
        config: with the modalities that its architecture needs.

    Raises:
        ValueError: no modality, or an encoder that cannot be built.

    Example:

    ```python
    >>> import torch
    >>> from hf_bml import MultimodalForSegmentClassification, SegmentClassificationConfig
    >>> config = SegmentClassificationConfig(
    ...     modalities={
    ...         "audio": {"type": "features", "input_size": 128},
    ...         "visual": {"type": "features", "input_size": 512},
    ...     },
    ...     num_labels=29,
    ... )
    >>> model = MultimodalForSegmentClassification(config)
    >>> audio, visual = torch.randn(2, 10, 128), torch.randn(2, 10, 7, 7, 512)
    >>> output = model(audio=audio, visual=visual, labels=torch.full((2, 10), 28))
    >>> output.logits.shape, output.unimodal_logits["audio"].shape
    (torch.Size([2, 10, 29]), torch.Size([2, 10, 29]))

    ```
    """

    config_class = SegmentClassificationConfig
    output_class = SegmentClassifierOutput
    gradient_enters_by_features = False  # recurrent layers lie behind the feature, and a guide acts before another's

    def __init__(self, config: SegmentClassificationConfig):
        super().__init__(config)
        architecture_class = SEGMENT_ARCHITECTURES[config.architecture]
        options, names = config.architecture_config, list(config.modalities)
        with_positions = architecture_class.uses_positions(options, names)
        inputs = {
            name: build_segment_input(name, encoder, name in with_positions)
            for name, encoder in config.modalities.items()
        }
        self.architecture = architecture_class(inputs, options, config.num_labels)
        self.encoders = nn.ModuleDict(
            {name: self.architecture.build_encoder(name, module) for name, module in inputs.items()}
        )
        self._complete(dict.fromkeys(names, self.architecture.own_size))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Xavier uniform linear layers and torch's own recurrent layers, as in AVGA's and PSP's published code."""
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, RecurrentLayer):
            bound = module.hidden_size**-0.5
            for parameter in module.parameters():
                init.uniform_(parameter, -bound, bound)

    def _build_task(self) -> Task:
        """What the segments' losses are; PSP's similarity of branches is added to the joint one."""
        if self.config.segment_loss == "soft_margin":
            return SOFT_MARGIN
        if self.config.segment_loss == "pair_similarity":
            return EverySegmentTask(**self.config.loss_options)
        return super()._build_task()

    @property
    def _own_task(self) -> Task:
        return CLASSIFICATION if self.config.segment_loss == "soft_margin" else self.task

    @property
    def other_loss(self) -> str | None:
        loss = self.config.segment_loss
        return None if loss == "cross_entropy" else f"segment_loss: {loss}"

    def _start(self, name: str, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """A modality's segments `(batch, segments, [positions,] dim)`."""
        return call(self.encoders[name].input, inputs)

    def _look(self, started: dict[str, Tensor | None], modality_mask: Tensor | None, labels: Tensor | None) -> Pass:
        shape = self._check_segments(started, labels)
        presence = {}
        if modality_mask is not None:
            presence = dict(zip(self.encoders, modality_mask.unbind(1), strict=True))
        own_logits = self._classified(started, modality_mask, shape)
        features = self.architecture.features(self.encoders, started, presence)
        features = self._filled(features, self.architecture.sizes, modality_mask, shape)
        return Pass(started, modality_mask, features, own_logits=own_logits)

    def _predict(
        self, current: Pass, seen: dict[str, Tensor], keep_mask: Tensor | None, detached: bool = False
    ) -> Prediction:
        if detached:
            return call_detached(self.architecture, self.encoders, seen)
        return self.architecture(self.encoders, seen)

    def _joint_loss(self, prediction: Prediction, labels: Tensor, weights: Tensor | None) -> Tensor:
        loss = super()._joint_loss(prediction, labels, weights)
        if self.config.segment_loss != "pair_similarity":
            return loss
        background = prediction.logits.shape[-1] - 1
        pair = pair_similarity_loss(*prediction.branches.values(), labels, background)
        return loss + self.architecture.options.similarity_weight * pair

    def _check_segments(self, inputs: dict[str, Tensor | None], labels: Tensor | None) -> tuple[int, int]:
        """`(batch, segments)`, the same for all modalities and the labels."""
        shapes = {name: tuple(values.shape[:2]) for name, values in inputs.items() if values is not None}
        shape = next(iter(shapes.values()))
        if labels is not None:
            shapes["labels"] = tuple(labels.shape)
        if any(each != shape for each in shapes.values()):
            raise ValueError(
                f"all modalities and the labels must have one (batch, segments), found {shapes}. Cut the inputs into "
                "as many segments as there are labels per clip."
            )
        return shape

    def _filled(
        self,
        features: dict[str, Tensor | None],
        sizes: dict[str, int],
        modality_mask: Tensor | None,
        shape: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Per modality `(batch, segments, sizes[m])`, with zeros for what is absent."""
        example = next(feature for feature in features.values() if feature is not None)
        filled = {
            name: example.new_zeros(*shape, sizes[name]) if feature is None else feature
            for name, feature in features.items()
        }
        return filled if modality_mask is None else drop_features(filled, modality_mask)

    def _classified(
        self, started: dict[str, Tensor | None], modality_mask: Tensor | None, shape: tuple[int, int]
    ) -> dict[str, Tensor]:
        """What each modality's own classifier predicts, `(batch, segments, num_labels)`."""
        if not self.auxiliary_heads:
            return {}
        states = {
            name: None if values is None else self.architecture.alone(self.encoders, name, values)
            for name, values in started.items()
        }
        states = self._filled(states, dict.fromkeys(states, self.architecture.own_size), modality_mask, shape)
        return {name: head(states[name]) for name, head in self.auxiliary_heads.items()}

    def _score(self, current: Pass) -> dict[str, Tensor]:
        def predict(features: dict[str, Tensor]) -> dict[str, Tensor]:
            return self.architecture.zero_out_logits(self.encoders, features)

        return full_precision_scores(predict, current.shown, next(self.architecture.parameters()).dtype)

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.architecture.parameters())
