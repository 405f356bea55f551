"""The code of a saved model beside its weights, so that `trust_remote_code=True` loads it without hf_bml.

    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_code(folder)

    AutoModel.from_pretrained(folder, trust_remote_code=True)  # elsewhere, without hf_bml

transformers imports such code file by file and follows only `from .module import name` within one folder: no
sub-packages, no `..`, nothing out of the package itself. So `save_code` copies the modules that the classes need into
one folder and rewrites their relative imports; nothing else in them changes. Where hf_bml is imported, its own classes
are used and the copy is ignored.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, PROCESSOR_MAPPING
from transformers.models.auto.processing_auto import processor_class_from_name
from transformers.pipelines import PIPELINE_REGISTRY

from ..models import ENCODERS, FUSIONS
from ..processing import PROCESSORS

CODE_FOLDER = "hf_bml_code"
PROCESSOR_NAME = "processor_config.json"
PACKAGE = Path(__file__).parents[1]
HEADER = """\
# Copied by save_code from hf_bml {version}, hf_bml/{path}; only its relative imports differ.
# Licence: Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0
"""
RELATIVE_IMPORT = re.compile(r"from\s+\.+[\w.]*\s+import")


def save_code(folder: str | Path) -> list[Path]:
    """Add the code of a saved model, of its processor and of its pipeline to their folder.

    Writes `hf_bml_code/*.py`, the same bytes for the same version of hf_bml, and names the classes in `config.json`
    (`auto_map`, `custom_pipelines`) and, if there is one, `processor_config.json`. Saving the model again overwrites
    these entries: call this last.

    Args:
        folder: of `save_pretrained`.

    Returns:
        the written files.

    Raises:
        FileNotFoundError: no `config.json` in the folder.
        ValueError: the model is not one of hf_bml, or it or its processor has a part that is not.
    """
    folder = Path(folder)
    config = _read(folder / "config.json")
    config_class = own_config_class(config)
    if config_class is None:
        raise ValueError(
            f"{folder / 'config.json'}: expected a model of hf_bml, found model_type {config.get('model_type')!r}. "
            "Other models bring their own code, if they need any."
        )
    check_own_parts(folder, config)
    models = {"AutoConfig": config_class, **auto_model_classes(config_class)}
    processors = saved_processor(folder, config_class)
    pipelines = pipeline_tasks(config_class.model_type) if processors else {}
    classes = [*models.values(), *processors.values(), *(found["impl"] for found in pipelines.values())]
    written = write_modules(folder / CODE_FOLDER, needed_modules(map(_module, classes)))

    def reference(found: type) -> str:
        return f"{CODE_FOLDER}/{flat_name(_module(found))}.{found.__name__}"

    config["auto_map"] = {name: reference(found) for name, found in models.items()}
    config.pop("custom_pipelines", None)  # of an earlier call
    if pipelines:
        config["custom_pipelines"] = {
            task: {
                "impl": reference(found["impl"]),
                "pt": [auto_class.__name__ for auto_class in found["pt"]],
                "type": found["type"],
            }
            for task, found in pipelines.items()
        }
    written.append(_replace(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n"))
    if processors:
        path = folder / PROCESSOR_NAME
        processor = {**_read(path), "auto_map": {name: reference(found) for name, found in processors.items()}}
        written.append(_replace(path, json.dumps(processor, indent=2) + "\n"))
    return written


def own_config_class(config: Mapping[str, Any]) -> type | None:
    """The class of a `config.json`, if it is one of this package, whose code `save_code` adds."""
    found = CONFIG_MAPPING[config["model_type"]] if config.get("model_type") in CONFIG_MAPPING else None
    return found if found is not None and _is_ours(found) else None


def check_own_parts(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises ValueError for an encoder, fusion or transform of the user's own, whose code would not go along."""
    path = folder / PROCESSOR_NAME
    transforms = _read(path).get("modalities", {}) if path.is_file() else {}
    used = [(ENCODERS, options["type"]) for options in (config.get("modalities") or {}).values()]
    used += [(FUSIONS, config.get("fusion"))] + [(PROCESSORS, options["type"]) for options in transforms.values()]
    for registry, name in used:
        found = registry.get(name)
        if ":" in str(name) or (found is not None and not _is_ours(found)):
            raise ValueError(
                f"{folder}: expected parts of hf_bml only, found the {registry.what} {name!r}, whose code does not go "
                "along. Leave the code out; whoever loads the model registers that class first."
            )


def saved_processor(folder: Path, config_class: type) -> dict[str, type]:
    """`{"AutoProcessor": class}` of the processor in a folder; empty if there is none, or another package's."""
    path = folder / PROCESSOR_NAME
    if not path.is_file():
        return {}
    name = _read(path).get("processor_class")
    found = processor_class_from_name(name) if name else PROCESSOR_MAPPING._extra_content.get(config_class)
    return {"AutoProcessor": found} if found is not None and _is_ours(found) else {}


def write_modules(folder: Path, modules: Iterable[str]) -> list[Path]:
    """Write modules under their flat names, and nothing else, into a folder; returns the files."""
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.py"):
        stale.unlink()
    return [_replace(folder / f"{flat_name(module)}.py", flat_source(module)) for module in modules]


def auto_model_classes(config_class: type) -> dict[str, type]:
    """Model classes registered for a config, by the name of their auto class: `{"AutoModel": ...}`."""
    found = {}
    for name in sorted(dir(transformers)):
        if name.startswith("AutoModel"):
            mapping = getattr(getattr(transformers, name), "_model_mapping", None)  # not all have one
            if mapping is not None and config_class in mapping._extra_content:
                found[name] = mapping._extra_content[config_class]
    return found


def pipeline_tasks(model_type: str) -> dict[str, dict[str, Any]]:
    """Registered pipelines of this package for models of a type, by task."""
    return {
        task: found
        for task, found in PIPELINE_REGISTRY.supported_tasks.items()
        # Others' pipelines have no such attribute, and some are but the name of a class.
        if model_type in getattr(found["impl"], "model_types", ()) and _is_ours(found["impl"])
    }


def needed_modules(modules: Iterable[str]) -> list[str]:
    """The modules and all that they import out of the package, sorted; names are relative to it, as "models.fusion".

    Raises:
        ValueError: a module imports in a form that cannot be rewritten for a single folder.
    """
    found, pending = set(), list(modules)
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending += [target for *_, target in package_imports(module)]
    return sorted(found)


def package_imports(module: str) -> tuple[tuple[int, int, str], ...]:
    """The imports of a module out of the package, anywhere in it: line, column, and the module that it names."""
    path = source_path(module)
    return _imports(module, path, path.read_text(encoding="utf-8"))


@cache  # a training that pushes at every save adds the same code each time
def _imports(module: str, path: Path, source: str) -> tuple[tuple[int, int, str], ...]:
    parts = module.split(".")
    package = parts if path.name == "__init__.py" else parts[:-1]
    found = []
    for node in ast.walk(ast.parse(source)):
        absolute = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            absolute = [node.module]
        if any(name.split(".")[0] == PACKAGE.name for name in absolute):
            raise ValueError(f"{path}, line {node.lineno}: expected a relative import, found an absolute one.")
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        target = ".".join([*package[: len(package) - node.level + 1], *(node.module or "").split(".")]).strip(".")
        if node.module is None or any(source_path(f"{target}.{alias.name}").is_file() for alias in node.names):
            raise ValueError(
                f"{path}, line {node.lineno}: expected names imported out of a module, found an import of a module, "
                "which transformers does not follow. Import its names."
            )
        found.append((node.lineno, node.col_offset, target))
    return tuple(found)


def source_path(module: str) -> Path:
    """File of a module of the package, whether it exists or not."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")


def flat_name(module: str) -> str:
    """The name of a module's file in the one folder: its path without the first package.

    Example:
        >>> flat_name("models.interaction.base"), flat_name("processing.collator"), flat_name("models")
        ('interaction_base', 'collator', 'models')
    """
    return "_".join(module.split(".")[1:]) or module


def flat_source(module: str) -> str:
    """The source of a module with a header, its imports out of the package renamed."""
    path = source_path(module)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, column, target in package_imports(module):
        line = lines[number - 1]
        indent, rest = line[:column], line[column:]
        if RELATIVE_IMPORT.match(rest) is None:
            raise ValueError(f"{path}, line {number}: expected `from ... import` on one line, found {line!r}.")
        lines[number - 1] = indent + RELATIVE_IMPORT.sub(f"from .{flat_name(target)} import", rest, count=1)
    return HEADER.format(version=_version(PACKAGE.name), path=path.relative_to(PACKAGE).as_posix()) + "".join(lines)


@cache
def _version(package: str) -> str:
    return version(package)


def _is_ours(found: type) -> bool:
    return found.__module__.split(".")[0] == PACKAGE.name


def _module(found: type) -> str:
    return found.__module__.partition(".")[2]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the file that save_pretrained writes, found none. Save first.")
    return json.loads(path.read_text(encoding="utf-8"))


def _replace(path: Path, text: str) -> Path:
    """A new file in place of the old one: where that has another name (a hard link), it stays as it is."""
    written = path.with_name(f"{path.name}.new")
    written.write_text(text, encoding="utf-8")
    os.replace(written, path)
    return path
