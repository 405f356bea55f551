from __future__ import annotations

import json

from finished import write_run

from hf_bml.analysis.records import records_of, write_records
from hf_bml.analysis.row import Row
from hf_bml.study.run_groups import read_groups
from hf_bml.study.run_result import flat_result


def recorded(folder, **measured):
    """What a comparison's records hold of a run, with what was measured later."""
    return flat_result(json.loads((folder / "metrics.json").read_text())) | measured


def labels(path):
    return [(group.label, [run.folder.parent.name for run in group.runs]) for group in read_groups([path])[0]]


def test_rows_are_named_and_put_together_as_in_the_table(tmp_path):
    runs = tmp_path / "runs"
    first, second, tried = (runs / f"opm-0123abc{i}" / "seed-0" for i in range(3))
    for seed, folder in enumerate((first, second, tried)):
        write_run(folder, seed=seed, modulations={"opm": {}})
    found = [recorded(first, **{"robust/worst": 0.5}), recorded(second)]
    search = [
        {"setting": "default", "chosen_by": "validation_accuracy", **recorded(folder)} for folder in (first, tried)
    ]
    row = Row("opm", methods="opm", dataset="digits", source="concat", runs=found, search=search)
    write_records(records_of([row]), runs / "table.jsonl")
    assert labels(runs) == [("opm", [first.parent.name, second.parent.name])]
    (tmp_path / "link").symlink_to(runs)
    assert labels(tmp_path) == labels(runs)  # also from above, where a link leads to it again
    assert len(labels(tried)) == 1  # its own folder was given

    row.runs = found[:1]
    write_records(records_of([row]), runs / "other.jsonl")
    assert [label for label, _ in labels(runs)] == ["other/opm", "table/opm"]


def test_what_no_record_tells_stays_as_it_is(tmp_path):
    folder = write_run(tmp_path / "opm-0123abcd" / "seed-0", modulations={"opm": {}})
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')  # another program's
    row = Row("opm", methods="opm", dataset="digits", search=[recorded(folder)])
    write_records(records_of([row]), tmp_path / "unfinished.jsonl")  # a search alone: no row yet
    row.runs = [recorded(folder) | {"loss": 9.0}]
    write_records(records_of([row]), tmp_path / "elsewhere.jsonl")  # of a run in another folder
    assert labels(tmp_path) == [("opm", [folder.parent.name])]
