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
    "accelerate": ">=1.7",
    "datasets": ">=5.0",
    "evaluate": ">=0.4.3",
    "transformers": ">=5.20,<6",
}
ATTRIBUTE = None  # in place of parameters: a value of the class or module, or one that its methods set or read


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
            Seam("_signature_columns", ATTRIBUTE, "the columns of a wrapped model, and of its copies"),
            Seam("_prepare_inputs", "inputs", "batches of trainings on the side, and of collected outputs"),
            Seam("_prepare_input", "data", "strings and masks of a batch stay as they are"),
            Seam("_save_checkpoint", "model trial", "checkpoints are sealed when they are whole"),
            Seam("_get_output_dir", "trial", "the folder of a checkpoint that is to be sealed"),
            Seam("_save_rng_state", "output_dir", "the loss since the last log is saved along"),
            Seam("_load_rng_state", "checkpoint", "and resumed"),
            Seam("_save_optimizer_and_scheduler", "output_dir", "the modulations' state is saved along"),
            Seam("_load_optimizer_and_scheduler", "checkpoint", "and resumed"),
            Seam("_tr_loss", ATTRIBUTE, "the loss since the last log"),
            Seam("_total_loss_scalar", ATTRIBUTE, "the loss of the whole training"),
            Seam("_globalstep_last_logged", ATTRIBUTE, "the step of the last log"),
            Seam("_created_lr_scheduler", ATTRIBUTE, "a scheduler of one's own is not replaced"),
            Seam("_save", "output_dir state_dict", "a wrapped model's own weights are saved"),
            Seam("_load_from_checkpoint", "resume_from_checkpoint model", "and loaded"),
            Seam("_load_best_model", "", "and loaded, of the best checkpoint"),
            Seam("_hp_search_setup", "trial", "modulations' options are searched, too"),
            Seam("_push_from_checkpoint", "checkpoint_folder", "no failing push aborts a training"),
            Seam("_finish_current_push", "", "failures are reported at the end"),
        ),
        "transformers.training_args:TrainingArguments": (
            Seam("_VALID_DICT_FIELDS", ATTRIBUTE, "options that are mappings may be JSON on a command line"),
        ),
        "accelerate.state:GradientState": (
            Seam("_set_sync_gradients", "sync_gradients", "a training on the side leaves the outer one's state"),
        ),
        "datasets:IterableDataset": (Seam("_distributed", ATTRIBUTE, "a part of a stream is refused"),),
    },
    "models": {
        "transformers:PreTrainedModel": (
            Seam("_init_weights", "module", "heads and encoders have initial weights of their own"),
            Seam("_is_hf_initialized", ATTRIBUTE, "timm has initialised its layers already"),
            Seam("_no_split_modules", ATTRIBUTE, "FSDP wraps whole blocks of the encoders"),
            Seam(
                "_upload_modified_files",
                "working_dir repo_id files_timestamps commit_message token create_pr revision commit_description",
                "push_to_hub writes this package's card",
            ),
            Seam("_auto_class", ATTRIBUTE, "a class copied from a repository is saved with its code"),
        ),
        "transformers:PreTrainedConfig": (
            Seam("_name_or_path", ATTRIBUTE, "what a message calls the checkpoint"),
            Seam("_auto_class", ATTRIBUTE, "a class copied from a repository is saved with its code"),
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
            Seam("_fingerprint", ATTRIBUTE, "what has been computed from the same data is found again"),
            Seam("_indices", ATTRIBUTE, "only the files of selected rows are looked at"),
        ),
        "datasets.formatting": (
            Seam("_FORMAT_TYPES", ATTRIBUTE, "the format is registered once"),
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
            Seam("_shared_state", ATTRIBUTE, "the state that an FSDP config leads to on GPUs, on the CPU"),
            Seam("_reset_state", "reset_partial_state", "several trainings in one process"),
        ),
        "accelerate.state:PartialState": (Seam("_shared_state", ATTRIBUTE, "as of AcceleratorState"),),
    },
    "hub": {
        "transformers.models.auto.auto_factory:_LazyAutoMapping": (
            Seam("_extra_content", ATTRIBUTE, "which classes are registered for a config"),
        ),
        "transformers:AutoModel": (Seam("_model_mapping", ATTRIBUTE, "which classes are registered for a config"),),
        "transformers:PreTrainedConfig": (Seam("_commit_hash", ATTRIBUTE, "model and processor are of one revision"),),
        "transformers:Pipeline": (
            Seam("_sanitize_parameters", "", "the method that a pipeline defines"),
            Seam("_forward", "input_tensors", "the method that a pipeline defines"),
            Seam("_load_processor", ATTRIBUTE, "the pipeline loads its own processor"),
            Seam("_load_tokenizer", ATTRIBUTE, "the pipeline loads its own processor"),
            Seam("_load_feature_extractor", ATTRIBUTE, "the pipeline loads its own processor"),
            Seam("_load_image_processor", ATTRIBUTE, "the pipeline loads its own processor"),
            Seam("_load_video_processor", ATTRIBUTE, "the pipeline loads its own processor"),
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
            owner = getattr(module, class_name) if class_name else module
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
