from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from recipe_parts import QUIET, TWO_STEPS, VECTORS

from hf_bml.analysis.robustness import SUMMARY
from hf_bml.cli import main
from hf_bml.study.after_run import AfterRun
from hf_bml.study.comparison import plan_methods, sampled_settings
from hf_bml.study.comparison_parser import comparison_parser
from hf_bml.study.finished_run import load_run, predict
from hf_bml.study.parser import recipe_parser, series_options
from hf_bml.study.run_groups import read_groups
from hf_bml.study.series import run_plan
from hf_bml.study.setting_search import choose_settings

RECIPE = f"{VECTORS}{TWO_STEPS}{QUIET}optim: sgd\nlearning_rate: 0.1\n"
STARTED = ["--from_unimodal", "models", "--fusion", "average_logits"]
FEATURES = json.dumps({name: {"type": "features", "input_size": 2} for name in ("audio", "visual")})
SEGMENTS = ["--task", "segment_classification", "--architecture", "avsdn", "--modalities", FEATURES]


@pytest.fixture
def compare(tmp_path, monkeypatch, trained):
    """Runs the command on `own.yaml`, and returns the recipes that it trains."""
    (tmp_path / "own.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)

    def compare(*arguments, status=0):
        before = len(trained)
        assert main(["compare", "own.yaml", "--output_dir", "runs", *arguments]) == status
        return trained[before:]

    return compare


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_of_unimodal_models_share_their_parts(compare, tmp_path, capsys):
    methods = ["ensemble", "ensemble:average=logits", "unimodal_init", "unimodal"]
    trained = compare("--modulations", *methods, "--seeds", "0")
    assert [(list(r.model.modalities), r.model.from_unimodal) for r in trained] == [
        (["audio"], None), (["visual"], None), (["audio", "visual"], "models"), (["audio", "visual"], "models"),
        (["audio", "visual"], "encoders"),
    ]  # fmt: skip
    audio, visual, probabilities, logits, joint = (load_run(r.training.output_dir) for r in trained)
    parts = [predict(run.trainer(), run.dataset["test"]).logits for run in (audio, visual)]
    own = [np.exp(part) / np.exp(part).sum(1, keepdims=True) for part in parts]
    together = predict(probabilities.trainer(), probabilities.dataset["test"])
    np.testing.assert_allclose(np.exp(together.logits), sum(own) / 2, rtol=1e-4)
    np.testing.assert_allclose(predict(logits.trainer(), logits.dataset["test"]).logits, sum(parts) / 2, atol=1e-5)
    without = predict(probabilities.trainer(), probabilities.dataset["test"], absent=["visual"])
    np.testing.assert_allclose(np.exp(without.logits), own[0], rtol=1e-4)

    result = json.loads((joint.folder / "metrics.json").read_text())
    assert result["trainings"] == 3 and result["parts"] == {"audio": str(audio.folder), "visual": str(visual.folder)}
    unimodal = records(tmp_path / "runs" / "comparison.jsonl")[-1]
    results = [json.loads((run.folder / "metrics.json").read_text()) for run in (audio, visual)]
    accuracies = [result["validation"]["accuracy"] for result in results]
    assert unimodal["run"]["validation_accuracy"] == max(accuracies)
    assert unimodal["setting"] == f"modality={'audio' if accuracies[0] >= accuracies[1] else 'visual'}"
    folders = {folder.name.rpartition("-")[0] for folder in (tmp_path / "runs").iterdir() if folder.is_dir()}
    assert folders == {"none", "ensemble", "unimodal_init"}
    assert compare("--modulations", *methods, "--seeds", "0") == []
    groups, _ = read_groups(["runs"])
    assert {group.label for group in groups} == set(methods) and groups[-1].label == "unimodal"
    left = {"audio", "visual"} - set(groups[-1].modalities)  # the other part is shown as no group of its own
    assert [{part.modalities[0] for part in group.parts} for group in groups] == [left, left, left, set()]
    [alone] = {part.first.folder for group in groups for part in group.parts}
    assert [group.modalities for group in read_groups([alone])[0]] == [list(left)]
    assert main(["report", "runs"]) == 0
    assert (
        f"(trained alone {100 * results[left == {'visual'}]['test']['accuracy']:.1f}"
        in Path("report/report.html").read_text()
    )


def test_joint_training_starts_from_the_encoders_of_the_parts(compare):
    *parts, joint = compare("--modulations", "unimodal_init+opm", "--seeds", "0", "--learning_rate", "0")
    assert joint.training.modulations == {"opm": {}}
    alone = [load_run(part.training.output_dir).trainer().model.state_dict() for part in parts]
    together = load_run(joint.training.output_dir).trainer().model.state_dict()
    encoders = {name: value for own in alone for name, value in own.items() if name.startswith("encoders.")}
    assert encoders and all(together[name].equal(value) for name, value in encoders.items())


def test_methods_learn_from_the_parts(compare, tmp_path):
    methods = ["unimodal_init", "umt", "g2d:share=0.25"]
    *parts, _, umt, g2d = compare("--modulations", *methods, "--seeds", "0")
    folders = {name: part.training.output_dir for name, part in zip(("audio", "visual"), parts, strict=True)}
    assert umt.training.trained_alone == g2d.training.trained_alone == folders
    for recipe in (umt, g2d):
        result = json.loads(Path(recipe.training.output_dir, "metrics.json").read_text())
        assert result["trainings"] == 3 and result["parts"] == folders
        assert load_run(recipe.training.output_dir).trainer().evaluate()["eval_loss"] > 0  # without the teachers
    assert compare("--modulations", *methods, "--seeds", "0") == []
    named = json.dumps(folders)
    [alone] = compare("--modulations", "umt:weight=1", "--seeds", "0", "--trained_alone", named)
    assert not alone.parts and alone.training.trained_alone == folders


def test_every_method_tries_as_many_settings(compare, tmp_path):
    search = ["--search", "opm.q_base=0.2,0.8", "--search", "*.learning_rate=0.1,0.3", "--budget", "3"]
    trained = compare("--modulations", "none", "opm", "--seeds", "0", "1", "--select", "loss", *search)
    found = records(tmp_path / "runs" / "comparison.jsonl")
    tried = {label: [r for r in found if r["search"] and r["label"] == label] for label in ("none", "opm")}
    assert [r["run"]["setting"] for r in tried["none"]] == ["default", "learning_rate=0.3"]  # 0.1 is the default
    assert tried["opm"][0]["run"]["setting"] == "default" and len(tried["opm"]) == 3
    for label, runs in tried.items():
        best = min(runs, key=lambda r: r["run"]["validation_loss"])["run"]
        final = [r for r in found if not r["search"] and r["label"] == label]
        assert [r["run"]["seed"] for r in final] == [0, 1] and {r["setting"] for r in final} == {best["setting"]}
        assert final[0]["run"]["validation_loss"] == best["validation_loss"]  # the same run, trained once
    assert len(trained) == 2 + 3 + 2
    text = (tmp_path / "runs" / "comparison.md").read_text()
    assert "none: " in text and " out of 2 tried by validation_loss (seed 0): default " in text

    groups, _ = read_groups([tmp_path / "runs"])
    assert [(group.label, len(group.runs)) for group in groups] == [("none", 2), ("opm", 2)]  # not what was tried

    shutil.copy(tmp_path / "runs" / "comparison.jsonl", "kept.jsonl")
    before = (tmp_path / "runs" / "comparison.csv").read_text()
    shutil.rmtree(tmp_path / "runs")
    assert main(["compare", "--collect", "kept.jsonl", "--output_dir", "tables"]) == 0
    assert (tmp_path / "tables" / "comparison.md").read_text() == text
    assert (tmp_path / "tables" / "comparison.csv").read_text() == before
    assert (tmp_path / "tables" / "comparison.png").is_file()
    assert main(["compare", "--collect", "kept.jsonl", "--columns", "robust/worst"]) == 2


def test_settings_begin_with_the_default_and_then_are_a_seeded_order_of_the_grid():
    options = {"*.a": [1, 2, 3], "b.c": [0.5, 1.0]}
    first, *others = sampled_settings(options, 0)
    assert first == {} and {tuple(each.values()) for each in others} == {(a, c) for a in (1, 2, 3) for c in (0.5, 1.0)}
    assert (
        len(others) == 6 and others == list(sampled_settings(options, 0))[1:] != list(sampled_settings(options, 1))[1:]
    )
    assert list(sampled_settings({}, 0)) == [{}]


def test_folds_and_few_labels(compare, tmp_path):
    trained = compare("--modulations", "none", "--folds", "3", "--train_per_class", "4", "--seeds", "0", "1")
    assert [(r.data.fold, r.training.seed) for r in trained] == [(f, s) for f in range(3) for s in range(2)]
    runs = [record["run"] for record in records(tmp_path / "runs" / "comparison.jsonl")]
    assert [run["fold"] for run in runs] == [0, 0, 1, 1, 2, 2]
    assert runs[0]["protocol"] == {
        "folds": 3, "fold": 0, "groups": False, "pool": 24, "train_per_class": 4, "train": 12, "test": 24
    }  # fmt: skip
    again = load_run(trained[2].training.output_dir)  # what looks at a run later sees its own splits
    assert len(again.dataset["train"]) == 12
    assert "folds of single rows" in (tmp_path / "runs" / "comparison.md").read_text()

    for name in ("comparison.jsonl", "comparison.md"):  # with its records, and without them
        [group] = read_groups(["runs"])[0]
        runs = [(run.fold, run.result["seed"]) for run in group.runs]
        assert (group.label, group.row.unit, runs) == ("none", "fold", [(f, s) for f in range(3) for s in range(2)])
        (tmp_path / "runs" / name).unlink()
    assert main(["report", "runs"]) == 0
    assert " over 3 folds." in Path("report/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--budget", "2"], "--budget must be at least 1 and needs --search"),
        (["none", "--search", "opm.q_base=1"], "--search: no method has the option 'opm.q_base'"),
        (["opm", "--search", "*.modulations.opm.q_base=1"], "Write METHOD.OPTION"),
        (["none", "--search", "*.learnin_rate=1"], "Did you mean 'learning_rate'"),
        (["opm", "--search", "opm.q_bse=0.1"], "q_bse"),
        (["ensemble+opm"], "ensemble has no joint training that could be modulated"),
        (["ensemble:average=mean"], "average must be one of"),
        (["unimodal_init:freeze=1"], "unimodal_init has no option 'freeze'"),
        (["none", "--folds", "2"], "folds must be at least 3"),
        (["none", "--folds", "3", "--fold", "3"], "fold must be in [0, folds), found 3"),
        (["none", "--train_per_class", "0"], "train_per_class must be at least 1"),
        (["none", "--from_unimodal", "models"], "from_unimodal: models needs a head that averages"),
        (["opm", *STARTED], "from_unimodal: models trains nothing jointly, found modulations ['opm']"),
        (["none", *STARTED, "--auxiliary_loss_weight", "1"], "joins trained models, found auxiliary_loss_weight: 1"),
        (["ensemble", "--model_name_or_path", "nowhere"], "nowhere"),
        (["umt", *SEGMENTS], "['umt'] learn from a model of each modality: expected"),
    ],
)
def test_bad_input_is_one_line_before_the_first_run(compare, tmp_path, capsys, arguments, message):
    assert compare("--modulations", *arguments, status=2) == []
    captured = capsys.readouterr().err
    assert message in captured and "Traceback" not in captured
    assert not (tmp_path / "runs").exists()


def test_what_is_measured_after_a_run_chooses_and_is_kept_beside_it(compare):
    """A hook that makes the second setting the best."""
    arguments = ["own.yaml", "--output_dir", "runs", "--modulations", "none", "--search", "*.learning_rate=0.2"]
    parser, calls = comparison_parser(recipe_parser), []
    chosen = series_options(parser, arguments)

    def measure(recipe, result):
        calls.append(recipe.training.learning_rate)
        value = recipe.training.learning_rate
        return {"robust/worst": value, "validation_robust/worst": value}

    for key in ("worst", "worst", "worst, other options"):
        contenders, _ = plan_methods(parser, chosen, arguments)
        after = AfterRun(key, measure)
        plan = choose_settings(contenders, "robust/worst", [after])
        [row] = run_plan(plan, Path("runs"), "table", "robust/worst", ["robust/worst"], after=[after])
        assert (row.setting, row.runs[0]["robust/worst"]) == ("learning_rate=0.2", 0.2)
    assert calls == [0.1, 0.2] * 2
    kept = json.loads((Path(plan[0][1].training.output_dir) / "after_run.json").read_text())
    assert list(kept) == ["worst", "worst, other options"]
    contenders, _ = plan_methods(parser, chosen, arguments)
    with pytest.raises(ValueError, match="--select: unknown metric 'validation_robust/worst'"):
        choose_settings(contenders, "robust/worst")


def test_robustness_of_every_run(compare, tmp_path, capsys):
    """Searches measure validation only if it chooses; finished runs are measured without being trained again."""
    methods = ["--modulations", "none", "mod_drop", "unimodal", "--seeds", "0", "1"]
    trained = compare(*methods, "--search", "*.learning_rate=0.3", "--select", "accuracy")
    assert not list(tmp_path.glob("runs/*/*/robustness_*.json"))
    chosen = ["--search", "*.learning_rate=0.3", "--robustness", "--select", "robust/missing_average"]
    assert len(compare(*methods, *chosen)) < len(trained)
    rows = {
        (r["label"], r["run"]["seed"]): r["run"]
        for r in records(tmp_path / "runs/comparison.jsonl")
        if not r["search"]
    }
    for label in ("none", "mod_drop"):
        for prefix in ("robust/", "validation_robust/"):
            assert {f"{prefix}{name}" for name in SUMMARY} <= set(rows[label, 1])
        assert rows[label, 0]["robust/clean"] == pytest.approx(rows[label, 0]["accuracy"])
        assert rows[label, 0]["validation_robust/clean"] == pytest.approx(rows[label, 0]["validation_accuracy"])
    probes = {key: {name for name in run if "/probe_" in name} for key, run in rows.items()}
    assert probes["mod_drop", 1] == {f"robust/probe_{name}" for name in ("audio", "visual", "weak")}
    assert len(probes["unimodal", 0]) == 1 and probes["unimodal", 0] < probes["mod_drop", 1] - {"robust/probe_weak"}
    assert "robust/missing_average" not in rows["unimodal", 0] and "robust/worst" in rows["unimodal", 0]
    folders = {path.parent for path in tmp_path.glob("runs/*/*/robustness_validation.json")}
    assert len(folders) == 2 + 2 + 4 + 3 > len(list(tmp_path.glob("runs/*/*/robustness_test.json"))) == 6
    text = (tmp_path / "runs/comparison.md").read_text()
    assert "robust/missing_average" in text.splitlines()[0] and "Dominant for all rows: " in text
    assert "tried by validation_robust/missing_average" in text and "4 tried by validation_accuracy" in text

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/robustness_*.json")}
    assert compare(*methods, *chosen) == []
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert main(["compare", "--collect", "runs/comparison.jsonl", "--output_dir", "tables"]) == 0
    assert (tmp_path / "tables/comparison.md").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "robust/worst"], "robust/worst is measured after a run. Add --robustness."),
        (["--select", "robust/worst", "--search", "*.learning_rate=1"], "Add --robustness"),
        (["--corruptions", "audio.babble"], "--corruptions says what --robustness measures"),
        (["--robustness", "--corruptions", "adio.babble"], "Did you mean 'audio'"),
        (["--robustness", "--corruptions", "visual.blur"], "visual.blur: does not fit; visual takes feature_noise."),
        (["--robustness", "--corruptions", "visual.blur:fraction=0.1"], "a corruption of vector, ['feature_noise']"),
    ],
)
def test_bad_robustness_options(compare, tmp_path, capsys, arguments, message):
    assert compare("--modulations", "none", *arguments, status=2) == []
    assert message in capsys.readouterr().err and not (tmp_path / "runs").exists()
