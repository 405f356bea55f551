"""What the README promises at its top is what CI runs, its examples run, and its table names what there is.

Blocks marked `python` run in their order, as one program, in an empty folder. Blocks marked `py` need a network or the
reader's own files: they only have to parse, and their imports to exist. Blocks that begin with a name are files.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from hf_bml import MultimodalConfig
from hf_bml.cli import COMMANDS
from hf_bml.data import dataset_names
from hf_bml.models import ENCODERS, FUSIONS, INTERACTIONS
from hf_bml.modulation import BUNDLES, MODULATIONS
from hf_bml.processing import PROCESSORS
from hf_bml.study.tasks import TASKS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
FILES = {found[1]: text for _, text in BLOCKS if (found := re.match(r"# (\w+\.(?:py|yaml))\n", text))}
ROWS = {
    "tasks": TASKS,
    "modulations": {**MODULATIONS, **BUNDLES},
    "encoders": ENCODERS,
    "fusion": FUSIONS,
    "interaction": INTERACTIONS,
    "processors": PROCESSORS,
    "datasets": dataset_names(),
    "commands": COMMANDS,
}


def test_the_first_block_holds_exactly_the_two_commands():
    language, text = BLOCKS[0]
    commands = text.strip().splitlines()
    assert language == "bash" and len(commands) == 2
    assert "hf-bml train recipes/digits/opm.yaml" in commands[0]
    assert "pytest" in commands[1]


def test_ci_runs_the_second_command_before_it_installs_anything_of_the_system():
    second = BLOCKS[0][1].strip().splitlines()[1]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    steps = ["ruff check .", "ruff format --check .", "libavutil.so", second, "apt-get install", "pytest -n 2 -m"]
    lines = [line.strip() for line in ci.splitlines() if not line.startswith("#")]
    places = [next(number for number, line in enumerate(lines) if step in line) for step in steps]
    assert places == sorted(places) and lines.count(second) == 1


def test_the_python_examples_run(tmp_path):
    program = "\n".join(text for language, text in BLOCKS if language == "python" and text not in FILES.values())
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "balance/ratio_audio" in done.stdout
    found = re.findall(r"^seed (\d), (plain|OPM): test accuracy ([\d.]+)%$", done.stdout, flags=re.MULTILINE)
    accuracy = {(seed, method): float(value) for seed, method, value in found}
    assert len(accuracy) == 6
    for seed in "012":  # by 5 points and more, where another order of the sums moves an accuracy by less than 2
        assert accuracy[seed, "OPM"] > accuracy[seed, "plain"], f"the README says that OPM helps; {accuracy}"


def test_the_method_in_one_sitting_trains_and_is_tested(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    run = "import sys; from hf_bml.cli import main; sys.exit(main(sys.argv[1:]))"
    train = ["-c", run, "train", "brake.yaml", "--num_train_epochs", "2", "--output_dir", "run"]
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_method.py", "-k", "power_0 or accumulation"]
    for command in (train, suite):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "2 passed" in done.stdout
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    logged = [entry["brake/coefficient_visual"] for entry in history if "brake/coefficient_visual" in entry]
    assert len(logged) == 1 and 0 < logged[0] < 1  # from epoch 1 on
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["modulations"] == {
        "my_method:Brake": {"power": 0.5, "start": 1}
    }


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "py"])
def test_the_other_examples_parse(text):
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    exec("\n".join(map(ast.unparse, imports)), {})


@pytest.mark.parametrize("row", ROWS)
def test_the_table_names_what_there_is(row):
    """Every name of the registry, and nothing else in code font but options and extras of the package."""
    choices = re.search(rf"^\| {row} +\| (.*) \|$", README, flags=re.MULTILINE)
    assert choices, f"the README's table has no row {row!r}"
    named = set(re.findall(r"`(\w+)`", choices[1]))
    missing = sorted({name for name in ROWS[row] if ":" not in name} - named)  # other tests register their own parts
    assert not missing, f"row {row!r} of the README's table lacks {', '.join(f'`{name}`' for name in missing)}"
    options = {f.name for f in fields(MultimodalConfig)} | {"on_error", "flow", "ave", "DatasetDict"}
    unknown = sorted(named - set(ROWS[row]) - options)
    assert not unknown, f"row {row!r} of the README's table names {unknown}, which there is not"


def test_links_lead_somewhere():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", prose) if not t.startswith("http")]
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
