from __future__ import annotations

import csv
import json

import pytest
from PIL import Image

from hf_bml.cli import main
from hf_bml.study.sweep import as_arguments, read_varied


@pytest.fixture
def sensitivity(own, trained):
    """Runs the command on `own.yaml`, and returns what it trains."""

    def sensitivity(*arguments, command="sensitivity", status=0):
        before = len(trained)
        assert main([command, "own.yaml", "--output_dir", "runs", "--optim", "sgd", *arguments]) == status
        return [(own.learning_rate, own.modulations, own.seed) for own in (r.training for r in trained[before:])]

    return sensitivity


def test_one_option_and_two_then_nothing_twice(sensitivity, tmp_path, capsys):
    one = ["--vary", "modulations.opm.q_base=0.3,0.5", "--seeds", "0", "1", "--baseline", "--learning_rate", "0.1"]
    opm = [{"opm": {"q_base": q}} for q in (0.3, 0.5)]
    assert sensitivity(*one) == [(0.1, m, seed) for m in (None, *opm) for seed in (0, 1)]
    runs = tmp_path / "runs"
    text = (runs / "sensitivity.md").read_text()
    assert text in capsys.readouterr().out and "best validation" in text and "own.yaml" not in text
    with open(runs / "sensitivity.csv", newline="") as file:
        records = list(csv.DictReader(file))
    assert [record["modulations.opm.q_base"] for record in records] == ["", "0.3", "0.5"]
    finished = [json.loads(path.read_text()) for path in sorted(runs.glob("none-*/seed-*/metrics.json"))]
    mean = sum(result["test"]["accuracy"] for result in finished) / 2
    assert float(records[0]["accuracy_mean"]) == pytest.approx(mean)
    assert Image.open(runs / "sensitivity.png").size[0] > 500

    two = ["--vary", "learning_rate=1e-1,1e-2", "--vary", "modulations.opm.q_base=0.3,0.5", "--seeds", "0"]
    assert sensitivity(*two, "--name", "grid") == [(0.01, m, 0) for m in opm]  # the others are there
    assert (runs / "grid.png").exists() and len((runs / "grid_runs.csv").read_text().splitlines()) == 5
    compared = ["--modulations", "opm:q_base=0.3", "none", "--seeds", "0", "--learning_rate", "0.1"]
    assert sensitivity(*compared, command="compare") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --vary"),
        (["--vary", "learning_rate"], "expected OPTION=VALUE,VALUE, found 'learning_rate'"),
        (["--vary", "learnin_rate=1,2"], "Did you mean 'learning_rate'"),
        (["--vary", "learning_rate=fast,slow"], "invalid float value: 'fast'"),
        (["--vary", "learning_rate=1,1"], "a value of learning_rate is given twice"),
        (["--vary", "learning_rate=1,1.0"], "learning_rate=1 and learning_rate=1.0 compute the same"),
        (["--vary", "learning_rate=1", "--vary", "learning_rate=2"], "learning_rate is given twice"),
        (["--vary", "modulations.opm.q_base=0.3,3"], "q_base=3: "),
        (["--vary", "modulations.opm.q_bse=0.3"], "Did you mean 'q_base'"),
        (["--vary", "seed=1,2"], "seed has an option of its own, --seeds"),
        (["--vary", "fusion=[concat"], "cannot be read as YAML"),
        (["--vary", "fusion=concat,sum", "--compare", "acc"], "Did you mean 'accuracy'"),
        (["--vary", "fusion=concat,sum", "--push_to_hub", "true"], "the 2 runs would overwrite each other on the Hub"),
        (["--vary", "fusion=concat,sum", "--name", "a/b"], "--name must be the beginning of a file name"),
    ],
)
def test_bad_input_is_one_line_before_the_first_run(sensitivity, tmp_path, capsys, arguments, message):
    assert sensitivity(*arguments, status=2) == []
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("hf-bml sensitivity: ") and message in error
    assert not (tmp_path / "runs").exists()


def test_several_recipes_are_refused(own, capsys):
    own.with_name("other.yaml").write_text(own.read_text())
    assert main(["sensitivity", "own.yaml", "other.yaml", "--vary", "fusion=concat"]) == 2
    assert "expected one recipe, found ['own.yaml', 'other.yaml']" in capsys.readouterr().err


def test_three_options_have_no_picture(sensitivity, tmp_path, capsys):
    vary = ["--vary", "learning_rate=0.1", "--vary", "fusion=concat", "--vary", "head_dropout=0.0"]
    assert len(sensitivity(*vary)) == 1
    assert "sensitivity.png is not drawn: it shows one or two options, found 3" in capsys.readouterr().out
    assert not (tmp_path / "runs" / "sensitivity.png").exists()


def test_values_are_yaml():
    assert read_varied(["interaction=null,mmtm", "modalities.a.channels=[4, 8],[8]"]) == {
        "interaction": [None, "mmtm"],
        "modalities.a.channels": [[4, 8], [8]],
    }


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("learning_rate", 0.1, ["--learning_rate=0.1"]),
        ("bf16", True, ["--bf16=true"]),
        ("head_hidden_sizes", [4, 8], ["--head_hidden_sizes", "4", "8"]),
        ("interaction", None, []),
        ("interaction_options", {"ratio": 2}, ['--interaction_options={"ratio": 2}']),
        ("modulations.opm.q_base", 0.3, ["--modulations.opm.q_base=0.3"]),
        ("modalities.a.channels", [4, 8], ["--modalities.a.channels=[4, 8]"]),
    ],
)
def test_arguments(option, value, expected):
    assert as_arguments(option, value) == expected
