"""What a data set's module says about it, topic by topic, for those who read about a model trained on it."""

from __future__ import annotations

import inspect
import re

from . import dataset_function

TOPICS = ("Source", "Licence", "Privacy", "Pitfalls")
HEADING = re.compile(r"([A-Z][A-Za-z ,]*)(:|\n)")


def describe_dataset(name: str) -> dict[str, str]:
    """The topics of a data set's module docstring.

    Args:
        name: as for `load_multimodal_dataset`.

    Returns:
        "Summary" (the first paragraph and those that follow it without a heading), and those of TOPICS that the
        docstring has, each in one line. Empty for a data set that is not of this package, or where Python keeps no
        docstrings.

    Raises:
        ValueError: no such data set.

    Example:
        >>> describe_dataset("av_digits")["Licence"]
        'recordings CC BY-SA 4.0, MNIST CC BY-SA 3.0.'
    """
    load = dataset_function(name)
    docstring = inspect.getdoc(inspect.getmodule(load)) if load.__module__.startswith(f"{__package__}.") else None
    if not docstring:
        return {}
    first, *others = docstring.split("\n\n")
    topics = {"Summary": first}
    in_summary = True
    for paragraph in others:
        heading = HEADING.match(paragraph)
        in_summary &= heading is None
        if in_summary:
            topics["Summary"] += f" {paragraph}"
        elif heading and heading[1] in TOPICS:
            topics[heading[1]] = paragraph[heading.end() :]
    return {topic: " ".join(text.split()) for topic, text in topics.items()}
