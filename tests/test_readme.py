"""What the README promises at its top is what CI runs, and its example runs."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_block_holds_exactly_the_two_commands():
    language, text = BLOCKS[0]
    commands = text.strip().splitlines()
    assert language == "bash" and len(commands) == 2
    assert "hf-bml train recipes/digits/opm.yaml" in commands[0]
    assert "pytest" in commands[1]


def test_ci_runs_the_second_command():
    second = BLOCKS[0][1].strip().splitlines()[1]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert ci.strip().endswith(second)
    assert "ruff check" in ci and "ruff format --check" in ci


def test_the_python_example_runs(tmp_path):
    example = next(text for language, text in BLOCKS if language == "python")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "balance/ratio_audio" in done.stdout


def test_links_lead_somewhere():
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if not t.startswith("http")]
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
