from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import yaml
from PIL import Image

from hf_bml import MODULATIONS, Modulation, MultimodalBalancedTrainer
from hf_bml.cli import main
from hf_bml.modulation import Needs, expanded
from hf_bml.study import experiment

METHODS = ["--modulations", "none", "opm", "ogm:alpha=0.3+opm:q_base=0.2"]


@pytest.fixture
def compare(own, monkeypatch):
    """Runs the command on `own.yaml` and counts what it trains."""
    run = experiment.run

    def compare(*arguments, recipes=("own.yaml",), stop_after=None, status=0):
        trained = []

        def counting(recipe):
            if len(trained) == stop_after:
                raise KeyboardInterrupt
            trained.append((recipe.training.modulations, recipe.training.seed))
            return run(recipe)

        monkeypatch.setattr(experiment, "run", counting)
        assert main(["compare", *recipes, "--output_dir", "runs", "--optim", "sgd", *arguments]) == status
        return trained

    return compare


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_table_csv_json_and_picture(compare, tmp_path, capsys):
    trained = compare(*METHODS, "--seeds", "0", "1", "--name", "table", "--control", "opm")
    assert [(sorted(modulations or {}), seed) for modulations, seed in trained] == [
        ([], 0), ([], 1), (["opm"], 0), (["opm"], 1), (["ogm", "opm"], 0), (["ogm", "opm"], 1)
    ]  # fmt: skip
    runs = tmp_path / "runs"
    printed = capsys.readouterr().out
    text = (runs / "table.md").read_text()
    assert text in printed and "run 6 of 6" in printed
    header, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n\n")[0].split("\n")
    ]
    labels, names = ["none", "opm", "ogm:alpha=0.3+opm:q_base=0.2"], ["none", "opm", "ogm+opm"]
    assert [line[0] for line in lines[1:]] == labels
    assert "accuracy: difference to opm [95 % interval]" in header

    folders = {folder.name.rpartition("-")[0]: folder for folder in runs.iterdir() if folder.is_dir()}
    assert set(folders) == set(names)
    finished = {
        name: [json.loads((folder / f"seed-{seed}" / "metrics.json").read_text()) for seed in (0, 1)]
        for name, folder in folders.items()
    }
    accuracies = {name: np.array([result["test"]["accuracy"] for result in both]) for name, both in finished.items()}
    seconds = {name: np.mean([result["train_seconds"] for result in both]) for name, both in finished.items()}
    records = rows_of(runs / "table.csv")
    for record, line, name in zip(records, lines[1:], names, strict=True):
        mean, spread = accuracies[name].mean(), accuracies[name].std(ddof=1)
        assert line[header.index("accuracy")] == f"{100 * mean:.1f} ± {100 * spread:.1f}"
        assert float(record["accuracy_mean"]) == pytest.approx(mean)
        assert float(record["accuracy_a_mean"]) == pytest.approx(
            np.mean([result["test"]["accuracy_a"] for result in finished[name]])
        )
        relative = seconds[name] / seconds["none"]
        assert line[header.index("training time (none = 1)")] == f"{relative:.2f}"
        if name != "none":
            difference = accuracies[name] - accuracies["none"]
            half = 12.7062047 * difference.std(ddof=1) / math.sqrt(2)
            assert float(record["accuracy_minus_baseline"]) == pytest.approx(difference.mean())
            high = record["accuracy_minus_baseline_high"]
            if half > 1e-9:
                assert float(high) == pytest.approx(difference.mean() + half)
            else:  # both seeds differ alike: no interval
                assert high == ""
    assert [line["method"] for line in rows_of(runs / "table_runs.csv")] == [name for name in labels for _ in (0, 1)]
    per_run = json.loads((runs / "table.json").read_text())
    assert [run["accuracy"] for run in per_run["opm"]] == list(accuracies["opm"])
    assert Image.open(runs / "table.png").size[0] > 500


def test_an_interrupted_comparison_trains_only_what_is_missing(compare, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compare(*METHODS, "--seeds", "0", "1", stop_after=2)
    assert list(json.loads((tmp_path / "runs" / "comparison.json").read_text())) == ["none"]
    assert not (tmp_path / "runs" / "comparison.md").exists()
    rest = compare(*METHODS, "--seeds", "0", "1")
    assert [seed for _, seed in rest] == [0, 1, 0, 1] and all(modulations for modulations, _ in rest)
    assert compare(*METHODS, "--seeds", "0", "1") == []
    assert [seed for _, seed in compare(*METHODS, "--seeds", "0", "2")] == [2, 2, 2]


def test_a_run_that_stopped_halfway_goes_on_from_its_checkpoint(compare, tmp_path, monkeypatch):
    options = ["--modulations", "none", "--max_steps", "4", "--save_strategy", "steps", "--save_steps", "1"]
    options += ["--per_device_train_batch_size", "2"]
    step = MultimodalBalancedTrainer.training_step

    def third_fails(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(MultimodalBalancedTrainer, "training_step", third_fails)
    with pytest.raises(KeyboardInterrupt):
        compare(*options)
    monkeypatch.setattr(MultimodalBalancedTrainer, "training_step", step)
    assert len(compare(*options)) == 1
    [metrics] = (tmp_path / "runs").glob("none-*/seed-42/metrics.json")
    result = json.loads(metrics.read_text())
    assert result["resumed_from"].endswith("checkpoint-2")
    assert "| - " in (tmp_path / "runs" / "comparison.md").read_text()  # no training time
    assert compare(*options, "--resume_from_checkpoint", "false", "--output_dir", "anew") != []
    [anew] = (tmp_path / "anew").glob("none-*/seed-42/metrics.json")
    assert json.loads(anew.read_text())["test"] == result["test"]
    assert json.loads(anew.read_text())["resumed_from"] is None


def test_nothing_is_trained_twice_in_other_words(compare, own, tmp_path):
    assert len(compare(*METHODS, "--seeds", "0")) == 3
    assert (
        compare("--modulations", "none", "opm:q_base=0.5,lam=0.5", "--modulations.opm.preset", "paper", "--seeds", "0")
        == []
    )
    assert compare("--modulations", "opm", "opm:q_base=0.5", "--seeds", "0", "--fusion", "concat") == []
    own.rename(tmp_path / "renamed.yaml")
    other = ["ogm+opm", "--modulations.ogm.alpha", "0.3", "--modulations.opm.q_base=2e-1"]
    assert compare("--modulations", *other, "--seeds", "0", "--max_steps", "2", recipes=["renamed.yaml"]) == []


def test_a_changed_recipe_is_a_new_run_and_old_ones_stay(compare, own, tmp_path):
    assert len(compare("--modulations", "none", "--seeds", "0")) == 1
    text = own.read_text()
    own.write_text(text.replace("max_steps: 2", "max_steps: 3"))
    assert len(compare("--modulations", "none", "--seeds", "0")) == 1
    own.write_text(text)
    assert compare("--modulations", "none", "--seeds", "0") == []
    assert len(list((tmp_path / "runs").glob("none-*"))) == 2


def test_a_recipe_may_name_its_modulations_only(compare, own, tmp_path):
    own.write_text(own.read_text() + "modulations: opm+balanced\n")
    assert [modulations for modulations, _ in compare("--modulations", "none", "opm:q_base=0.4")] == [
        None,
        {"opm": {"q_base": 0.4}},
    ]


def test_options_of_the_recipe_and_of_dotted_names(compare, own, tmp_path):
    own.write_text(own.read_text() + "modulations:\n  opm: {q_base: 0.2, lam: 0.7}\n")
    dotted = ["--modulations.opm.lam", "0.3", "--modulations.ogm.alpha=0.1"]
    trained = compare("--modulations", "none", "opm", "ogm+opm:q_base=0.4", *dotted)
    assert [modulations for modulations, _ in trained] == [
        None,
        {"opm": {"q_base": 0.2, "lam": 0.3}},
        {"ogm": {"alpha": 0.1}, "opm": {"q_base": 0.4, "lam": 0.3}},
    ]
    labels = [line["method"] for line in rows_of(tmp_path / "runs" / "comparison.csv")]
    assert labels == ["none", "opm:q_base=0.2,lam=0.3", "ogm:alpha=0.1+opm:q_base=0.4,lam=0.3"]


def test_several_recipes(compare, own, tmp_path):
    (tmp_path / "sum.yaml").write_text(own.read_text() + "fusion: sum\n")
    assert len(compare("--modulations", "none", "opm", recipes=["own.yaml", "sum.yaml"])) == 4
    records = rows_of(tmp_path / "runs" / "comparison.csv")
    assert [(line["recipe"], line["method"]) for line in records] == [
        ("own", "none"), ("own", "opm"), ("sum", "none"), ("sum", "opm")
    ]  # fmt: skip
    results = json.loads((tmp_path / "runs" / "comparison.json").read_text())
    assert list(results) == ["own: none", "own: opm", "sum: none", "sum: opm"]
    assert float(records[3]["relative_train_seconds"]) == pytest.approx(
        results["sum: opm"][0]["train_seconds"] / results["sum: none"][0]["train_seconds"]
    )


@pytest.fixture
def with_heads(monkeypatch):
    """A modulation that needs auxiliary heads."""

    class WithHeads(Modulation):
        name = "with_heads"
        phase = "drop"

        def needs(self, modalities):
            return Needs(model_options={"auxiliary_loss_weight": 0.5})

        def attach(self, run):
            assert list(run.model.auxiliary_heads) == ["a", "b"]

    monkeypatch.setitem(MODULATIONS, "with_heads", WithHeads)


def test_a_method_gets_the_model_that_it_needs(compare, with_heads, own, tmp_path):
    assert len(compare("--modulations", "none", "with_heads+opm")) == 2
    text = (tmp_path / "runs" / "comparison.md").read_text()
    assert "| none           |                           |" in text
    assert "| with_heads+opm | auxiliary_loss_weight=0.5 |" in text
    assert "Add the method none@with_heads for" in text
    trained = compare("--modulations", "none", "with_heads", "none@with_heads")
    assert [modulations for modulations, _ in trained] == [{"with_heads": {}}, None]
    records = rows_of(tmp_path / "runs" / "comparison.csv")
    assert [line["baseline"] for line in records] == ["none", "none@with_heads", "none"]
    [config] = (tmp_path / "runs").glob("with_heads-*/seed-42/config.json")
    assert json.loads(config.read_text())["auxiliary_loss_weight"] == 0.5

    own.write_text(own.read_text() + "auxiliary_loss_weight: 0.5\n")  # then there is nothing to change
    compare("--modulations", "none", "with_heads")
    assert {line["model"] for line in rows_of(tmp_path / "runs" / "comparison.csv")} == {""}


UNSUITABLE = "own, {}: not applicable. greedy needs a model with interaction: mmtm, which this recipe does not allow: "


def test_a_method_that_the_encoders_do_not_allow_is_left_out(compare, tmp_path, capsys):
    """MMTM, on which greedy works, joins the stages of CNNs; these are sequences of vectors."""
    methods = ["none", "greedy", "none@greedy", "opm"]
    assert [modulations for modulations, _ in compare("--modulations", *methods)] == [None, {"opm": {}}]
    printed, text = capsys.readouterr().out, (tmp_path / "runs" / "comparison.md").read_text()
    for label in ("greedy", "none@greedy"):
        assert UNSUITABLE.format(label) in printed and UNSUITABLE.format(label) in text
    assert "type 'sequence' does not run stage by stage" in text and "leave greedy out of --modulations." in text
    assert compare("--modulations", "greedy", status=2) == []  # nothing is left to compare
    assert UNSUITABLE.format("greedy") in capsys.readouterr().err


def test_a_text_model_on_the_hub_is_known_to_be_unsuitable(compare, own, capsys):
    """Without a download."""
    own.write_text(
        own.read_text().replace("  b: {<<: *encoder, input_size: 1}", "  b: {type: transformers, model: x/y}")
    )
    assert compare("--modulations", "greedy", status=2) == []
    assert UNSUITABLE.format("greedy") in capsys.readouterr().err


def test_a_bundle_is_a_row_and_its_run_names_what_it_stands_for(compare, tmp_path):
    compare("--modulations", "balanced", "balanced+opm", "--fusion", "bounded", "--name", "table")
    assert [record["method"] for record in rows_of(tmp_path / "runs" / "table.csv")] == ["balanced", "balanced+opm"]
    [folder] = (tmp_path / "runs").glob("multi_loss+mod_drop-*/seed-42")
    recipe = yaml.safe_load((folder / "config.yaml").read_text())
    assert recipe["modulations"] == expanded("balanced") and recipe["fusion"] == "bounded"
    logs = json.loads((folder / "trainer_state.json").read_text())["log_history"][0]
    assert {"multi_loss/loss_a", "mod_drop/drop_fraction_b"} <= set(logs)


def test_no_other_model_for_a_checkpoint(compare, with_heads, tmp_path, capsys):
    compare("--modulations", "none")
    [weights] = (tmp_path / "runs").glob("none-*/seed-42/model.safetensors")
    options = ["--modulations", "with_heads", "--model_name_or_path", str(weights.parent)]
    assert compare(*options, status=2) == []
    assert "starts from the checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --modulations"),
        (["--modulations", "opn"], "Did you mean 'opm'"),
        (["--modulations", "none", "opm:q_bse=0.2"], "own.yaml, opm:q_bse=0.2: "),
        (["--modulations", "none", "opm:q_base=2"], "q_base must be a number in (0, 1), found 2"),
        (["--modulations", "opm", "opm"], "--modulations: opm is given twice"),
        (["--modulations", "opm", "--modulations.ogm.alpha", "1"], "no method contains 'ogm'"),
        (["--modulations", "opm:lam=1", "opm", "--modulations.opm.lam", "1"], "opm:lam=1 is given twice"),
        (["--modulations", "opm", "--modulations.opm", "3"], "modulations must be a mapping"),
        (["--modulations", "opm", "--control", "ogm"], "--control: no method 'ogm'"),
        (["--modulations", "opm", "--compare", "acc"], "Did you mean 'accuracy'"),
        (["--modulations", "opm", "--seeds", "1", "1"], "--seeds must differ"),
        (["--modulations", "opm", "--seeds", "one"], "invalid int value: 'one'"),
        (["--modulations", "opm", "--name", "a/b"], "--name must be the beginning of a file name"),
        (["--modulations", "opm", "--learnin_rate", "1"], "Did you mean 'learning_rate'"),
        (["--modulations", "opm", "--resume_from_checkpoint", "x/y"], "must be auto or false"),
        (["--modulations", "none", "--dataset_options.lable", "1"], "Did you mean 'label'"),
        (["--modulations", "none", "--fusion", "conact"], "Did you mean 'concat'"),
    ],
)
def test_bad_input_is_one_line_before_the_first_run(compare, tmp_path, capsys, arguments, message):
    assert compare(*arguments, status=2) == []
    captured = capsys.readouterr().err
    assert message in captured and "Traceback" not in captured
    assert [line for line in captured.splitlines() if line.startswith("hf-bml compare: ")] == [
        captured.splitlines()[-1]
    ]
    assert not (tmp_path / "runs").exists()


def test_missing_recipe(compare, capsys):
    assert compare("--modulations", "none", recipes=["nowhere.yaml"], status=2) == []
    assert "nowhere.yaml does not exist" in capsys.readouterr().err


def test_help_explains_methods_and_lists_options(capsys):
    assert main(["compare", "--help"]) == 0
    shown = capsys.readouterr().out
    for text in ("none@METHOD", "--control METHOD", "hf-bml options", "METHOD-HASH"):
        assert text in shown
    assert shown.count("--modulations METHOD") == 2  # usage and option: it replaces the recipe's own
