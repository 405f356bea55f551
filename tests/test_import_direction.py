"""Leaves import no other part of the package; nothing imports commands (architecture, import rules)."""

import ast
from pathlib import Path

import hf_bml

ROOT = Path(hf_bml.__file__).parent
LEAVES = ("modulation", "models", "processing", "data", "metrics")
SHARED = {"disk", "repository_code", "skipped_rows", "suggestion"}
RUN = {"card_facts", "checkpoint", "environment", "hub_push", "model_card", "preflight", "trainer", "training_args"}
ALLOWED = {
    **{leaf: {leaf, *SHARED} for leaf in LEAVES},
    "disk": set(),
    "repository_code": set(),
    "skipped_rows": set(),
    "suggestion": set(),
    "analysis": {"analysis", "models", "metrics", *SHARED},
    "training_args": {"disk", "learning_rate", "modulation"},
    "preflight": {"models", "modulation"},
    "checkpoint": set(),
    "seeded_rows": set(),
    "streamed_rows": {"seeded_rows", "skipped_rows"},
    "streaming_trainer": {"streamed_rows"},
    "unwrapping_trainer": {"models"},
    "learning_rate": SHARED,
    "finite_trainer": set(),
    "resumable_trainer": {"checkpoint", "disk", "learning_rate", "processing", "seeded_rows"},
    "side_training": {"learning_rate", "modulation"},
    "environment": set(),
    "card_facts": {"environment", "models", "modulation", "training_args"},
    "card_quick_start": {"card_facts", "models"},
    "model_card": {"analysis", "card_facts", "card_quick_start", "data", "models"},
    "hub_push": {"card_facts", "remote_code"},
    "pushing_trainer": {"card_facts", "disk", "hub_push", "model_card", "remote_code"},
    "refused_options": set(),
    "searching_trainer": {"modulation", "training_args"},
    "last_batch": {"side_training"},
    "trainer": {
        "finite_trainer",
        "last_batch",
        "learning_rate",
        "metrics",
        "models",
        "modulation",
        "preflight",
        "pushing_trainer",
        "refused_options",
    }
    | {
        "resumable_trainer",
        "searching_trainer",
        "side_training",
        "streaming_trainer",
        "training_args",
        "unwrapping_trainer",
    },
    "multimodal_pipeline": {"processing", *SHARED},
    "remote_code": {"hf_bml"},
    "cli": {"commands", "hf_bml", *SHARED},
    "commands": {"analysis", "commands", "learning_rate", "remote_code", *RUN, *LEAVES, *SHARED},
    "__init__": {
        "models",
        "modulation",
        "multimodal_pipeline",
        "processing",
        "remote_code",
        "trainer",
        "training_args",
    },
}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of hf_bml that a file imports, anywhere in it, relative or absolute."""
    package = ["hf_bml", *path.relative_to(ROOT).parts[:-1]]
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*module, alias.name] for alias in node.names] if module == ["hf_bml"] else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        for name in names:
            if name[0] == "hf_bml":
                is_part = len(name) > 1 and ((ROOT / name[1]).is_dir() or (ROOT / f"{name[1]}.py").is_file())
                parts.add(name[1] if is_part else "hf_bml")
    return parts


FILES = sorted(ROOT.rglob("*.py"))


def test_imports_follow_the_rules():
    new = sorted({part_of(path) for path in FILES} - set(ALLOWED))
    assert not new, f"new parts: say here what they may import: {new}"
    found = {str(path.relative_to(ROOT)): sorted(imported_parts(path) - ALLOWED[part_of(path)]) for path in FILES}
    forbidden = {path: parts for path, parts in found.items() if parts}
    assert not forbidden, f"must not import: {forbidden}"


def test_the_walk_sees_imports():
    assert imported_parts(ROOT / "trainer.py") == ALLOWED["trainer"]
    assert {"analysis"} <= imported_parts(ROOT / "commands" / "experiment.py")  # inside a function


def test_no_file_names_that_say_nothing():
    assert not [path for path in FILES if path.stem in {"utils", "util", "helpers", "misc", "common"}]
