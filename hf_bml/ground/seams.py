"""The private names of other libraries that this package overrides, calls or reads, and the releases that have them.

A private name may change in any release. What a room relies on is checked when it is imported, so that another release
is refused by one message instead of failing within a training.
"""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import version
from typing import Any, NamedTuple

RELEASES = {  # as in pyproject.toml
    "accelerate": ">=1.13",
    "datasets": ">=5.1",
    "evaluate": ">=0.4.3",
    "transformers": ">=5.23,<6",
}


class Seam(NamedTuple):
    """A private name.

    Args:
        name: of the method, function or attribute.
        parameters: those that are passed or taken, in their order and without `self`; None for an attribute.
        why: what it is needed for.
    """

    name: str
    parameters: str | None
    why: str


def attributes(why: str, *names: str) -> tuple[Seam, ...]:
    """Values of a class or module, or that its methods set or read, which are needed for one thing."""
    return tuple(Seam(name, None, why) for name in names)


SEAMS: dict[str, dict[str, tuple[Seam, ...]]] = {  # by the room that relies on them, and by their owner
    "training": {
        "transformers.trainer:Trainer": (
            Seam(
                "_inner_training_loop",
                "batch_size args resume_from_checkpoint trial ignore_keys_for_eval",
                "modulations are built from the model and arguments of this training, which end here",
            ),
            Seam(
                "_run_epoch",
                "model epoch train_dataloader steps_in_epoch num_update_steps_per_epoch trial ignore_keys_for_eval "
                "start_time resume_from_checkpoint epochs_trained steps_trained_in_current_epoch",
                "an epoch's plan, its repeated windows, and the place in it to resume from",
            ),
            Seam(
                "_maybe_log_save_evaluate",
                "tr_loss grad_norm model trial epoch ignore_keys_for_eval start_time learning_rate",
                "a step that fp16 skipped is undone before anything is logged or saved",
            ),
            Seam("_finalize_training", "trial num_train_samples start_time", "the last losses are checked"),
            Seam(
                "_get_dataloader",
                "dataset description batch_size sampler_fn is_training",
                "epochs' plans, seeded rows and streams",
            ),
            Seam("_get_collator_with_removed_columns", "data_collator description", "labels are checked in batches"),
            Seam("_remove_unused_columns", "dataset description", "before a data set gets a sampler of its own"),
            Seam("_set_signature_columns_if_needed", "", "the columns of a wrapped model"),
            *attributes("the columns of a wrapped model, and of its copies", "_signature_columns"),
            Seam("_prepare_inputs", "inputs", "batches of trainings on the side, and of collected outputs"),
            Seam("_prepare_input", "data", "strings and masks of a batch stay as they are"),
            Seam("_save_checkpoint", "model trial", "checkpoints are sealed when they are whole"),
            Seam("_get_output_dir", "trial", "the folder of a checkpoint that is to be sealed"),
            Seam("_save_rng_state", "output_dir", "the loss since the last log is saved along"),
            Seam("_load_rng_state", "checkpoint", "and resumed"),
            Seam("_save_optimizer_and_scheduler", "output_dir", "the modulations' state is saved along"),
            Seam("_load_optimizer_and_scheduler", "checkpoint", "and resumed"),
            *attributes("the loss since the last log", "_tr_loss", "_globalstep_last_logged"),
            *attributes("the loss of the whole training", "_total_loss_scalar"),
            *attributes("a scheduler of one's own is not replaced", "_created_lr_scheduler"),
            Seam("_save", "output_dir state_dict", "a wrapped model's own weights are saved"),
            Seam("_load_from_checkpoint", "resume_from_checkpoint model", "and loaded"),
            Seam("_load_best_model", "", "and loaded, of the best checkpoint"),
            Seam("_hp_search_setup", "trial", "modulations' options are searched, too"),
            Seam("_push_from_checkpoint", "checkpoint_folder", "no failing push aborts a training"),
            Seam("_finish_current_push", "", "failures are reported at the end"),
        ),
        "transformers.training_args:TrainingArguments": (
            *attributes("options that are mappings may be JSON on a command line", "_VALID_DICT_FIELDS"),
        ),
        "accelerate.state:GradientState": (
            Seam("_set_sync_gradients", "sync_gradients", "a training on the side leaves the outer one's state"),
        ),
        "datasets:IterableDataset": attributes("a part of a stream is refused", "_distributed"),
    },
    "models": {
        "transformers:PreTrainedModel": (
            Seam("_init_weights", "module", "heads and encoders have initial weights of their own"),
            *attributes("timm has initialised its layers already", "_is_hf_initialized"),
            *attributes("FSDP wraps whole blocks of the encoders", "_no_split_modules"),
            *attributes("what stays in float32", "_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"),
            *attributes(
                "encoders say themselves which attention they have",
                *("_supports_sdpa", "_supports_flash_attn", "_supports_flex_attn"),
            ),
            Seam(
                "_set_gradient_checkpointing",
                "enable gradient_checkpointing_func every_n_layers",
                "activation checkpointing of each encoder's own kind",
            ),
            Seam(
                "_upload_modified_files",
                "working_dir repo_id files_timestamps commit_message token create_pr revision commit_description",
                "push_to_hub writes this package's card",
            ),
            *attributes("a class copied from a repository is saved with its code", "_auto_class"),
        ),
        "transformers:PreTrainedConfig": (
            *attributes("what a message calls the checkpoint", "_name_or_path"),
            *attributes("the attention implementation that was asked for", "_attn_implementation"),
            *attributes("a class copied from a repository is saved with its code", "_auto_class"),
        ),
    },
    "encoders": {  # checked by a test only: these models are slow to import, and not every one has it
        "transformers:Wav2Vec2PreTrainedModel": (
            Seam(
                "_get_feature_vector_attention_mask",
                "feature_vector_length attention_mask",
                "the mask of a waveform in the model's frames",
            ),
        ),
    },
    "processing": {
        "datasets:Dataset": (
            *attributes("what has been computed from the same data is found again", "_fingerprint"),
            *attributes("only the files of selected rows are looked at", "_indices"),
        ),
        "datasets.formatting": (
            *attributes("the format is registered once", "_FORMAT_TYPES"),
            Seam("_register_formatter", "formatter_cls format_type", "the format of prepared data sets"),
        ),
    },
    "metrics": {
        "evaluate:Metric": (
            Seam("_info", "", "the method that a metric defines"),
            Seam("_compute", "predictions references", "the method that a metric defines"),
        ),
    },
    "testing": {
        "accelerate.state:AcceleratorState": (
            *attributes("the state that an FSDP config leads to on GPUs, on the CPU", "_shared_state"),
            Seam("_reset_state", "reset_partial_state", "several trainings in one process"),
        ),
        "accelerate.state:PartialState": attributes("as of AcceleratorState", "_shared_state"),
    },
    "hub": {
        "transformers.models.auto.auto_factory:_LazyAutoMapping": (
            *attributes("which classes are registered for a config", "_extra_content"),
        ),
        "transformers:AutoModel": attributes("which classes are registered for a config", "_model_mapping"),
        "transformers:PreTrainedConfig": attributes("model and processor are of one revision", "_commit_hash"),
        "transformers:Pipeline": (
            Seam("_sanitize_parameters", "", "the method that a pipeline defines"),
            Seam("_forward", "input_tensors", "the method that a pipeline defines"),
            *attributes(
                "the pipeline loads its own processor",
                *("_load_processor", "_load_tokenizer", "_load_feature_extractor"),
                *("_load_image_processor", "_load_video_processor"),
            ),
        ),
    },
}


def check_seams(room: str) -> None:
    """Raises ImportError, naming the releases that work, if a private name of a room is missing or changed.

    Args:
        room: a key of SEAMS.
    """
    for path, seams in SEAMS[room].items():
        module_name, _, class_name = path.partition(":")
        library = module_name.partition(".")[0]
        remedy = f"Install a release that works: pip install '{library}{RELEASES[library]}'."
        try:
            module = importlib.import_module(module_name)
            owner = getattr(module, class_name) if class_name else module  # which transformers imports now
        except (ImportError, AttributeError) as error:
            raise ImportError(f"Expected {path} in {library}, found {library} {version(library)}. {remedy}") from error
        for seam in seams:
            found = difference(owner, seam)
            if found:
                taken = "" if seam.parameters is None else f"({', '.join(seam.parameters.split())})"
                raise ImportError(
                    f"Expected {path.replace(':', '.')}.{seam.name}{taken}, found {found} in {library} "
                    f"{version(library)}. {remedy}"
                )


def difference(owner: Any, seam: Seam) -> str | None:
    """What is found instead of a seam; None if it is as expected, or has further parameters with defaults."""
    if seam.parameters is None:
        # of any name, here and below: the table says which
        return None if hasattr(owner, seam.name) or seam.name in names_in_methods(owner) else "no such attribute"
    function = getattr(owner, seam.name, None)
    if not inspect.isroutine(function):
        return "no such function"
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    expected = seam.parameters.split()
    further = [each for each in parameters[len(expected) :] if each.kind is not each.VAR_KEYWORD]
    same = [each.name for each in parameters[: len(expected)]] == expected
    return None if same and all(each.default is not each.empty for each in further) else str(signature)


def names_in_methods(owner: Any) -> set[str]:
    """The names that the methods of a class set, read, or give as text to getattr."""
    functions = [value for kind in inspect.getmro(owner) for value in vars(kind).values()]
    functions = [inspect.unwrap(each) for each in functions]
    codes = [each.__code__ for each in functions if inspect.isfunction(each)]
    return {name for code in codes for name in (*code.co_names, *code.co_consts) if isinstance(name, str)}
