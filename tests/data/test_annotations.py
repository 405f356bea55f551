"""Annotation files of any content: what is written is read back, what is malformed is named by file and line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_bml.data.annotations import check_counts, class_index, find_annotation, read_json, read_rows

FIELD = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\x85"), min_size=1)
ROWS = st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("annotations")


def written(rows, delimiter=",", **options):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, **options).writerows(rows)
    return text.getvalue()


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, bom=st.booleans(), zipped=st.booleans(), ending=st.sampled_from(["\n", "\r\n"]))
def test_rows_survive_commas_quotes_marks_and_line_ends(folder, rows, bom, zipped, ending):
    data = written(rows, lineterminator=ending).encode("utf-8-sig" if bom else "utf-8")
    path = folder / ("rows.csv.gz" if zipped else "rows.csv")
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert list(read_rows(path, ("a", "b", "c")).values()) == [list(row) for row in rows]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, position=st.integers(0, 8), width=st.sampled_from([1, 2, 4, 5]))
def test_a_row_with_another_number_of_fields_is_named(folder, rows, position, width):
    position = min(position, len(rows))
    path = folder / "wrong.csv"
    path.write_text(written([*rows[:position], ["x"] * width, *rows[position:]]), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"a,b,c in file '.*wrong\.csv', line {position + 1}"):
        read_rows(path, ("a", "b", "c"))


@settings(max_examples=60, deadline=None)
@given(label=FIELD.filter(lambda text: "&" not in text))
def test_unquoted_fields_keep_commas_and_quotes(folder, label):
    path = folder / "ave.txt"
    path.write_text(f"{label}&id&0\n\nBaby cry, infant cry&id&1\n", encoding="utf-8")
    rows = read_rows(path, ("a", "b", "c"), delimiter="&", quoted=False)
    assert rows == {1: [label, "id", "0"], 3: ["Baby cry, infant cry", "id", "1"]}


@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(st.text(), st.lists(st.integers())), bom=st.booleans())
def test_json_survives_marks(folder, content, bom):
    path = folder / "content.json"
    path.write_bytes(json.dumps(content).encode("utf-8-sig" if bom else "utf-8"))
    assert read_json(path, dict) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a":\n 1,}', "JSON in file .*line 2"),
        (b"[1, 2]", "dict in file .*found a list"),
        (b"\xff\xfe\x00", "UTF-8 text in"),
    ],
)
def test_bad_json_is_named(tmp_path, content, message):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "bad.json", dict)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,"b\nc,d\n', "quotes in file .*line"),
        ("a,b\nc,\n", "line 2, found 'c,'"),
        ("a,b\nc,d,e\n", "line 2, found 'c,d,e'.*needs quotes"),
    ],
)
def test_bad_rows_are_named(tmp_path, content, message):
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / "bad.csv", ("a", "b"))


def test_truncated_archive_is_named(tmp_path):
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"a,b\n" * 999)[:20])
    with pytest.raises(ValueError, match=r"rows\.csv\.gz"):
        read_rows(tmp_path / "rows.csv.gz", ("a", "b"))


def test_find_annotation_takes_the_first_name_also_zipped(tmp_path):
    (tmp_path / "b.json.gz").touch()
    assert find_annotation(tmp_path, ["a.json", "b.json"], "there") == tmp_path / "b.json.gz"
    with pytest.raises(FileNotFoundError, match=r"a\.json or c\.json.*from there"):
        find_annotation(tmp_path, ["a.json", "c.json"], "there")


def test_class_index_names_place_and_closest_class():
    with pytest.raises(ValueError, match=r"'x\.csv', line 7, found 'hapy'. Did you mean 'happy'"):
        class_index("hapy", {"happy": 0, "sad": 1}, Path("x.csv"), "line 7")


def test_other_counts_than_the_release_are_logged(caplog):
    with caplog.at_level(logging.WARNING):
        check_counts({"train": 3, "test": 2}, {"train": 3, "test": 2}, "Pets", Path("x.csv"))
        assert not caplog.records
        check_counts({"train": 3}, {"train": 3, "test": 2}, "Pets", Path("x.csv"))
    assert "{'test': 0}, the release {'test': 2}" in caplog.text


def test_real_class_list_with_byte_order_mark(require_data_file):
    rows = read_rows(require_data_file("annotations/cremad_stat.csv.gz"), ("emotion",))
    assert [name for (name,) in rows.values()] == ["NEU", "HAP", "SAD", "FEA", "DIS", "ANG"]
