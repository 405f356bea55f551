"""How the models of all tasks begin, are saved and loaded: as transformers models, by config."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from ..ground.repository_code import own_code_only
from .bare_card import replace_blank_card
from .checkpointing import transformers_models
from .configuration_multimodal import ModalitiesConfig, MultimodalConfig

# What PEFT, torch.compile and torch's parametrizations put into a parameter's name:
RENAMED = {"base_layer", "base_model", "original_module", "_orig_mod", "parametrizations"}


def indivisible_modules(model: nn.Module) -> set[str]:
    """Class names of the blocks in `model` that a device map or FSDP keeps whole: what its transformers encoders name,
    and torch's transformer layers."""
    named = set().union(*(m._no_split_modules or () for m in model.modules() if isinstance(m, PreTrainedModel)))
    return (named | {"TransformerEncoderLayer"}) & {type(module).__name__ for module in model.modules()}


def check_weights_not_renamed(kind: str, names: Iterable[str]) -> None:
    """Raises ValueError if weights in a file have the names that something put into the model had given them.

    Args:
        kind: the class.
        names: of the weights in the file that the model does not have.
    """
    for name in names:
        if RENAMED & set(name.split(".")):
            raise ValueError(
                f"The weights were saved with a PEFT adapter, compiled module or parametrization inside the model: "
                f"they hold {name!r}, which {kind} does not have, so its own would stay random. Build the model as it "
                "was, load_state_dict the file, merge or remove what was put in (merge_and_unload), and save it again."
            )


class SavedModel(PreTrainedModel):
    """What a model of any task does as a transformers model, before and after its forward."""

    config_class = MultimodalConfig
    base_model_prefix = "multimodal"
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    # Of the attention implementations, each encoder says itself which it has:
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    encoders: nn.ModuleDict

    def __init__(self, config: ModalitiesConfig):
        self.requested_attention = config._attn_implementation
        super().__init__(config)
        config._attn_implementation = self.requested_attention  # None stays None: each encoder has its own default
        if not config.modalities:
            raise ValueError(
                f"{type(config).__name__}.modalities is empty: give an encoder config per modality, for example "
                "{'audio': {'type': 'timm', 'architecture': 'resnet18', 'in_channels': 1}}."
            )

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As of every transformers model.

        Raises:
            ValueError: the weights were saved with a PEFT adapter or a compiled module inside, under other names.
        """
        model, report = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        check_weights_not_renamed(cls.__name__, report["unexpected_keys"])
        return (model, report) if output_loading_info else model

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in every transformers model; code that came with a repository goes along (see the config)."""
        with own_code_only(type(self)):
            super().save_pretrained(*args, **kwargs)

    def _upload_modified_files(self, working_dir: str, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """What every way of pushing a model ends in: with a card that says something, unless there is one."""
        replace_blank_card(Path(working_dir) / "README.md", self.config, type(self).__name__, repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def _apply_requested(self) -> None:
        """Does what `from_pretrained` and transformers ask of the encoders, once these are built.

        Raises:
            ValueError: an encoder does not have the requested `attn_implementation`.
        """
        for model in transformers_models(self.encoders):
            self._keep_in_fp32_modules.update(model._keep_in_fp32_modules or ())
            self._keep_in_fp32_modules_strict.update(model._keep_in_fp32_modules_strict or ())
        if self.requested_attention is None:
            return
        for name, encoder in self.encoders.items():
            options = self.config.modalities[name]
            if options.get("attn_implementation") is None:
                for model in transformers_models(encoder):
                    try:
                        model.set_attn_implementation(self.requested_attention)
                    except (ImportError, ValueError) as error:
                        raise ValueError(
                            f"attn_implementation {self.requested_attention!r} does not work for the encoder of "
                            f"modality {name!r}: {error} Give this encoder its own in its options, such as "
                            "attn_implementation: eager."
                        ) from error

    def enable_input_require_grads(self) -> None:
        """Does nothing: checkpointing that is not re-entrant needs no gradient of an input. PEFT and transformers ask
        for it."""

    def get_input_embeddings(self) -> None:
        """None: no single embedding represents all modalities. Accelerate asks before it shards a model (FSDP2)."""
        return None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Kaiming normal (fan-out) convolutions, Xavier normal linear layers, as in the authors' code."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            std = getattr(module, "init_std", None)  # of a head's layers, by the config
            if std is None:
                init.xavier_normal_(module.weight)
            else:
                init.normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)
        if hasattr(module, "init_non_persistent_buffers"):  # of some layers of timm
            module.init_non_persistent_buffers()
