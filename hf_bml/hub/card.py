"""Model cards: from the facts of a run to the Markdown that the Hub shows, with its metadata and pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from .card_metadata import CardOptions, card_data, describe_data
from .card_tables import (
    class_names,
    describe_architecture,
    environment_table,
    modality_table,
    model_table,
    modulation_table,
    robustness_table,
    score_table,
)
from .facts import CardFacts
from .hidden_paths import HIDDEN_PATH
from .quick_start import balance_call, prediction_code, sample_tensors, sample_values

CARD_NAME = "README.md"
CURVES_NAME = "curves.png"
TEMPLATE = Path(__file__).with_name("template.md")
SHOWN_CLASSES = 30


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
