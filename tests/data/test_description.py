from __future__ import annotations

import pytest

from hf_bml.data import dataset_names
from hf_bml.data.description import describe_dataset


def test_topics_in_one_line_each():
    topics = describe_dataset("digits")
    assert list(topics) == ["Summary", "Source", "Licence", "Pitfalls"]
    assert (
        topics["Summary"].startswith("Embedded default:") and "**This data set is constructed**" in topics["Summary"]
    )
    assert topics["Licence"].startswith("UCI data CC BY 4.0;")
    assert "no evidence for a method" in topics["Pitfalls"]
    assert not any("\n" in text for text in topics.values())


@pytest.mark.parametrize("name", sorted(set(dataset_names()) - {"from_columns"}))
def test_every_data_set_states_its_licence(name):
    topics = describe_dataset(name)
    assert topics["Licence"] and topics["Summary"]
    assert name == "digits" or "Privacy" in topics  # people are seen or heard in all others


def test_other_peoples_functions_say_nothing():
    assert describe_dataset("datasets:load_dataset") == {}
    with pytest.raises(ValueError, match="Did you mean 'digits'"):
        describe_dataset("digit")
