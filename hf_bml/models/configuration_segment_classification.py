"""Configuration of a model that labels every segment of a clip."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..ground.suggestion import check_name
from .configuration_multimodal import ModalitiesConfig, option, options_by_name
from .encoders.build import build_encoder_config
from .encoders.image import TimmEncoderConfig
from .options import chosen_options
from .segments import SEGMENT_ARCHITECTURES
from .segments.inputs import SEGMENT_INPUTS
from .segments.losses import SEGMENT_LOSSES


class SegmentClassificationConfig(ModalitiesConfig):
    r"""Configuration of [`MultimodalForSegmentClassification`].

    Usage: `task: segment_classification, architecture: psp,
        modalities: {audio: {type: features, input_size: 128}, visual: {type: features, input_size: 512}}`

    Args:
        modalities (`dict[str, dict]`): per modality what its segments are: `{"type": "features", "input_size": ...}`
            for features that were extracted before, or an encoder config as in [`MultimodalConfig`], whose encoder
            sees each segment by itself. The order is the modality order everywhere.
        modality_order (`list[str]`, *optional*): see [`ModalitiesConfig`].
        architecture (`str`): `"avga"` (default), `"avsdn"` or `"psp"`.
        architecture_options (`dict`, *optional*): options of the architecture; see its options class.
        segment_loss (`str`, *optional*): `"cross_entropy"` (default) of every segment; `"soft_margin"`, which AVGA was
            published with; `"pair_similarity"`, the cross-entropy and PSP's similarity loss, for PSP.
        auxiliary_loss_weight (`float`, *optional*): gives every modality a classifier of its own, which labels the
            segments by what the modality's recurrent layer says when no other modality is there, and adds this times
            their summed cross-entropies to the training loss. 0 keeps them out of the loss, for modulations that weigh
            them. Default: no such heads.
        num_labels, id2label, label2id: as in every transformers config. The last class is the background.

    Raises:
        ValueError: an unknown name or option, or modalities that the architecture is not defined for.

    Example:

    ```python
    >>> from hf_bml import SegmentClassificationConfig
    >>> config = SegmentClassificationConfig(
    ...     modalities={
    ...         "audio": {"type": "features", "input_size": 128},
    ...         "visual": {"type": "features", "input_size": 512},
    ...     },
    ...     architecture="psp",
    ...     architecture_options={"threshold": 0.095},
    ...     num_labels=29,
    ... )
    >>> config.architecture_options["hidden_size"]
    128

    ```
    """

    model_type = "multimodal_segments"

    architecture: str | None = option(
        None, f"What joins the modalities: {', '.join(SEGMENT_ARCHITECTURES)}; default the first."
    )
    architecture_options: dict[str, Any] | None = option(
        None, f"Options of the architecture ({options_by_name(SEGMENT_ARCHITECTURES)})."
    )
    segment_loss: str | None = option(None, f"Loss of the segments: {', '.join(SEGMENT_LOSSES)}; default the first.")

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.architecture = "avga" if self.architecture is None else self.architecture
        check_name("architecture", self.architecture, SEGMENT_ARCHITECTURES)
        self.architecture_options = asdict(self.architecture_config)
        architecture = SEGMENT_ARCHITECTURES[self.architecture]
        if self.modalities:
            try:
                architecture.check(self.architecture_config, list(self.modalities))
            except ValueError as error:
                raise ValueError(f"architecture {self.architecture!r}: {error}") from error
        self.segment_loss = "cross_entropy" if self.segment_loss is None else self.segment_loss
        check_name("segment_loss", self.segment_loss, SEGMENT_LOSSES)
        if self.segment_loss == "soft_margin" and self.class_weights is not None:
            raise ValueError(
                "segment_loss 'soft_margin' does not weigh classes, found class_weights. Leave them out, or use "
                "cross_entropy."
            )
        if self.segment_loss == "pair_similarity" and not architecture.has_branches:
            raise ValueError(
                "segment_loss 'pair_similarity' compares the branches of psp, which architecture "
                f"{self.architecture!r} does not have. Use cross_entropy or soft_margin."
            )

    def complete_encoder(self, modality: str, options: Any) -> dict[str, Any]:
        encoder = build_encoder_config(modality, options, SEGMENT_INPUTS)
        if isinstance(encoder, TimmEncoderConfig) and encoder.temporal_shift:
            raise ValueError(
                f"Encoder of modality {modality!r}: temporal_shift exchanges channels between the frames of a clip, "
                "but here the encoder sees every segment by itself. Leave it out."
            )
        return {"type": options["type"], **asdict(encoder)}

    @property
    def architecture_config(self) -> Any:
        """The options of the architecture as its dataclass."""
        return chosen_options("architecture", self.architecture, SEGMENT_ARCHITECTURES, self.architecture_options)
