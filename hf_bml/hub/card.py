"""Model cards: from the facts of a run to the Markdown that the Hub shows, with its metadata and pictures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..analysis.summary import markdown_table, percent
from ..data import dataset_names
from ..data.description import describe_dataset
from ..models import ENCODERS, QUESTION_ANSWERING_ARCHITECTURES, SEGMENT_ARCHITECTURES
from .facts import HIDDEN_PATH, CardFacts
from .quick_start import balance_call, prediction_code, sample_tensors, sample_values

CARD_NAME = "README.md"
CURVES_NAME = "curves.png"
TEMPLATE = Path(__file__).with_name("template.md")
METRICS = {  # id on the Hub and name, where they are not the metric's own
    "accuracy": ("accuracy", "accuracy"),
    "mean_average_precision": ("mean_average_precision", "mean average precision"),
    "f1_weighted": ("f1", "F1, weighted"),
    "f1_macro": ("f1", "F1, macro"),
    "f1_binary": ("f1", "F1"),
}
ARCHITECTURES = {**SEGMENT_ARCHITECTURES, **QUESTION_ANSWERING_ARCHITECTURES}
SHOWN_CLASSES = 30


@dataclass
class CardOptions:
    """What only the author of a model knows; all of it can be left out.

    Attributes:
        source: where the quick start loads the model from, an id on the Hub or a folder; default the model's name.
        license: an id that the Hub knows, such as "apache-2.0".
        language: of the data.
        tags: beside those that follow from the run.
        base_model: the model that this one was fine-tuned from.
        dataset: a readable name of the data.
        dataset_ids: Hub ids of the data.
        task: default "multimodal-classification".
        dataset_args: of the evaluation, for the metadata.
        code: whether the code of a model of this package lies beside it (see `save_code`).
    """

    source: str | None = None
    license: str | None = None
    language: str | None = None
    tags: Sequence[str] = ()
    base_model: str | None = None
    dataset: str | None = None
    dataset_ids: Sequence[str] = ()
    task: str | None = None
    dataset_args: Mapping[str, Any] | None = None
    code: bool = False


def render_card(facts: CardFacts, options: CardOptions | None = None, figures: Sequence[str] = ()) -> ModelCard:
    """The card of a run.

    Args:
        facts: of the run.
        options: what the facts do not tell.
        figures: file names of pictures that lie beside the card.

    Returns:
        markdown with metadata: `card.save(path)`, `card.data`.
    """
    options = options or CardOptions()
    about = describe_data(facts, options)
    return ModelCard.from_template(
        card_data(facts, options, about),
        template_path=str(TEMPLATE),
        facts=facts,
        options=options,
        about=about,
        source=options.source or facts.name,
        classes=class_names(facts),
        shown_classes=SHOWN_CLASSES,
        methods=" and ".join(name.upper().replace("_", " ") for name in facts.modulations),
        model_table=model_table(facts),
        architecture=describe_architecture(facts),
        modulation_table=modulation_table(facts),
        score_table=score_table(facts),
        modality_table=modality_table(facts),
        robustness_table=robustness_table(facts),
        environment_table=environment_table(facts),
        settings=yaml.safe_dump(facts.settings, sort_keys=False, allow_unicode=True).strip() if facts.settings else "",
        sample=sample_values(facts),
        tensors=sample_tensors(facts),
        prediction=prediction_code(facts),
        balance_call=balance_call(facts),
        figures=figures,
        hidden_path=HIDDEN_PATH,
    )


def write_card(
    facts: CardFacts, folder: str | Path, options: CardOptions | None = None, figures_from: str | Path | None = None
) -> Path:
    """Writes `README.md` and `curves.png` into a folder, which is made if needed.

    The curves are those in `figures_from`, else drawn anew; without matplotlib, or before anything was logged, the
    card has no picture.

    Returns:
        the path of the card.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    curves = folder / CURVES_NAME
    drawn = None if figures_from is None else Path(figures_from) / CURVES_NAME
    if drawn is not None and drawn.is_file():
        if not (curves.exists() and drawn.samefile(curves)):
            shutil.copyfile(drawn, curves)
    else:
        draw_curves(facts, curves)
    card = render_card(facts, options, [CURVES_NAME] if curves.is_file() else [])
    card.save(folder / CARD_NAME)
    return folder / CARD_NAME


def draw_curves(facts: CardFacts, path: Path) -> None:
    """The training curves, if something was logged and matplotlib is installed."""
    if not any("loss" in entry for entry in facts.history):
        return
    try:
        from ..figures.curves import plot_curves
    except ImportError:
        return
    plot_curves(facts.history, facts.modalities, path, facts.name)


def card_data(facts: CardFacts, options: CardOptions, about: Mapping[str, Any]) -> ModelCardData:
    """The metadata. It has no `pipeline_tag`: the Hub knows no task of this kind, and another one would show a widget
    that cannot work."""
    results = [
        EvalResult(
            task_type=options.task or task_name(facts),
            dataset_type=about["id"],
            dataset_name=about["name"],
            dataset_split=split,
            dataset_args=dict(options.dataset_args) if options.dataset_args else None,
            metric_type=metric_id(metric, facts.modalities)[0],
            metric_name=metric_id(metric, facts.modalities)[1],
            metric_value=round(value, 4),
        )
        for split, metrics in sorted(facts.results.items())
        for metric, value in metrics.items()
        if about["id"] and is_score(metric)
    ]
    tags = ["multimodal", task_name(facts), "balanced-multimodal-learning", *facts.modalities, *facts.modulations]
    tags += options.tags
    return ModelCardData(
        language=options.language,
        license=options.license,
        library_name="hf_bml",
        tags=list(dict.fromkeys(tags)),
        base_model=options.base_model,
        datasets=about["hub_ids"] or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=facts.name if results else None,
        eval_results=results or None,
    )


def task_name(facts: CardFacts) -> str:
    """`multimodal-classification`, or that of another task of the recipe."""
    return f"multimodal-{facts.settings.get('task', 'classification')}".replace("_", "-")


def is_score(metric: str) -> bool:
    """Whether a metric belongs into the tables: neither a loss nor a count."""
    return metric != "loss" and not metric.endswith("_classes")


def metric_id(metric: str, modalities: Sequence[str]) -> tuple[str, str]:
    """The id of a metric on the Hub, and its name.

    Example:
        >>> metric_id("accuracy_audio", ["audio", "visual"])
        ('accuracy', 'accuracy, audio alone')
    """
    for modality in modalities:
        if metric.endswith(f"_{modality}"):
            joint, name = metric_id(metric.removesuffix(f"_{modality}"), ())
            return joint, f"{name}, {modality} alone"
    return METRICS.get(metric, (metric, metric.replace("_", " ")))


def describe_data(facts: CardFacts, options: CardOptions) -> dict[str, Any]:
    """What is known of the data: `id`, `name`, `hub_ids`, and the `topics` of the data set's module.

    A module says nothing about what it reads from the Hub: that may be a part of its corpus, or another one. The Hub
    takes `hub_ids` for repositories, so that a name of our own is only the `id` of the results.
    """
    dataset = facts.settings.get("dataset")
    own_options = facts.settings.get("dataset_options") or {}
    is_from_hub = own_options.get("hub_id") is not None
    is_ours = dataset in dataset_names() and dataset != "from_columns"
    hub_ids = list(options.dataset_ids)
    if not hub_ids:
        hub_ids = [own_options[key] for key in ("hub_id", "path") if is_hub_id(own_options.get(key))][:1]
    if dataset == "from_columns" or is_from_hub:
        dataset = hub_ids[0] if hub_ids else options.dataset
    return {
        "id": (hub_ids or [dataset or options.dataset])[0],
        "name": options.dataset or dataset,
        "hub_ids": hub_ids,
        "topics": describe_dataset(facts.settings["dataset"]) if is_ours and not is_from_hub else {},
    }


def is_hub_id(name: Any) -> bool:
    """Whether this is `owner/name` and not a folder of this machine."""
    is_pair = isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/"))
    return is_pair and not name.endswith("/") and not Path(name).exists()


def class_names(facts: CardFacts) -> list[str]:
    """Names of the classes in their order."""
    names = facts.config.get("id2label") or {}
    return [str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0]))]


def short(options: Mapping[str, Any]) -> str:
    """Options in one line, without those that are not set and digests; of a long list, such as a vocabulary, its
    length."""
    hidden = ("type", "files", "fitted")
    shown = {name: value for name, value in options.items() if name not in hidden and value not in (None, [], {})}
    long = {name: f"of {len(value)}" for name, value in shown.items() if isinstance(value, list) and len(value) > 12}
    return ", ".join(f"{name} {value}" for name, value in {**shown, **long}.items())


def model_table(facts: CardFacts) -> str:
    """A row per modality: encoder and processor, each with its options."""
    encoders = facts.config.get("modalities") or {}
    wrapped = facts.balance.get("modalities", {})

    def cell(options: Mapping[str, Any]) -> str:
        return f"`{options['type']}`: {short(options)}".removesuffix(": ") if "type" in options else "-"

    return markdown_table(
        ("modality", "input", "encoder"),
        [
            (
                name,
                cell(facts.processors.get(name, {})),
                ", ".join(f"`{path}`" for path in wrapped.get(name, ())) or cell(encoders.get(name, {})),
            )
            for name in facts.modalities
        ],
    )


def describe_architecture(facts: CardFacts) -> list[str]:
    """What joins the modalities, unless it is a fusion, and which published work this and the encoders follow."""
    texts = []
    name, loss = facts.config.get("architecture"), facts.config.get("segment_loss")
    if name in ARCHITECTURES:
        options = short(facts.config.get("architecture_options") or {})
        line = f"Architecture: `{name}`" + (f" ({options})" if options else "") + (f", loss `{loss}`" if loss else "")
        texts += [f"{line}.", ARCHITECTURES[name].provenance]
    origins: dict[str, list[str]] = {}
    for modality, options in (facts.config.get("modalities") or {}).items():
        encoder = ENCODERS.get(options.get("type"))  # not of one that was extracted before
        if encoder is not None and encoder.provenance is not None:
            origins.setdefault(f"`{options['type']}`: {encoder.provenance}", []).append(modality)
    return texts + [f"The encoder of {' and '.join(names)}, {text}" for text, names in origins.items()]


def modulation_table(facts: CardFacts) -> str:
    """A row per modulation with all its values."""
    rows = [(f"`{name}`", short(options)) for name, options in facts.modulations.items()]
    return markdown_table(("modulation", "values"), rows) if rows else ""


def score_table(facts: CardFacts) -> str:
    """A row per metric of all modalities together, a column per split."""
    splits = sorted(facts.results)
    metrics = {name: None for split in splits for name in facts.results[split] if is_score(name)}
    rows = [
        (metric_id(metric, ())[1], *(percent(facts.results[split].get(metric)) for split in splits))
        for metric in metrics
        if not any(metric.endswith(f"_{modality}") for modality in facts.modalities)
    ]
    return markdown_table(("all modalities together, times 100", *splits), rows) if rows else ""


def modality_table(facts: CardFacts) -> str:
    """A row per modality: what it predicts alone in each split, and its final discrepancy ratio."""
    found = {
        (split, metric.removesuffix(f"_{modality}")): None
        for split in sorted(facts.results)
        for metric in facts.results[split]
        for modality in facts.modalities
        if metric.endswith(f"_{modality}")
    }
    columns = [f"{metric_id(metric, ())[1]} times 100, {split}" for split, metric in found]
    if not (columns or facts.ratios):
        return ""
    rows = []
    for modality in facts.modalities:
        scores = [percent(facts.results[split].get(f"{metric}_{modality}")) for split, metric in found]
        ratio = facts.ratios.get(modality)
        rows.append((f"{modality} alone", *scores, "-" if ratio is None else f"{ratio:.2f}"))
    return markdown_table(("modality", *columns, "final discrepancy ratio"), rows)


def robustness_table(facts: CardFacts) -> str:
    """What is left on test when a modality is missing or noisy; empty if that was not measured."""
    summary = facts.robustness.get("summary", {})
    rows = [("clean", percent(summary.get("clean")))] if summary else []
    for modality in facts.modalities:
        if f"missing_{modality}" in summary:
            rows.append((f"without {modality}", percent(summary[f"missing_{modality}"])))
        start = f"noisy_{modality}/"
        for name in (name for name in summary if name.startswith(start)):
            rows.append((f"{modality}: {name.removeprefix(start)}", percent(summary[name])))
    if "worst" in summary:
        rows.append(("worst of all severities", percent(summary["worst"])))
    return markdown_table(("condition", "accuracy times 100, test"), rows) if rows else ""


def environment_table(facts: CardFacts) -> str:
    """Versions, device, date, seed and duration, as far as they are known."""
    rows = [(name, str(value)) for name, value in facts.environment.items()]
    if facts.seed is not None:
        rows.append(("seed", str(facts.seed)))
    if facts.train_seconds is not None:
        rows.append(("training time", f"{facts.train_seconds:.0f} s"))
    return markdown_table(("what", "value"), rows) if rows else ""
