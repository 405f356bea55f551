"""`transformers.Trainer` that saves the model inside `balance()`, which needs no balancing to be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer
from transformers.utils import SAFE_WEIGHTS_NAME

from ..models.face import face_of
from ..models.wrappers import ADAPTER, is_adapted

PREFIX = "model."  # of the wrapped model's parameters in those of the wrapper


class UnwrappingTrainer(Trainer):
    """Writes and reads a wrapped model (one with `wrapped_model`) as if it had been trained alone.

    A transformers model is loaded by its class's `from_pretrained`, of a PEFT model the adapter by
    `PeftModel.from_pretrained`, another by `safetensors.torch.load_model`. FSDP and DeepSpeed read back their own
    shards.
    """

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Tensor] | None = None) -> None:
        wrapped = face_of(self.model).wrapped_model
        if wrapped is None:
            super()._save(output_dir, state_dict)
            return
        if state_dict is not None:  # gathered from shards
            state_dict = {name.removeprefix(PREFIX): value for name, value in state_dict.items()}
        is_own = state_dict is None and not (isinstance(wrapped, PreTrainedModel) or is_adapted(wrapped))
        with self._model_replaced(wrapped):
            super()._save(output_dir, {} if is_own else state_dict)
        if is_own and self.args.should_save:
            save_model(wrapped, str(Path(output_dir or self.args.output_dir, SAFE_WEIGHTS_NAME)), {"format": "pt"})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        wrapped = face_of(self.model).wrapped_model
        if wrapped is None or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(wrapped, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        wrapped = face_of(self.model).wrapped_model
        if wrapped is None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            load_weights(wrapped, self.state.best_model_checkpoint)

    @contextmanager
    def _model_replaced(self, model: nn.Module) -> Iterator[None]:
        own, self.model = self.model, model
        try:
            yield
        finally:
            self.model = own


def load_weights(model: nn.Module, folder: str | Path) -> None:
    """Loads what `UnwrappingTrainer` saved in `folder` into the model.

    Raises:
        OSError, RuntimeError: the folder holds no weights, or not those of this model.
    """
    if is_adapted(model):
        model.load_adapter(str(folder), ADAPTER, is_trainable=True)
        return
    if not isinstance(model, PreTrainedModel):
        load_model(model, Path(folder, SAFE_WEIGHTS_NAME))
        return
    # The names in the file may be those of the published model, not of its class: only from_pretrained knows.
    widest = reduce(torch.promote_types, (p.dtype for p in model.parameters()), torch.float32)
    loaded = type(model).from_pretrained(folder, dtype=widest, local_files_only=True)
    model.load_state_dict(loaded.state_dict())
