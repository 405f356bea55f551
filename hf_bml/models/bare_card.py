"""The card of a model that was pushed by itself: what its config tells, and how to load it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

BLANK = "This model card has been automatically generated."  # stands in the one that transformers writes
TEXT = """\
---
{data}
---

# {name}

A `{model_class}` of {modalities} into {num_labels} classes. How it was trained was not recorded here: `hf-bml push`
and `MultimodalBalancedTrainer.push_to_hub` write a card with data, settings and results.

## Load

```bash
pip install .  # in a clone of hf_bml's repository: it is not on PyPI
```

```python
from transformers import AutoModel

import hf_bml  # registers the model with transformers

model = AutoModel.from_pretrained("{source}").eval()
```

If the repository holds the code (`hf_bml_code`), `AutoModel.from_pretrained("{source}", trust_remote_code=True)` loads
it without hf_bml.

## Model

| modality | encoder |
|----------|---------|
{encoders}

Classes: {classes}.
"""


def replace_blank_card(path: Path, config: Any, model_class: str, source: str) -> None:
    """Writes a card that says something, if the one at `path` does not; its tags stay."""
    card = ModelCard.load(path)
    if BLANK in card.text:
        bare_card(config, model_class, source, card.data.tags or ()).save(path)


def bare_card(config: Any, model_class: str, source: str, tags: Sequence[str] = ()) -> ModelCard:
    """The card of a model of which only the config is known.

    Args:
        config: a `ModalitiesConfig`.
        model_class: the name of the model's class.
        source: the Hub id that it is loaded from.
        tags: beside those that follow from the config.
    """
    names = list(config.modalities)
    data = ModelCardData(library_name="hf_bml", tags=["multimodal", "balanced-multimodal-learning", *names, *tags])
    return ModelCard(
        TEXT.format(
            data=data.to_yaml(),
            name=source.split("/")[-1],
            model_class=model_class,
            modalities=" and ".join(names),
            num_labels=config.num_labels,
            source=source,
            encoders="\n".join(f"| {name} | `{options['type']}` |" for name, options in config.modalities.items()),
            classes=", ".join(map(str, config.id2label.values())),
        )
    )
