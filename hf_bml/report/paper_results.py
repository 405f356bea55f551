"""The paper's numbers, shown beside ours where data set and method are the same.

Source: Wei, Hu, Du and Wen, "On-the-fly Modulation for Balanced Multimodal Learning", IEEE TPAMI 2024; per cent, but
for the relative times of Table 4, two of which could not be read and are empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

DATASETS = {
    "cremad": "CREMA-D",
    "kinetics_sounds": "Kinetics-Sounds",
    "ucf101": "UCF-101",
    "ucf101_three": "UCF-101-Three",
    "vggsound": "VGGSound",
    "cmu_mosi": "CMU-MOSI",
    "ave": "AVE",
    "music_avqa": "MUSIC-AVQA",
}
TASKS = {"AVE": "segment_classification", "MUSIC-AVQA": "question_answering"}  # others: classification of clips
METRICS = {"Acc": "accuracy", "mAP": "mean_average_precision", "F1": "f1_weighted"}
MODELS = {"centralnet": "CentralNet", "mmtm": "MMTM", "cross_attention": "VATT"}  # the last one in the style of VATT
FUSIONS = {"concat": "Concatenation", "sum": "Summation", "film": "FiLM"}
ARCHITECTURES = {"avga": "AVGA", "avsdn": "AVSDN", "psp": "PSP", "avsd": "AVSD", "panoavqa": "PanoAVQA"}
METHODS = {
    "opm": "OPM",
    "ogm": "OGM",
    "gradient_blending": "GBlending",
    "greedy": "Greedy",
    "mod_drop": "ModDrop",
    "dropout": "Dropout",
    "annealed_dropout": "Annealed dropout",
    "curriculum_dropout": "Curriculum dropout",
    "evolutional_dropout": "Evolutional dropout",
    "ogm_star": "OGM*",
}
OTHER_MODELS = ("bias_split", "auxiliary_loss_weight")  # options that make another model than the paper's
FEATURE_ENCODERS = ("features", "sequence", "lstm", "transformers")  # below the architectures, of no raw media
NOISY = ("ogm", "ogm_star")  # whose paper form adds noise to the gradient
FIRST_MODALITY, SECOND_MODALITY = "Audio/RGB-only", "Visual/OF-only"


@cache
def paper_results() -> pd.DataFrame:
    """Every cell of the paper's tables that could be read.

    Columns: `table`, its number, such as "2" or "7a"; `dataset`, the paper's name; `method`, the row; `metric`: Acc,
    mAP, F1, Time_x or a name that only one table has; `value`, per cent, but for Time_x.
    """
    with files(__package__).joinpath("paper_results.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"table": str}).dropna(subset="value")


def paper_dataset(dataset: str, task: str = "classification", options: Mapping[str, Any] | None = None) -> str | None:
    """The paper's name of a data set of ours, None where the paper has no results for the task.

    None of the Hub's copies that `hub_id` reads is the paper's data: they hold another corpus, or a part.

    Args:
        dataset: our name.
        task: as in a recipe.
        options: the recipe's `dataset_options`.

    Example:
        >>> paper_dataset("cremad"), paper_dataset("digits"), paper_dataset("ave")
        ('CREMA-D', None, None)
        >>> paper_dataset("cremad", options={"hub_id": "mteb/RAVDESS_AV"}) is None
        True
    """
    name = DATASETS.get(dataset)
    if name is None or task != TASKS.get(name, "classification") or (options or {}).get("hub_id"):
        return None
    return name


def paper_method(options: Mapping[str, Any], encoders: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The paper's name of a run's method, as in `Concatenation-OPM`; None for one that is not in its tables.

    OGM without noise is not: the paper's OGM adds it. Options such as q_base are not looked at, but those that make
    another method (`transform`, `measure`, `p_exe`, ...) or another model (encoders, `bias_split`, ...) are.

    Args:
        options: the run's, as its `config.yaml` has them.
        encoders: options of each modality's encoder, as the model's config has them.

    Example:
        >>> resnet = {"type": "timm", "architecture": "resnet18"}
        >>> paper_method({"fusion": "film", "modulations": {"opm": {}}}, {"audio": resnet, "visual": resnet})
        'FiLM-OPM'
        >>> paper_method({"modulations": {"opm": {}}}, {"audio": {"type": "xvector"}, "visual": resnet})
        'X-vector-OPM'
        >>> paper_method({"modulations": {"ogm": {"alpha": 0.8}}}, {"audio": resnet, "visual": resnet}) is None
        True
    """
    modulations = {name: chosen or {} for name, chosen in (options.get("modulations") or {}).items()}
    if len(encoders) == 1:
        usual = not modulations and encoders_name(options, encoders) == ""
        return unimodal_name(next(iter(encoders)), str(options.get("dataset"))) if usual else None
    model = model_name(options, encoders)
    if model is None:
        return None
    names = []
    for name, chosen in modulations.items():
        plain = not set(chosen) - {"q_base", "lam", "alpha", "noise", "p", "mode", "start", "end", "unit"}
        if name not in METHODS or not plain or (name in NOISY and chosen.get("noise", "none") == "none"):
            return None
        names.append(METHODS[name])
    method = "+".join(sorted(names, key=list(METHODS.values()).index))
    return f"{model}-{method}" if method else model


def unimodal_name(modality: str, dataset: str) -> str | None:
    """The paper's row of a model of one modality."""
    if dataset.startswith("ucf101"):
        return {"visual": FIRST_MODALITY, "flow": SECOND_MODALITY}.get(modality)
    return {"audio": FIRST_MODALITY, "visual": SECOND_MODALITY}.get(modality)


def model_name(options: Mapping[str, Any], encoders: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The paper's name of the model below the method; Table 14's rows with another `bias_split` have none."""
    if any(options.get(name) for name in OTHER_MODELS):
        return None
    if options.get("architecture"):
        on_features = all(encoder.get("type") in FEATURE_ENCODERS for encoder in encoders.values())
        return ARCHITECTURES.get(str(options["architecture"]).replace("_", "").lower()) if on_features else None
    own = encoders_name(options, encoders)
    if own is None:
        return None
    fusion = FUSIONS.get(str(options.get("fusion", "concat")))
    if own:
        plain = fusion == "Concatenation" and not options.get("interaction") and not options.get("head_hidden_sizes")
        return own if plain else None
    if options.get("interaction"):
        return MODELS.get(str(options["interaction"]))
    if options.get("head_hidden_sizes"):
        return "Multi-layer classifier" if fusion == "Concatenation" else None
    return fusion


def encoders_name(options: Mapping[str, Any], encoders: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What Tables 8 and 9 call a model after its encoders; empty for the usual ones, None for others than the paper's.

    Several encoders of clips must be alike. Multi-window is None: it is our surrogate for a model, MWTSM, of which
    nothing is known but its name.
    """
    dataset = str(options.get("dataset"))
    if dataset == "cmu_mosi":
        transformers = all(e.get("type") == "sequence" and e.get("num_layers") != 0 for e in encoders.values())
        return "" if transformers else None
    processors = options.get("processors") or {}
    kinds = {name: encoder_name(name, own, processors.get(name) or {}, dataset) for name, own in encoders.items()}
    if None in kinds.values():
        return None
    audio = kinds.pop("audio", "")
    clips = set(kinds.values()) or {""}
    return audio or clips.pop() if len(clips) == 1 and (not audio or clips == {""}) else None


def encoder_name(modality: str, encoder: Mapping[str, Any], processor: Mapping[str, Any], dataset: str) -> str | None:
    """The paper's name of one encoder; empty for its ResNet-18, which it pre-trains for UCF-101 only, else None."""
    if modality == "audio":
        if encoder.get("type") == "xvector":
            return "X-vector"
        if (encoder.get("type"), processor.get("type")) == ("mlp", "ivector"):
            return "I-vector"
    is_resnet = encoder.get("type") == "timm" and str(encoder.get("architecture")).partition(".")[0] == "resnet18"
    is_usual = is_resnet and set(encoder.get("model_args") or {}) <= {"zero_init_last"}
    if not is_usual or bool(encoder.get("pretrained")) != dataset.startswith("ucf101"):
        return None
    if encoder.get("temporal_shift"):
        return "TSM" if modality != "audio" else None
    by_segment, dropout = processor.get("sampling") == "segment", bool(encoder.get("dropout"))
    if by_segment != dropout:
        return None
    return "TSN" if by_segment else ""


def matching_results(dataset: str, method: str | None) -> pd.DataFrame:
    """The paper's results of one method on one data set, indexed by our names of the metrics.

    Tables print "Concatenation-OPM" or, where all rows concatenate, "OPM"; the first table that has the row counts.

    Args:
        dataset: the paper's name.
        method: as `paper_method` gives it.

    Example:
        >>> matching_results("CREMA-D", "Concatenation-OPM")["value"].to_dict()
        {'accuracy': 75.1, 'mean_average_precision': 81.2}
    """
    cells = paper_results()
    names = [] if method is None else [method, method.removeprefix("Concatenation-")]
    cells = cells[(cells["dataset"] == dataset) & cells["method"].isin(names) & (cells["table"] != "4")]
    ours = cells.assign(ours=cells["metric"].map(METRICS)).dropna(subset="ours")
    return ours.drop_duplicates("ours").set_index("ours")
