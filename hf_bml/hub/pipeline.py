"""`pipeline("multimodal-classification", model=...)`: from files, arrays or texts to labels with scores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sized
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from ..ground.seams import check_seams
from ..ground.suggestion import check_name, check_options, did_you_mean
from ..processing.collator import collate_present
from ..processing.prepared_datasets import is_made_at_access
from ..processing.processor import MultimodalProcessor
from ..processing.raw_columns import undecoded

check_seams("hub")

TASK = "multimodal-classification"
FUNCTIONS = {"softmax": lambda logits: logits.softmax(dim=-1), "sigmoid": torch.sigmoid, "none": lambda logits: logits}
OPTIONS = ("top_k", "function_to_apply", "return_unimodal")


class MultimodalClassificationPipeline(Pipeline):
    """Classifies samples of any subset of a model's modalities.

    An input is a dict with a value for some of the modalities; the others are absent, as in training. A value is the
    path of a file, its bytes, a decoded array (audio: `{"array": ..., "sampling_rate": ...}`), PIL images, text or
    features: what the modality's processor takes. A video's path serves several modalities, the sound being that of
    the same file; instead of a dict, such a path alone is given to all modalities that are read from a video.

    A list, a `datasets.Dataset` of raw columns, a torch `Dataset` or a generator of such inputs is batched with
    `batch_size` and read by `num_workers` processes; a list gives a list, the others an iterator.

    What cannot be read raises a ValueError that names the file, unless the processor's `on_error` is "mask" (the
    modality counts as absent) or "skip"; then an input of which nothing is left (skip: of which anything failed)
    yields `None`.

    Args:
        model: a model whose logits are `(batch, num_labels)`, with `encoders` by modality.
        processor: a [`MultimodalProcessor`], or the folder or Hub id that holds one; default the model's own.
        top_k: labels per input, best first; None for all. Default 5.
        function_to_apply: "softmax", "sigmoid" or "none". Default by the model's `problem_type`: softmax, sigmoid for
            several labels a sample, none for a regression, whose scores are the values themselves; sigmoid for a
            classifier with one label.
        return_unimodal: also return what each modality alone says, see below. Default False.
        kwargs: as for every transformers pipeline: `device`, `batch_size`, `num_workers`, ...

    The last three options can also be given in a call. Per input, a call returns `[{"label": str, "score": float},
    ...]`, best first; of a regression all values, in their order. With `return_unimodal`, `{"joint": that list,
    "unimodal": {modality: such a list, or None if absent}}`.

    Raises:
        ValueError: no processor, one that does not fit the model, an unknown modality or option, an input without any
            modality, or a value that cannot be read.

    Example:
        >>> from transformers import pipeline
        >>> from hf_bml import MultimodalConfig, MultimodalForClassification, MultimodalProcessor
        >>> sizes = {"sensor": 2, "place": 3}
        >>> encoders = {name: {"type": "sequence", "input_size": size} for name, size in sizes.items()}
        >>> config = MultimodalConfig(modalities=encoders, id2label={0: "calm", 1: "storm"})
        >>> classifier = pipeline(
        ...     "multimodal-classification",
        ...     model=MultimodalForClassification(config),
        ...     processor=MultimodalProcessor({name: {"type": "features"} for name in sizes}),
        ... )
        >>> result = classifier({"sensor": [0.5, 1.0]}, top_k=1, return_unimodal=True)
        >>> len(result["joint"]), result["unimodal"]["place"]
        (1, None)
    """

    _load_processor = False  # by __init__, since transformers accepts only its own kind of processor
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    model_types = ("multimodal",)  # whose repositories can carry this pipeline

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.model.eval()
        self.modalities = list(self.model.encoders)
        self.processor = load_processor(self.processor, self.model)
        found = list(self.processor.modalities)
        if set(found) != set(self.modalities):
            raise ValueError(
                f"Expected a processor of the model's modalities {self.modalities}, found one of {found}. "
                "Pass the processor that the model was trained with."
            )

    def _sanitize_parameters(self, **options: Any) -> tuple[dict, dict, dict]:
        check_options("The pipeline", options, OPTIONS)
        top_k, function = options.get("top_k"), options.get("function_to_apply")
        if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
            raise ValueError(f"Expected top_k >= 1, or None for all labels, found {top_k!r}.")
        if function is not None:
            check_name("function_to_apply", function, FUNCTIONS)
        return {}, {}, options

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Classify one or several inputs; see the class."""
        if isinstance(inputs, datasets.Dataset | datasets.IterableDataset):
            rows = self._raw_rows(inputs)
            inputs = Rows(rows) if isinstance(rows, Sized) else (row for row in rows)
        return super().__call__(inputs, *args, **kwargs)

    def _raw_rows(self, rows: datasets.Dataset | datasets.IterableDataset) -> Any:
        """The columns of the modalities, media undecoded."""
        if is_made_at_access(rows):
            raise ValueError(
                "Expected a dataset of raw columns, found one with a transform, as a processor leaves it. "
                "Pass the dataset as it was before `processor.apply`."
            )
        columns = self.modalities
        if rows.column_names is not None:  # a stream may not know them
            columns = [name for name in self.modalities if name in rows.column_names]
            if not columns:
                raise ValueError(
                    f"Expected a column for at least one of the modalities {self.modalities}, found "
                    f"{rows.column_names}. Rename the columns."
                )
            rows = rows.select_columns(columns)
        return undecoded(rows.with_format(None) if isinstance(rows, datasets.Dataset) else rows, columns)

    def preprocess(self, inputs: Any) -> dict[str, Any] | None:
        """One input -> `{modality: Tensor, dict of tensors, or None if absent}`; None for one that cannot be used."""
        given = self._given(inputs)
        columns = self.processor({name: [given.get(name)] for name in self.modalities})
        sample = {name: values[0] for name, values in columns.items()}
        failed = [name for name in given if sample[name] is None]
        if (failed and self.processor.on_error == "skip") or all(value is None for value in sample.values()):
            return None
        return sample

    def _given(self, inputs: Any) -> dict[str, Any]:
        """The modalities of an input that are not None."""
        if isinstance(inputs, str | os.PathLike):
            video = [name for name, transform in self.processor.transforms.items() if transform.reads_video]
            if not video:
                raise ValueError(
                    f"Expected a dict, because none of the modalities {self.modalities} is read from a video, found "
                    f"{os.fspath(inputs)!r}. Say which modality it is: {{{self.modalities[0]!r}: ...}}."
                )
            return dict.fromkeys(video, inputs)
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"Expected a dict with a value per modality out of {self.modalities}, found {type(inputs).__name__}. "
                f"Say which modality it is: {{{self.modalities[0]!r}: ...}}."
            )
        for name in inputs:
            if name not in self.modalities and name != "labels":  # which every row of a dataset has
                hint = did_you_mean(name, self.modalities)
                raise ValueError(f"Expected modalities out of {self.modalities}, found {name!r}.{hint}")
        given = {
            name: {"bytes": value, "path": None} if isinstance(value, bytes) else value
            for name, value in inputs.items()
            if name in self.modalities and value is not None
        }
        if not given:
            raise ValueError(f"Expected a value for at least one of the modalities {self.modalities}, found none.")
        return given

    def collate(self, samples: list[dict[str, Any] | None]) -> dict[str, Any]:
        """Results of `preprocess` -> `{"usable": bool (samples,), "batch": keywords of the model}`."""
        usable = [sample for sample in samples if sample is not None]
        batch = collate_present(usable, self.modalities, self.processor.pad_token_id) if usable else {}
        return {"usable": torch.tensor([sample is not None for sample in samples]), "batch": batch}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Tensor]:
        """A row per sample, NaN for those that cannot be used: the logits `(samples, labels)`, those of each modality
        alone `(samples, modalities, labels)`, and which modalities there are `(samples, modalities)`, all on the CPU
        in float32."""
        usable, batch = model_inputs["usable"], model_inputs["batch"]
        num_samples, num_labels = len(usable), self.model.config.num_labels
        logits = torch.full((num_samples, num_labels), torch.nan, device=usable.device)
        unimodal = torch.full((num_samples, len(self.modalities), num_labels), torch.nan, device=usable.device)
        present = usable[:, None].repeat(1, len(self.modalities))
        if batch:
            output = self.model(**batch)
            if output.logits.ndim != 2:
                raise ValueError(
                    f"Expected a model with one prediction per sample, found logits of shape "
                    f"{tuple(output.logits.shape)} from {type(self.model).__name__}. Call the model itself."
                )
            logits[usable] = output.logits.float()
            unimodal[usable] = torch.stack(list(output.unimodal_logits.values()), dim=1).float()
            if output.modality_mask is not None:
                present[usable] = output.modality_mask
        return {"logits": logits, "unimodal_logits": unimodal, "present": present, "usable": usable}

    def postprocess(
        self,
        model_outputs: dict[str, Tensor],
        top_k: int | None = 5,
        function_to_apply: str | None = None,
        return_unimodal: bool = False,
    ) -> list[dict[str, Any]] | dict[str, Any] | None:
        """What a call returns for one input."""
        if not model_outputs["usable"][0]:
            return None
        config = self.model.config
        default, ranked = ("softmax" if config.num_labels > 1 else "sigmoid"), best
        if config.problem_type == "multi_label_classification":
            default = "sigmoid"
        elif config.problem_type == "regression":
            default, ranked = "none", listed
        function = FUNCTIONS[function_to_apply or default]
        scores = function(model_outputs["logits"][0])
        joint = ranked(scores, self.model.config.id2label, top_k)
        if not return_unimodal:
            return joint
        unimodal = {
            name: ranked(function(logits), self.model.config.id2label, top_k) if is_present else None
            for name, logits, is_present in zip(
                self.modalities, model_outputs["unimodal_logits"][0], model_outputs["present"][0].tolist(), strict=True
            )
        }
        return {"joint": joint, "unimodal": unimodal}

    def run_single(self, inputs: Any, preprocess_params: dict, forward_params: dict, postprocess_params: dict) -> Any:
        """One input, as a batch of one."""
        batch = self.collate([self.preprocess(inputs, **preprocess_params)])
        return self.postprocess(self.forward(batch, **forward_params), **postprocess_params)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> PipelineIterator:
        """As in every pipeline, with batches of `collate`."""
        if isinstance(inputs, Sized):
            samples = PipelineDataset(inputs, self.preprocess, preprocess_params)
        else:
            samples = PipelineIterator(inputs, self.preprocess, preprocess_params)
            num_workers = min(num_workers, 1)  # more would each read everything
        loader = DataLoader(samples, batch_size=batch_size, num_workers=num_workers, collate_fn=self.collate)
        outputs = PipelineIterator(loader, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, self.postprocess, postprocess_params)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model and processor; `pipeline(task, model=save_directory)` loads both."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


class Rows(Dataset):
    """Rows of a `datasets.Dataset` as a torch dataset, which is what a pipeline reads lazily."""

    def __init__(self, rows: datasets.Dataset):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def load_processor(processor: Any, model: Any) -> Any:
    """A processor given as object, folder or Hub id, or the one saved beside the model.

    Raises:
        ValueError: there is none.
    """
    if processor is not None and not isinstance(processor, str | os.PathLike):
        return processor
    name = model.name_or_path if processor is None else os.fspath(processor)
    # Of a model that was not loaded from the Hub, the config has no such attribute.
    options = {"revision": getattr(model.config, "_commit_hash", None)} if processor is None else {}
    remedy = (
        "Pass `processor=MultimodalProcessor(...)`, or save one beside the model: `processor.save_pretrained(folder)`."
    )
    if not name:
        raise ValueError(f"Expected a processor, found none for a model that was not loaded. {remedy}")
    try:
        return MultimodalProcessor.from_pretrained(name, **options)
    except OSError as error:
        raise ValueError(f"Expected a usable processor in {name!r}, found: {error} {remedy}") from error


def listed(values: Tensor, names: Mapping[int, str], top_k: int | None) -> list[dict[str, Any]]:
    """Values `(labels,)` as `{"label", "score"}`, in the order of the labels; all of them."""
    return [{"label": names[index], "score": value} for index, value in enumerate(values.tolist())]


def best(scores: Tensor, names: Mapping[int, str], top_k: int | None) -> list[dict[str, Any]]:
    """Scores `(labels,)` as `{"label", "score"}`, best first, ties in the order of the labels; at most `top_k`."""
    values, order = scores.sort(descending=True, stable=True)
    pairs = list(zip(order.tolist(), values.tolist(), strict=True))[:top_k]
    return [{"label": names[index], "score": value} for index, value in pairs]


def register_pipeline() -> None:
    """Make `pipeline("multimodal-classification")` known to transformers."""
    PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=MultimodalClassificationPipeline, pt_model=AutoModel, type="multimodal"
    )
