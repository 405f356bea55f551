"""What the README promises at its top is what CI runs, and its examples run, with those of the guide behind them.

Blocks marked `python` run in their order, as one program, in an empty folder. Blocks marked `py` need a network or the
reader's own files: they only have to parse, and their imports to exist. Blocks that begin with a name are files.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import yaml

ROOT = Path(__file__).parents[1]
README, GUIDE = (ROOT / name for name in ("README.md", "recipes/GUIDE.md"))
TEXTS = {path: path.read_text(encoding="utf-8") for path in (README, GUIDE)}
FENCED = re.compile(r"```(\w+)\n(.*?)```", flags=re.DOTALL)
BLOCKS = [block for text in TEXTS.values() for block in FENCED.findall(text)]
FILES = {found[1]: text for _, text in BLOCKS if (found := re.match(r"# (\w+\.(?:py|yaml))\n", text))}


def test_the_first_block_holds_exactly_the_two_commands():
    language, text = BLOCKS[0]
    commands = text.strip().splitlines()
    assert language == "bash" and len(commands) == 2
    assert "hf-bml train digits/opm" in commands[0]
    assert "pytest" in commands[1]


def test_ci_runs_the_second_command_before_it_installs_anything_of_the_system():
    second = BLOCKS[0][1].strip().splitlines()[1]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    steps = ["ruff check .", "ruff format --check .", "libavutil.so", second, "apt-get install", "pytest -n 2 -m"]
    lines = [line.strip() for line in ci.splitlines() if not line.startswith("#")]
    places = [next(number for number, line in enumerate(lines) if step in line) for step in steps]
    assert places == sorted(places) and lines.count(second) == 1


def run_here(program: str) -> None:
    """As `python -c` in the current folder would, without another process."""
    exec(compile(program, "<example>", "exec"), {"__name__": "__main__"})


def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program = "\n".join(text for language, text in BLOCKS if language == "python" and text not in FILES.values())
    monkeypatch.setattr(datasets.config, "TORCHVISION_AVAILABLE", True)  # as users have it
    run_here(program)
    said = capsys.readouterr().out
    assert "balance/ratio_audio" in said
    found = re.findall(r"^seed (\d), (plain|balanced): test accuracy ([\d.]+)%$", said, flags=re.MULTILINE)
    accuracy = {(seed, method): float(value) for seed, method, value in found}
    assert len(accuracy) == 6
    for seed in "012":  # by 3 points and more
        assert accuracy[seed, "balanced"] > accuracy[seed, "plain"], f"the README says that it helps; {accuracy}"


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


@pytest.mark.parametrize("path", [README, GUIDE], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", FENCED.sub("", TEXTS[path]))
    assert targets
    for target in targets:
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_the_front_page_has_no_line_that_is_cut():
    assert max(len(line) for _, text in FENCED.findall(TEXTS[README]) for line in text.splitlines()) <= 97


def test_its_tables_are_those_of_the_records():
    spec = importlib.util.spec_from_file_location("robustness_tables", ROOT / "recipes" / "robustness" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert tables.with_front_tables(TEXTS[README]) == TEXTS[README]


def test_the_tour_runs(tmp_path, monkeypatch):
    text = (ROOT / "recipes" / "tour.py").read_text(encoding="utf-8")
    assert len(re.findall(r"^# %% \d+\. ", text, flags=re.MULTILINE)) == 10
    short = re.sub(r"^EPOCHS = \d+", "EPOCHS = 1", text, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    run_here(short)
    assert (tmp_path / "tour" / "report" / "report.html").is_file()
