"""recipes/methods/README.md says what the code says of each method, in blocks that this file writes:

python tests/test_methods_document.py
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from refused_methods import REFUSED

from hf_bml.analysis.summary import markdown_table, read_markdown_table
from hf_bml.models import FUSIONS
from hf_bml.modulation import BUNDLES, PHASES, Modulation
from hf_bml.modulation import MODULATIONS as REGISTRY

ROOT = Path(__file__).parents[1]
MODULATIONS = {name: method for name, method in REGISTRY.items() if ":" not in name}  # others were given by a path
DOCUMENT = ROOT / "recipes" / "methods" / "README.md"
COSTS = ROOT / "recipes" / "benchmarks" / "methods_cost.md"
MODALITIES = ("audio", "visual")
FUSION_METHODS = ("cosine", "shared", "bounded")
NEEDS = {  # in words
    "gradients": "edits gradients",
    "gradient_scale": "SGD",
    "separate_encoders": "separate encoders",
    "features_only": "late fusion",
    "whole_model": "whole model",
    "current_logits": "unimodal logits",
    "unimodal_graph": "unimodal graph",
    "head_graph": "unimodal graph",
    "exact_split": "sum of logits",
    "own_heads": "own classifiers",
    "fuse": "head passes",
    "separate_gradients": "separate gradients",
    "head_gradients": "head's gradient",
    "rows": "row numbers",
    "inputs": "inputs",
    "classes": "one class",
    "class_numbers": "class numbers",
    "trained_alone": "teachers",
    "optimizer": "optimizer",
    "steps_per_batch": "M steps a batch",
    "model_options": "",
}
PROPERTIES = {  # of the suite, in words; the others are refused by no method
    "1 to 4 modalities": "a single modality",
    "own losses": "`compute_loss_func`, label smoothing",
    "fsdp2": "FSDP2",
    "segments": "segments",
    "questions": "questions",
    "several labels": "several labels",
    "regression": "regression",
    "balance": "`balance()`",
    "language model": "language models",
}
OPTIONS: list[tuple[str, dict[str, Any]]] = [  # that change what a method needs
    ("opm", {"timing": "current"}),
    ("ogm", {"placement": "graph"}),
    ("multi_loss", {"heads": "own"}),
    ("tcmax", {"shuffles": 4}),
    ("mbsd", {"heads": "own"}),
    ("lfm", {"schedule": "learned"}),
    ("mmpareto", {"heads": "split"}),
    ("data_remixing", {"assignment": "batch"}),
]


def code(options: Mapping[str, Any]) -> str:
    """Options as YAML has them, in code font."""
    return ", ".join(f"`{name}: {json.dumps(value).strip(chr(34))}`" for name, value in options.items())


def needs_of(method: Modulation) -> str:
    """What a method needs, in words."""
    needs = vars(method.needs(MODALITIES))
    asked = [name for name, value in needs.items() if (value > 1 if name == "steps_per_batch" else value)]
    words = [NEEDS[name] for name in asked if NEEDS[name]]
    if method.plans_epochs:
        words.append("plans epochs")
    if method.held_out_fraction:
        words.append(f"holds out {method.held_out_fraction:.0%}")
    return ", ".join(dict.fromkeys(words)) or "–"


def facts_of(method: Modulation) -> list[str]:
    """Accumulation, needs, and options of the model's config."""
    return [accumulation_of(method), needs_of(method), code(method.needs(MODALITIES).model_options) or "–"]


def accumulation_of(method: Modulation) -> str:
    return {"exact": "exact", "per_micro_batch": "micro-batch"}[method.accumulation]


def needs_block() -> str:
    """Accumulation and needs, with the default options."""
    rows = [[f"`{name}`", *facts_of(method())] for name, method in MODULATIONS.items()]
    return markdown_table(["method", "accumulation", "needs", "model's config"], rows)


def options_block() -> str:
    """The same, of options that change it."""
    rows = [[f"`{name}`, {code(options)}", *facts_of(MODULATIONS[name](**options))] for name, options in OPTIONS]
    return markdown_table(["option", "accumulation", "needs", "model's config"], rows)


def refusals_block() -> str:
    """What a method refuses."""
    rows = []
    for name in MODULATIONS:
        if refused := [words for each, words in PROPERTIES.items() if name in REFUSED[each]]:
            rows.append([f"`{name}`", ", ".join(refused)])
    return markdown_table(["method", "refuses"], rows)


def presets_block() -> str:
    """What presets other than `paper` set."""
    rows = []
    for name, method in MODULATIONS.items():
        for preset, options in method.config_class.presets().items():
            if preset != "paper":
                rows.append([f"`{name}`", f"`{preset}`", code(options), accumulation_of(method(preset=preset))])
    return markdown_table(["method", "preset", "sets", "accumulation"], rows)


def phases_block() -> str:
    """Where methods act, in order."""
    rows = []
    for phase in PHASES:
        names = [f"`{name}`" for name, method in MODULATIONS.items() if method.phase == phase]
        if names:
            rows.append([f"`{phase}`", ", ".join(names)])
    return markdown_table(["phase", "methods"], rows)


def costs_block() -> str:
    """The ratios of methods_cost.md, without their intervals."""
    lines = COSTS.read_text(encoding="utf-8").splitlines()
    header, rows = read_markdown_table("\n".join(line for line in lines if line.startswith("|")))
    return markdown_table(header, [[re.sub(r" \[.*\]", "", cell) for cell in row] for row in rows])


BLOCKS: dict[str, Callable[[], str]] = {
    "phases": phases_block,
    "needs": needs_block,
    "options": options_block,
    "refusals": refusals_block,
    "presets": presets_block,
    "costs": costs_block,
}


def block_in(text: str, name: str) -> re.Match[str]:
    """A block, between its two comments."""
    found = re.search(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", text, flags=re.DOTALL)
    assert found, f"{DOCUMENT} has no block {name!r}"
    return found


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_what_the_code_says(name):
    assert block_in(DOCUMENT.read_text(encoding="utf-8"), name)[0] == f"\n{BLOCKS[name]()}\n\n", (
        "run `python tests/test_methods_document.py` to write the blocks anew"
    )


def test_each_method_has_one_line_with_its_file():
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = re.findall(r"^\| \[`(\w+)`\]\((\S+?)\) \|", text, flags=re.MULTILINE)
    names = [name for name, _ in lines]
    assert sorted(names) == sorted([*MODULATIONS, *BUNDLES, *FUSION_METHODS])
    assert set(FUSION_METHODS) <= set(FUSIONS)
    for name, target in lines:
        path = (DOCUMENT.parent / target).resolve()
        assert path.is_file(), target
        if name in MODULATIONS:
            assert path.stem == MODULATIONS[name].__module__.rpartition(".")[2]


def test_refusals_are_of_properties_that_the_document_words():
    assert set(REFUSED) == set(PROPERTIES)


def test_each_option_in_the_document_exists():
    for name, options in OPTIONS:
        assert facts_of(MODULATIONS[name](**options)) != facts_of(MODULATIONS[name]())


def test_costs_are_of_each_method():
    named = set(re.findall(r"^\| `(\w+)` +\|", COSTS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert named == set(MODULATIONS)


def test_links_lead_somewhere():
    text = DOCUMENT.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (DOCUMENT.parent / target).exists(), target


def write() -> None:
    """Writes the blocks anew."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, block in BLOCKS.items():
        found = block_in(text, name)
        text = f"{text[: found.start()]}\n{block()}\n\n{text[found.end() :]}"
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())
