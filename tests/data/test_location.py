from __future__ import annotations

from pathlib import Path

import pytest

from hf_bml.data.location import find_data_file, find_data_folder


def put(folder: Path, text: str) -> Path:
    file = folder / "corpus" / "rows.parquet"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return folder


def test_explicit_folder_beats_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_BML_DATA", str(put(tmp_path / "environment", "environment")))
    explicit = put(tmp_path / "explicit", "explicit")
    assert find_data_file("corpus/rows.parquet", explicit).read_text() == "explicit"
    assert find_data_file("corpus/rows.parquet").read_text() == "environment"


@pytest.mark.parametrize("value", [None, ""])
def test_falls_back_to_shared_data_beside_the_current_directory(tmp_path, monkeypatch, value):
    put(tmp_path / "shared" / "data", "shared")
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    if value is None:
        monkeypatch.delenv("HF_BML_DATA", raising=False)
    else:
        monkeypatch.setenv("HF_BML_DATA", value)
    assert find_data_file("corpus/rows.parquet").read_text() == "shared"


def test_missing_file_names_file_folder_and_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_BML_DATA", str(put(tmp_path / "environment", "unused")))
    with pytest.raises(FileNotFoundError) as error:
        find_data_file("corpus/rows.parquet", tmp_path / "elsewhere")
    for part in ("corpus/rows.parquet", str(tmp_path / "elsewhere"), "data_dir", "HF_BML_DATA"):
        assert part in str(error.value)
    assert str(tmp_path / "environment") not in str(error.value)


def test_a_folder_is_no_file(tmp_path):
    put(tmp_path, "rows")
    with pytest.raises(FileNotFoundError):
        find_data_file("corpus", tmp_path)


def test_release_folder_is_given_or_below_the_data_folder(tmp_path, monkeypatch):
    (tmp_path / "cremad").mkdir()
    assert find_data_folder("cremad", tmp_path) == tmp_path
    monkeypatch.setenv("HF_BML_DATA", str(tmp_path))
    assert find_data_folder("cremad") == tmp_path / "cremad"
    with pytest.raises(FileNotFoundError, match=r"folder of 'ave'.*ave\. Pass data_dir"):
        find_data_folder("ave")
