"""The tables of recipes/balanced/README.md are those of the records."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_bml.analysis.records import records_of, write_records
from hf_bml.analysis.row import Row

FOLDER = Path(__file__).parent.parent / "recipes" / "balanced"


@pytest.fixture(scope="module")
def tables():
    return SimpleNamespace(**runpy.run_path(str(FOLDER / "tables.py")))


def row(source, label, clean, dataset="letters", seeds=2, setting="", **measured):
    """A row whose seeds have the accuracies `clean`, `clean` + 0.01, ..."""
    runs = [{"seed": seed, "robust/clean": clean + seed / 100, **measured} for seed in range(seeds)]
    return Row(label, methods=label, source=source, dataset=dataset, runs=runs, setting=setting)


def test_the_page_shows_what_the_records_say(tables):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert tables.with_tables(page) == page, "run `python recipes/balanced/tables.py --write`"


def test_a_page_without_a_place_for_a_table_is_refused(tables):
    with pytest.raises(ValueError, match="expected one '<!-- differences -->'"):
        tables.with_tables("# balanced")


def test_each_data_set_counts_once(tables, tmp_path):
    gains = {"a": ("a", 0.01), "a_vit": ("a", 0.03), "b": ("b", 0.01), "c": ("c", 0.03), "digits": ("digits", 0.5)}
    for name, (dataset, gain) in gains.items():
        rows = [row("concat", "balanced", 0.5, dataset), row("bounded", "balanced", 0.5 + gain, dataset)]
        write_records(records_of(rows), tmp_path / f"{name}.jsonl")
    write_records(records_of([row("concat", "balanced", 0.5, "d")]), tmp_path / "d.jsonl")
    sets = tables.sets_of(tmp_path)
    *lines, pooled = tables.difference_table(sets, "bounded: balanced", "concat: balanced").splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == [f"`{name}`" for name in gains]
    # 2, 1 and 3 points: 2 +- t(0.975, 2) / sqrt(3), which is 4.303 / 1.732
    assert [cell.strip() for cell in pooled.split("|")[1:3]] == ["**pooled**", "+2.0 [-0.5, +4.5]"]
    assert tables.difference_table(sets, "bounded: balanced", "augmented: balanced") == ""


def test_ablation_takes_changes_from_files_and_the_dominant_modality_from_plain_training(tables, tmp_path):
    def measured(text, image):  # plain training depends on text, the candidate on the image
        without = {"missing_text": text, "missing_image": image}
        return {f"validation_robust/{name}": value for name, value in {"clean": 0.5, **without}.items()}

    noisy = {"robust/noisy_text": 0.3, "robust/noisy_image": 0.7}
    plain = row("concat", "none", 0.5, **measured(0.1, 0.4), **noisy)
    base = row("bounded", "balanced", 0.5, **measured(0.4, 0.1), **noisy)
    write_records(records_of([plain, base]), tmp_path / "letters.jsonl")
    changes = tmp_path / "letters"
    changes.mkdir()
    louder = {**noisy, "robust/noisy_text": 0.2}
    write_records(
        records_of([row("bounded", "balanced", 0.52, **measured(0.4, 0.1), **louder)]), changes / "logit_bound=2.jsonl"
    )
    own = row("bounded", "balanced+mod_drop:p=0", 0.49, **measured(0.4, 0.1), **noisy)
    write_records(records_of([own]), changes / "methods.jsonl")
    found = tables.ablation_of("letters", changes, tmp_path)
    assert [one.label for one in found] == ["bounded: balanced", "logit_bound=2", "balanced+mod_drop:p=0"]
    assert [one.mean("robust/dominant_noisy") for one in found] == pytest.approx([0.3, 0.2, 0.3])
    lines = tables.ablations(tmp_path, tmp_path).splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:3]] for line in lines[-2:]] == [
        ["`logit_bound=2`", "+2.0"],
        ["`balanced+mod_drop:p=0`", "-1.0"],
    ]


def test_the_chosen_setting_is_the_recipes_own_with_what_was_searched(tables, tmp_path):
    rows = [row("bounded", "balanced", 0.5, "wiki", setting="weight_decay=0.05")]
    write_records(records_of(rows), tmp_path / "wiki.jsonl")
    assert tables.chosen("wiki", tmp_path) == "--learning_rate=0.01 --weight_decay=0.05"
    write_records(records_of([row("bounded", "none", 0.5, "wiki")]), tmp_path / "wiki.jsonl")
    with pytest.raises(ValueError, match="wiki: expected the row 'bounded: balanced'"):
        tables.chosen("wiki", tmp_path)
