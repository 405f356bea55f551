"""The report of runs without training, and of real tiny ones in a real browser."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from finished import write_analyses, write_robustness, write_run
from matplotlib.figure import Figure
from PIL import Image
from recipe_parts import EVERY_EPOCH, QUIET, VECTORS

from hf_bml.analysis.linear_probe import ProbeSettings
from hf_bml.analysis.row import Row
from hf_bml.analysis.sensitivity import Sweep
from hf_bml.cli import main
from hf_bml.ground.disk import DiskError
from hf_bml.report.write import write_report
from hf_bml.study.analyse import analyse_run
from hf_bml.study.comparison_files import write_comparison, write_results
from hf_bml.study.missing import missing_run
from hf_bml.study.probe import probe_run
from hf_bml.study.robustness import robustness_run
from hf_bml.study.sweep import write_sensitivity

OPM = {"modulations": {"opm": {"q_base": 0.5}}}
RECIPE = f"{VECTORS}{EVERY_EPOCH}{QUIET}optim: sgd\nlearning_rate: 0.1\n"
CHECK = """
<script>
addEventListener("load", () => {
  const page = document.documentElement, images = [...document.images];
  parent.postMessage([
    "checked", page.scrollWidth <= innerWidth, innerWidth, images.length,
    images.filter((image) => image.complete && image.naturalWidth > 100 && image.clientWidth > 100).length,
    [...document.querySelectorAll("table")].every((table) => table.tHead && table.caption),
  ].join(" "), "*");
});
</script>
"""
FRAME = """<title>waiting</title>
<script>addEventListener("message", (event) => { document.title = event.data; });</script>
<iframe src="checked.html" width="WIDTH" height="2000" style="border: 0"></iframe>
"""  # Chromium opens no window narrower than 500 pixels


class WellFormed(HTMLParser):
    """Keeps the text, and fails where an element is closed that is not open."""

    VOID = ("meta", "img", "!doctype")

    def __init__(self):
        super().__init__()
        self.open, self.text, self.ids, self.links = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def read(page):
    """The page's text, in one line; its markup and its links are checked on the way."""
    parser = WellFormed()
    parser.feed(page.read_text(encoding="utf-8"))
    assert parser.open == [] and len(set(parser.ids)) == len(parser.ids)
    assert parser.links and all(link[0] == "#" and link[1:] in parser.ids for link in parser.links)
    return " ".join(" ".join(parser.text).split())


def test_everything_that_runs_hold_is_shown(tmp_path):
    classes = ["dog & <b>cat</b>", "bird", "fish"]
    for seed in (0, 1, 2):
        write_analyses(write_run(tmp_path / "runs/concat" / f"seed-{seed}", 0.7 + 0.01 * seed, seed), classes)
        write_analyses(
            write_run(tmp_path / "runs/opm" / f"seed-{seed}", 0.8 + 0.02 * seed, seed, ratio=1.05, **OPM), classes
        )
    page = write_report([tmp_path / "runs"], tmp_path / "report")
    text = read(page)
    for sentence in (
        "concat (the others are compared to it)",
        "Audio dominates at the end of training: discrepancy ratio 1.50 (visual 0.67).",
        "the ratio of audio went 1.50 → 1.05.",
        "Test accuracy 71.0 → 82.0 % (+11.0 points): better, beyond the noise between seeds",
        "Linear probes on test: audio 60.0 → 60.0 % (trained alone 70.0 %)",
        "Settings of the classifier: method sgd, epochs 50.",
        "opm audio 3 60.0 % 70.0 % −10.0",
        "Under-trained compared to training alone: audio by 10.0 points, visual by 10.0 points.",
        "modulations.opm.q_base - 0.5",
        "71.0 ± 1.0",
        "Most often taken for another: dog & <b>cat</b> for bird.",
        "OPM, drop probability: audio 0.400 0.400",
        "whose input is then zero; all runs see the same masks, of the seeds 0 and 1.",
        "opm 3 75.0 70.0 ± 0.0 65.0 ± 0.0 60.0 ± 0.0",
        "Accuracy with only these modalities present",
    ):
        assert sentence in text, sentence
    assert "Not in this report" not in text and "The paper's numbers" not in text
    names = {path.stem for path in (tmp_path / "report/figures").iterdir()}
    assert names == {
        *("accuracy", "loss", "validation", "time", "ratio", "modulation", "probes", "missing", "classes"),
        "robustness",
        *("confusion_0", "confusion_1", "calibration", "shapley", "features_0", "features_1"),
    }
    source = page.read_text(encoding="utf-8")
    assert source.count("data:image/png;base64,") == len(names)
    assert not re.search(r"https?:|<script|<link|@import", re.sub(r"base64,[^\"]+", "", source))


def test_robustness_and_the_row_to_take(tmp_path):
    """Runs with other noise are named, not compared."""
    for label, missing, options in (("concat", 0.5, {}), ("opm", 0.6, OPM)):
        for seed in (0, 1, 2):
            run = write_run(tmp_path / "runs" / label / f"seed-{seed}", 0.7 + 0.01 * seed, seed, **options)
            write_robustness(run, missing=missing + 0.01 * seed**2 * (label == "opm"))
    write_robustness(write_run(tmp_path / "runs/other"), kind="jpeg")
    write_robustness(write_run(tmp_path / "runs/visual", modalities=("visual",)), ("visual",), noisy=0.4)
    text = read(write_report([tmp_path / "runs"], tmp_path / "report"))
    for sentence in (
        "Take opm: one modality missing +11.7 [+6.5, +16.8], dominant modality noisy +0.0, clean data +0.0 points",
        "The evidence is thin: not all of its gains in robustness can be told from noise between seeds.",
        "One modality missing, mean accuracy 50.0 → 61.7 % (+11.7 points): better, beyond the noise between seeds",
        "concat 3 75.0 ± 0.0 50.0 ± 0.0 62.0 ± 0.0 62.0 ± 0.0 50.0 ± 0.0",
        "visual 1 75.0 - 75.0 40.0 40.0 10.0 20.0",
        "Dominant for all rows: audio, whose absence costs concat most on validation (50.0 points).",
        "Measured with other corruptions or another seed, and not shown: other.",
        "Training saw all.",
    ):
        assert sentence in text, sentence


def test_what_is_missing_is_named_with_its_command(tmp_path):
    run = write_run(tmp_path / "a run", history=False)
    text = read(write_report([run], tmp_path / "report"))
    for command in ("probe", "missing", "analyse", "robustness"):
        assert f"hf-bml {command} '{run}'" in text
    assert "Spread over seeds of a run: one was run" in text
    assert "Test accuracy 75.0 % (one seed)." in text


def test_what_is_not_modulated_is_compared_to_wherever_it_is_given(tmp_path):
    """But not a model of fewer modalities; without any, the first run is."""
    write_run(tmp_path / "opm", 0.8, history=False, **OPM)
    write_run(tmp_path / "unimodal_audio", 0.6, history=False, modalities=("audio",))
    write_run(tmp_path / "concat", 0.7, history=False)
    names = ["opm", "unimodal_audio", "concat"]
    text = read(write_report([tmp_path / name for name in names], tmp_path / "report"))
    assert "concat (the others are compared to it)" in text and "Test accuracy 70.0 → 80.0 % (+10.0 points)" in text
    assert "accuracy: difference to concat" in text and "training time (concat = 1)" in text
    text = read(write_report([tmp_path / name for name in names[:2]], tmp_path / "report"))
    assert "opm (the others are compared to it)" in text


def test_a_probe_of_no_known_epoch_is_a_table_only(tmp_path):
    run = write_run(tmp_path / "run", history=False)
    write_analyses(run, ["a", "b"])
    probe = json.loads((run / "probe.json").read_text())
    for entry in probe["checkpoints"]:
        entry["epoch"] = None
    (run / "probe.json").write_text(json.dumps(probe))
    assert "Probe accuracy, test" in read(write_report([run], tmp_path / "report"))
    assert not (tmp_path / "report/figures/probes.png").exists()


def test_many_runs_are_a_loop(tmp_path):
    runs = [write_run(tmp_path / "runs" / f"seed-{seed}", seed=seed, history=False) for seed in range(5)]
    text = read(write_report([tmp_path / "runs"], tmp_path / "report"))
    folders = " ".join(map(str, runs))
    assert f'for run in {folders}; do hf-bml probe "$run"; done' in text


def test_one_modality_and_no_history(tmp_path):
    run = write_run(tmp_path / "run", modalities=("audio",), history=False)
    text = read(write_report([run], tmp_path / "report"))
    assert "One modality, audio: nothing to balance." in text
    assert "hf-bml probe" not in text and "Balance and modulation" not in text


def test_a_model_of_one_modality_says_what_training_alone_reaches(tmp_path):
    run = write_run(tmp_path / "runs/concat", history=False)
    write_analyses(run, ["a", "b"])
    (run / "analysis_test.json").unlink()
    (run / "probe.json").write_text((run / "probe.json").read_text().replace('"alone": {', '"alone": {}, "old": {'))
    write_run(tmp_path / "runs/unimodal_visual", accuracy=0.9, history=False, modalities=("visual",))
    text = read(write_report([tmp_path / "runs"], tmp_path / "report"))
    assert "visual 60.0 % (trained alone, its own test accuracy, not a probe's, 90.0 %)." in text
    assert "concat visual 1 60.0 % - - 90.0 %" in text and "Under-trained" not in text


def test_probes_of_other_splits_or_settings_are_not_compared(tmp_path):
    """concat: one of two seeds on test; opm: both on validation."""
    for seed in (0, 1):
        write_run(tmp_path / "concat" / f"seed-{seed}", 0.7, seed, history=False)
        write_run(tmp_path / "opm" / f"seed-{seed}", 0.8, seed, history=False, **OPM)
        write_analyses(tmp_path / "opm" / f"seed-{seed}", ["a", "b"], split="validation")
    write_analyses(tmp_path / "concat" / "seed-0", ["a", "b"])
    text = read(write_report([tmp_path / "concat", tmp_path / "opm"], tmp_path / "report"))
    assert "60.0 → 60.0" not in text and "The probes differ in split or settings." in text
    assert "shown are those on validation with method sgd, epochs 50." in text
    assert "Linear probes on validation: audio 60.0 % (trained alone 70.0 %)" in text
    assert "concat audio 1 of 2 60.0 % 70.0 % −10.0" in text and "opm audio 2 60.0 %" in text
    assert {"probes.png", "probes_1.png"} < {path.name for path in (tmp_path / "report/figures").iterdir()}
    write_analyses(tmp_path / "concat" / "seed-0", ["a", "b"], split="validation", probe={"method": "logistic"})
    assert "60.0 → 60.0" not in read(write_report([tmp_path / "concat", tmp_path / "opm"], tmp_path / "report"))
    write_analyses(tmp_path / "concat" / "seed-0", ["a", "b"], split="validation")
    text = read(write_report([tmp_path / "concat", tmp_path / "opm"], tmp_path / "report"))
    assert "Linear probes on validation, 1 seed: audio 60.0 → 60.0 %" in text and "The probes differ" not in text


def test_missing_modalities_of_other_masks_are_not_compared(tmp_path):
    grid = {"fixed": "audio", "fixed_rate": 0.1, "varied": "visual", "rates": [0.1, 0.2]}
    grids = [{**grid, "accuracy": [0.7, 0.6], "std": [None, None]}]
    others = [{**grid, "rates": [0.2, 0.4], "accuracy": [0.5, 0.4], "std": [None, None]}]
    ways = {
        "a": {"seeds": [0], "grids": grids},
        "b": {"seeds": [0], "absence": "modality_mask", "grids": grids},
        "c": {"seeds": [0], "grids": others},
        "d": {"seeds": [1], "grids": grids, "zeros": {"audio": "noise"}},
    }
    runs = [write_run(tmp_path / name, history=False) for name in ways]
    for run, way in zip(runs, ways.values(), strict=True):
        write_analyses(run, ["x", "y"], **way)
    text = read(write_report(runs, tmp_path / "report"))
    assert "differ in split, kind of absence or masks. Only equal ones are compared." in text
    assert "whose input is then zero; all runs see the same masks, of seed 0." in text
    assert "whose input is then zero (not silence for audio: noise); all runs see the same masks, of seed 1." in text
    assert "of which the model is told by its mask; all runs see the same masks, of seed 0." in text
    assert "a 1 75.0 70.0 60.0 - c 1 75.0 - 50.0 40.0" in text and "b 1 75.0 70.0 60.0" in text
    assert not re.search(r"\bnan\b", text)
    assert {"missing.png", "missing_1.png"} < {path.name for path in (tmp_path / "report/figures").iterdir()}


def test_seeds_tested_at_different_rates(tmp_path):
    grid = {"fixed": "audio", "fixed_rate": 0.1, "varied": "visual", "std": [0.0, 0.0]}
    rates = [([0.1, 0.2], [0.7, 0.6]), ([0.2, 0.3], [0.8, 0.5]), ([0.4, 0.5], [0.3, 0.2])]
    runs = [write_run(tmp_path / "runs" / f"seed-{seed}", seed=seed, history=False) for seed in range(3)]
    for run, (own, accuracy) in zip(runs[:2], rates, strict=False):
        write_analyses(run, ["x", "y"], grids=[{**grid, "rates": own, "accuracy": accuracy}])
    text = read(write_report(runs[:2], tmp_path / "report"))
    assert "visual 20 % runs 2 75.0 70.0 ± 14.1" in text and "visual 10 %" not in text
    write_analyses(runs[2], ["x", "y"], grids=[{**grid, "rates": rates[2][0], "accuracy": rates[2][1]}])
    assert "Missing modalities" not in read(write_report(runs, tmp_path / "report"))


def test_three_modalities_and_many_classes(tmp_path):
    modalities = ("text", "audio", "visual")
    run = write_run(tmp_path / "run", modalities=modalities, history=False, **OPM)
    write_analyses(run, [f"class {i}" for i in range(130)], modalities)
    text = read(write_report([run], tmp_path / "report"))
    assert "Shown are the 12 of 130 classes" in text and "text + audio + visual" in text


def test_the_paper_stands_beside_the_same_data_and_models_only(tmp_path):
    resnet = {"encoder": {"type": "timm", "architecture": "resnet18"}, "dataset": "cremad", "history": False}
    runs = [write_run(tmp_path / "concat", **resnet), write_run(tmp_path / "opm", 0.8, **resnet, **OPM)]
    text = read(write_report(runs, tmp_path / "report"))
    assert "opm accuracy 80.0 75.1 Concatenation-OPM Table 2" in text
    assert "Everything the paper reports for CREMA-D." in text
    other = write_run(tmp_path / "conv", dataset="cremad", history=False)
    assert "none of these methods on these models" in read(write_report([other], tmp_path / "report"))
    other = write_run(tmp_path / "hub", **resnet, dataset_options={"hub_id": "mteb/RAVDESS_AV"})
    assert "The paper" not in read(write_report([other], tmp_path / "report"))


def test_a_sensitivity_is_shown(tmp_path):
    """Beside it lie a comparison and a file of somebody else's, which are not."""
    folder = tmp_path / "runs" / "digits"
    option = "modulations.opm.q_base"
    sweep = Sweep({option: [0.3, 0.5]}, [{option: 0.3}, {option: 0.5}])
    for q_base, accuracy in ((0.3, 0.7), (0.5, 0.8)):
        opm = {"modulations": {"opm": {"q_base": q_base}}}
        write_run(folder / f"opm-0000000{10 * q_base:.0f}" / "seed-0", accuracy, history=False, **opm)
        run = {"seed": 0, "accuracy": accuracy, "validation_accuracy": accuracy, "device": "CPU", "torch": "2"}
        sweep.rows.append(Row(f"q_base={q_base}", runs=[run]))
    write_results(sweep.rows, folder, "q")
    write_sensitivity(sweep, folder, "q", "accuracy", "digits")
    write_results(sweep.rows, folder, "comparison")
    write_comparison(sweep.rows, folder, "comparison", "accuracy")
    (folder / "README.md").write_text("| a | chosen |")
    for given in (folder, tmp_path / "runs"):
        text = read(write_report([given], tmp_path / "report"))
        assert "digits/q: every setting of q_base (paper Table 1)." in text
        assert "0.5 1 80.0 80.0 best validation" in text and "Best validation_accuracy: q_base=0.5, 80.0" in text
        assert text.count("(paper Table 1)") == 1
        copied = tmp_path / "report/figures/sensitivity.png"
        assert copied.read_bytes() == (folder / "q.png").read_bytes()
    (folder / "q.png").unlink()
    copied.unlink()
    assert "(paper Table 1)" in read(write_report([folder], tmp_path / "report")) and not copied.exists()
    one = folder / "opm-00000005" / "seed-0"
    assert "(paper Table 1)" not in read(write_report([one], tmp_path / "report"))


def test_other_data_is_not_compared(tmp_path):
    runs = [write_run(tmp_path / "a", 0.5, history=False)]
    runs.append(write_run(tmp_path / "b", 0.9, history=False, dataset="av_digits"))
    text = read(write_report(runs, tmp_path / "report"))
    assert "only the same data is compared" in text and "→ 90.0 %" not in text
    names = {path.name for path in (tmp_path / "report/figures").iterdir()}
    assert {"1_digits_accuracy.png", "2_av_digits_accuracy.png"} == names


def test_left_out_samples_failures_and_unfinished_runs(tmp_path):
    run = write_run(tmp_path / "runs/concat", history=False)
    metrics = (run / "metrics.json").read_text()
    extra = '"left_out": {"train": {"missing files": ["a<b", "c"]}}, "failures": {"test": [{FAILURE}]}, '
    failure = {"row": 3, "modality": "audio", "file": "x.wav", "reason": "too short", "dropped": False}
    (run / "metrics.json").write_text("{" + extra.replace("{FAILURE}", json.dumps(failure)) + metrics[1:])
    (tmp_path / "runs/opm/checkpoint-3").mkdir(parents=True)
    text = read(write_report([tmp_path / "runs"], tmp_path / "report"))
    assert "train missing files 2 a<b, c" in text and "test x.wav audio too short modality absent" in text
    assert f"--output_dir {tmp_path}/runs/opm --resume_from_checkpoint last" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["run", "--split", "tests"], "Did you mean 'test'"),
        (["run", "--compare", "acuracy"], "Did you mean 'accuracy'"),
        (["run", "--output", "run/metrics.json"], "is a file; expected a folder"),
        ([], "the following arguments are required: RUN_DIR"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    write_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("hf-bml report: ") and captured.err.count("\n") == 1 and message in captured.err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("full", [(Path, "write_text"), (Figure, "savefig")])
def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys, full):
    """Also of the tables that a comparison writes, and of the JSON files of all commands."""
    write_run(tmp_path / "plain")

    def refuse(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*full, refuse)
    assert main(["report", str(tmp_path / "plain"), "--output", str(tmp_path / "report")]) == 2
    expected = f"cannot write to '{tmp_path / 'report'}': No space left on device. Make room.\n"
    assert capsys.readouterr().err == f"hf-bml report: {expected}"
    rows = [Row("plain", runs=[{"seed": 0, "accuracy": 0.5, "device": "cpu", "torch": "2"}])]
    with pytest.raises(DiskError, match=f"cannot write to '{tmp_path}': No space left"):
        write_comparison(rows, tmp_path, "table", "accuracy")
    if full[0] is Path:
        with pytest.raises(DiskError, match=f"cannot write to '{tmp_path}/table.json': No space left"):
            write_results(rows, tmp_path, "table")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    write_run(tmp_path / "plain")
    (tmp_path / "file").touch()
    for command in ("report", "card"):
        assert main([command, str(tmp_path / "plain"), "--output", str(tmp_path / "file" / "new")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"hf-bml {command}: cannot write to '{tmp_path}/file/new") and error.count("\n") == 1
        assert "Not a directory. Choose a folder that can be written." in error


@pytest.mark.parametrize("content", ["{}", "[]", "null", "{"])
@pytest.mark.parametrize("name", ["metrics.json", "trainer_state.json", "config.json"])
def test_a_damaged_file_of_a_run_is_named(tmp_path, name, content):
    write_run(tmp_path / "plain")
    (tmp_path / "plain" / name).write_text(content)
    if (name, content) != ("config.json", "{}"):
        with pytest.raises(ValueError, match=f"plain/{name}"):
            write_report([tmp_path / "plain"], tmp_path / "report")


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.startswith(("hf_bml.figures", "hf_bml.report."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(write_run(tmp_path / "run")), "--output", str(tmp_path / "report")]) == 2
    assert "pip install 'hf_bml[plots]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def chromium():
    """The browser."""
    for found in filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        if subprocess.run([found, "--version"], capture_output=True).returncode == 0:
            return found
    pytest.skip("chromium is not installed, or does not start")


def browse(chromium, page, folder, width, *options):
    """Opens the page in a window; a new profile each time, so that nothing is kept."""
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    profile = f"--user-data-dir={folder}/profile-{len(options)}"
    window = ["--disable-component-update", profile, f"--window-size={width},3000"]
    command = [chromium, *flags.split(), *window, *options, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A report on real runs of a few rows, with everything that can be analysed."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "concat.yaml").write_text(RECIPE)
    (folder / "opm.yaml").write_text(RECIPE + "modulations: {opm: {q_base: 0.5}}\n")
    recipes = [str(folder / name) for name in ("concat.yaml", "opm.yaml")]
    assert main(["train", *recipes, "--seeds", "0", "1", "--output_dir", str(folder / "runs")]) == 0
    for run in sorted((folder / "runs").glob("*/seed-*")):
        probe_run(run, settings=ProbeSettings(epochs=2), alone=["audio"] if "concat" in str(run) else None)
        missing_run(run, fixed=["audio"], rates=[0.1, 0.3], seeds=[0, 1])
        analyse_run(run)
        robustness_run(run)
    return write_report([folder / "runs"], folder / "report")


@pytest.mark.system
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_the_report_of_real_runs(chromium, trained, tmp_path, width):
    text = read(trained)
    assert "Linear probes" in text and "finished:load" in text and "Not in this report" not in text
    picture = tmp_path / "screen.png"
    browse(chromium, trained, tmp_path, width, f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape[1] == width
    assert pixels.std() > 20 and (pixels < 128).mean() > 0.01  # text and lines on a light page
    colours = Image.open(picture).convert("RGB").getcolors(1 << 24)
    assert len(colours) > 100
    checked = trained.read_text(encoding="utf-8").replace("</body>", f"{CHECK}</body>")
    (tmp_path / "checked.html").write_text(checked, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    dom = browse(chromium, tmp_path / "frame.html", tmp_path, 1300, "--dump-dom", "--virtual-time-budget=5000")
    found = re.search(r"<title>checked (\w+) (\d+) (\d+) (\d+) (\w+)</title>", dom)
    assert found, dom[:300]
    fits, seen, images, loaded, labelled = found.groups()
    assert fits == "true" and int(seen) == width and labelled == "true"
    assert int(images) == int(loaded) == len(list((trained.parent / "figures").iterdir()))
