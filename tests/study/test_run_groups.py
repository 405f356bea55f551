from __future__ import annotations

import pytest
from finished import write_run

from hf_bml.study.run_groups import flattened, read_groups

OPM = {"modulations": {"opm": {"q_base": 0.3}}}


def labels(*paths):
    groups, _ = read_groups(paths)
    return [group.label for group in groups]


def test_seeds_make_a_group(tmp_path):
    for seed in (10, 2):
        write_run(tmp_path / "opm" / f"seed-{seed}", seed=seed, **OPM)
    [group], unfinished = read_groups([tmp_path / "opm"])
    assert (group.label, group.row.seeds, group.methods, unfinished) == ("opm", [2, 10], "opm", [])
    assert group.place == tmp_path / "opm"
    assert group.options == {"dataset": "digits", "learning_rate": 0.1, "modulations.opm.q_base": 0.3}
    both, _ = read_groups([tmp_path / "opm" / "seed-2", tmp_path / "opm" / "seed-10", tmp_path / "opm"])
    assert [len(group.runs) for group in both] == [2]  # none twice


def test_below_a_folder_plain_training_comes_first_and_fewer_modalities_last(tmp_path):
    for name, options in (
        ("a_opm", OPM),
        ("concat", {}),
        ("unimodal_audio", {"modalities": ("audio",)}),
    ):
        write_run(tmp_path / name, **options)
    assert labels(tmp_path) == ["concat", "a_opm", "unimodal_audio"]
    assert labels(tmp_path / "a_opm", tmp_path / "concat") == ["a_opm", "concat"]  # as they are given


def test_folders_of_a_comparison_are_named_by_their_methods(tmp_path):
    write_run(tmp_path / "none-0123abcd" / "seed-0")
    write_run(tmp_path / "opm-0123abce" / "seed-0", **OPM)
    write_run(tmp_path / "opm-0123abcf" / "seed-0", modulations={"opm": {}})
    assert labels(tmp_path) == ["none", "opm", "opm:q_base=0.3"]


def test_equal_names_are_told_apart(tmp_path):
    write_run(tmp_path / "opm-0123abce" / "seed-0", **OPM)
    write_run(tmp_path / "opm-0123abcf" / "seed-0", learning_rate=0.2, **OPM)
    assert labels(tmp_path) == ["opm:q_base=0.3 (learning_rate=0.1)", "opm:q_base=0.3 (learning_rate=0.2)"]
    write_run(tmp_path / "x" / "opm")
    write_run(tmp_path / "y" / "opm")
    assert labels(tmp_path / "x", tmp_path / "y") == ["x/opm", "y/opm"]


def test_unfinished_runs_are_found(tmp_path):
    write_run(tmp_path / "concat")
    (tmp_path / "opm" / "checkpoint-3").mkdir(parents=True)
    groups, unfinished = read_groups([tmp_path])
    assert [group.label for group in groups] == ["concat"] and unfinished == [tmp_path / "opm"]


def test_other_data_is_another_family(tmp_path):
    first = write_run(tmp_path / "a", dataset_options={"snr": 1})
    second = write_run(tmp_path / "b", dataset_options={"snr": 2})
    groups, _ = read_groups([first, second])
    assert groups[0].data != groups[1].data


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "metrics.json").write_text("{"), r"metrics\.json cannot be read"),
        (lambda run: (run / "metrics.json").write_text("{}"), r"metrics\.json: expected the entry 'test', found \[\]"),
        (lambda run: (run / "config.yaml").unlink(), r"config\.yaml cannot be read"),
        (lambda run: (run / "probe.json").write_text(""), r"probe\.json cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, message):
    damage(write_run(tmp_path / "run"))
    with pytest.raises(ValueError, match=message):
        read_groups([tmp_path / "run"])


def test_folders_without_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        read_groups([tmp_path / "nowhere"])
    (tmp_path / "opm" / "checkpoint-3").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"holds no finished run.*; unfinished: .*opm"):
        read_groups([tmp_path])


def test_flattened():
    assert flattened({"a": {"b": {"c": 1}, "d": {}}, "e": None}) == {"a.b.c": 1, "a.d": {}, "e": None}
