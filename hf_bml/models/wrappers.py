"""Wrappers around a model or inside it: which are unwrapped, and which are refused because saving loses weights.

A PEFT model works if it is the outermost one, or the one inside `balance()`: then its adapter is saved by PEFT, and
`PeftModel.from_pretrained(base, folder)` loads it. PEFT is imported only if it is installed.
"""

from __future__ import annotations

import torch
from accelerate.utils import is_compiled_module
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DataParallel, DistributedDataParallel
from transformers import PreTrainedModel
from transformers.utils import is_peft_available

from .frozen import is_frozen

ADAPTER = "default"
PEFT_PREFIX = "base_model.model."  # of the modules of a model inside a PEFT model


def is_adapted(model: nn.Module) -> bool:
    """Whether `model` is a PEFT model itself."""
    if not is_peft_available():
        return False
    from peft import PeftModel

    return isinstance(model, PeftModel)


def without_adapter(model: nn.Module) -> nn.Module:
    """The model inside a PEFT model, with the adapter's layers in it; any other model itself."""
    return model.get_base_model() if is_adapted(model) else model


def adapter_base(model: nn.Module) -> str | None:
    """The folder or Hub id of the model that a PEFT model adapts, empty if it has none; None for another model."""
    return model.peft_config[ADAPTER].base_model_name_or_path or "" if is_adapted(model) else None


def check_bare(model: nn.Module) -> None:
    """Raises ValueError for a model inside a wrapper that hides what its modules compute, or that cannot be saved."""
    kind = type(model).__name__
    if is_peft_available():
        from peft import PeftMixedModel

        if isinstance(model, PeftMixedModel):
            raise ValueError("A PeftMixedModel cannot be saved. Use get_peft_model(model, config) without mixed=True.")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"expected a model that runs in Python, found the TorchScript model {kind}. Pass the nn.Module that it "
            "was made from."
        )
    if isinstance(model, (DataParallel, DistributedDataParallel)) or is_compiled_module(model):
        raise ValueError(
            f"expected the model itself, found it inside {kind}. Pass the model that it was made from: the trainer "
            "distributes it when launched with torchrun, and compiles it with torch_compile: true."
        )


def check_saved_whole(model: nn.Module) -> None:
    """Whether what is saved of a model, which `balance()` no longer wraps, loads again.

    Raises:
        ValueError: PEFT layers or compiled modules inside a transformers model, whose `from_pretrained` would not know
            their parameters; or a PEFT model that PEFT cannot save whole, or whose base is nowhere saved.
    """
    if is_adapted(model):
        check_adapter(model)
    elif isinstance(model, PreTrainedModel):
        check_nothing_renamed(model)


def check_nothing_renamed(model: PreTrainedModel) -> None:
    """Raises ValueError for a module inside `model` that gives its parameters names which the class does not have."""
    kind = type(model).__name__
    for name, module in model.named_modules():
        if is_compiled_module(module):
            raise ValueError(
                f"The module {name!r} was made by torch.compile, and {kind}.from_pretrained would not find its "
                f"weights again. Use the module's own method, model.{name}.compile(), which keeps their names, or "
                "torch_compile: true."
            )
        if is_peft_available() and holds_adapter(module):
            raise ValueError(
                f"The module {name!r} of {kind} has a PEFT adapter, which {kind}.from_pretrained cannot load back. "
                "Apply PEFT to the whole model and let it find the place: get_peft_model(model, "
                "LoraConfig(target_modules=r'<path of the encoder>\\..*\\.query', modules_to_save=[<paths of what is "
                "trained in full, such as 'head'>])), or merge the adapter first (merge_and_unload)."
            )


def holds_adapter(module: nn.Module) -> bool:
    """Whether a module is a PEFT model or a layer that PEFT has put in."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return isinstance(module, (PeftModel, BaseTunerLayer, AuxiliaryTrainingWrapper))


def check_adapter(model: nn.Module) -> None:
    """Raises ValueError unless a PEFT model is saved by PEFT with everything that changes in training."""
    from peft import get_peft_model_state_dict

    base = without_adapter(model)
    kind = type(base).__name__
    if list(model.peft_config) != [ADAPTER]:
        raise ValueError(f"expected one PEFT adapter named {ADAPTER!r}, found {list(model.peft_config)}.")
    config = model.peft_config[ADAPTER]
    if config.is_prompt_learning:
        raise ValueError(
            f"{config.peft_type.value} puts learned tokens before those of one text model, which is not defined for a "
            "model of several modalities. Use LoRA, IA3 or another adapter of layers."
        )
    if isinstance(base, PreTrainedModel) and not config.base_model_name_or_path:
        raise ValueError(
            f"PEFT saves the adapter only, and the {kind} below it was not loaded from a folder or the Hub, so nobody "
            f"could load it again. First model.save_pretrained('base'), then model = {kind}.from_pretrained('base') "
            "before get_peft_model."
        )
    values = model.state_dict(keep_vars=True)
    saved = {id(v) for v in get_peft_model_state_dict(model, values, save_embedding_layers=False).values()}
    changing = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    changing += [
        f"{name}.{buffer}"
        for name, layer in model.named_modules()
        if isinstance(layer, _NormBase) and not is_frozen(layer) and "original_module" not in name.split(".")
        for buffer in layer._buffers
    ]
    lost = [name for name in changing if name in values and id(values[name]) not in saved]
    if lost:
        raise ValueError(
            f"The training changes {lost[0]!r} ({len(lost)} such in all), but PEFT would not save it. Name its module "
            "in modules_to_save of the PEFT config, or freeze it."
        )
