"""The code that a model card starts with."""

from __future__ import annotations

import re

from hf_bml.hub.run_folder import write_run_card


def quick_start(card):
    """The only block of Python before the section on the model."""
    [code] = re.findall(r"```python\n(.*?)```", card.split("## Model\n")[0], flags=re.DOTALL)
    return code


def run_quick_start(card, **names):
    """The names that the code leaves behind."""
    exec(quick_start(card), names)
    return names


def quick_start_of_run(run, folder):
    """The same of the card of a run's folder; the card is written into `folder`."""
    return run_quick_start(write_run_card(run, folder, str(run)).read_text())
