from __future__ import annotations

import base64
import re

import pytest
from PIL import Image

from hf_bml.report.page import Cards, Figure, Section, Table, Text, render_page

EVIL = "<script>alert('x')</script> & \"quotes\""


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_everything_is_in_the_page_and_escaped(picture):
    parts = [
        Cards([(EVIL, [EVIL])]),
        Text(EVIL, [EVIL], code=True),
        Table(EVIL, [EVIL, "b"], [[EVIL, EVIL]]),
        Figure(picture, EVIL, EVIL),
    ]
    page = render_page(EVIL, EVIL, [Section("one", EVIL, parts), Section("empty", "nothing")])
    assert "<script" not in page and "alert(" in page
    assert page.count("&lt;script&gt;") >= 12
    [source] = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(source) == picture.read_bytes()
    assert 'width="30" height="20"' in page
    assert "nothing" not in page  # a section without parts


def test_it_asks_nobody_for_anything(picture):
    page = render_page("t", "s", [Section("one", "One", [Figure(picture, "c", "a")])])
    assert not re.search(r"https?:|//\w|@import|url\(|<link|<script", page.replace("data:image/png;base64,", ""))


def test_tables_name_their_rows_and_columns():
    page = render_page("t", "s", [Section("one", "One", [Table("caption", ["x", "y"], [["1", "2"]], folded=True)])])
    assert '<th scope="col">x</th>' in page and '<th scope="row">1</th><td>2</td>' in page
    assert "<caption>caption</caption>" in page and "<details>" in page


def test_of_a_wide_table_the_first_columns_are_seen_and_the_reader_opens_the_rest():
    header = [f"h{column}" for column in range(8)]
    for columns, folds in ((7, 0), (8, 1)):
        table = Table("caption", header[:columns], [[f"c{column}" for column in range(columns)]])
        page = render_page("t", "s", [Section("one", "One", [table])])
        before, *rest = page.split("<details")
        assert len(rest) == folds and before.count('<th scope="col">') == (6 if folds else 7)
        if folds:
            assert "All 8 columns" in rest[0] and rest[0].count('<th scope="col">') == 8 and "<td>c7</td>" in rest[0]


def test_small_figures_stand_in_pairs(picture):
    small = Figure(picture, "c", "a", wide=False)
    page = render_page("t", "s", [Section("one", "One", [Figure(picture, "c", "a"), small, small, Text("end")])])
    assert page.count('<div class="pair">') == 1
    inside = page.split('<div class="pair">')[1].split("<p>end</p>")[0]
    assert inside.count("<figure>") == 2
