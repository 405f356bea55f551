"""`import hf_bml` and the command line load nothing slow; what is registered is there whatever is imported first."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_model

import hf_bml
from hf_bml import MultimodalProcessor

SLOW = ["numpy", "torch", "transformers", "datasets", "accelerate", "yaml", "hf_bml.models", "hf_bml.study.recipe"]
RARE = ["timm", "scipy.signal", "sklearn", "matplotlib", "cv2", "evaluate"]  # what transformers.Trainer does not load


def run(*arguments: str) -> str:
    """What a fresh Python prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded(names: list[str]) -> str:
    return f"import sys; print('loaded:', *[name for name in {names} if name in sys.modules])"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a saved model and its processor."""
    folder = tmp_path_factory.mktemp("saved")
    tiny_model().save_pretrained(folder)
    options = {"type": "log_spectrogram", "sampling_rate": 8000}
    MultimodalProcessor({"audio": options, "visual": options}).save_pretrained(folder)
    return folder


def test_public_names():
    assert {name: getattr(hf_bml, name) for name in hf_bml.__all__}.keys() <= set(dir(hf_bml))
    assert hf_bml.balance is hf_bml.models.balance and hf_bml.OPM is hf_bml.modulation.OPM
    assert pickle.loads(pickle.dumps(hf_bml.OPM)) is hf_bml.OPM
    with pytest.raises(AttributeError, match="has no attribute 'OPN'"):
        _ = hf_bml.OPN


def test_type_checkers_see_the_public_names():
    text = Path(hf_bml.__file__).read_text(encoding="utf-8")
    block = text[text.index("if TYPE_CHECKING:") : text.index("__version__")]
    assert sorted(line.split(" as ")[1] for line in block.splitlines() if " as " in line) == sorted(hf_bml.__all__)


def test_the_package_and_the_command_line_load_nothing_slow():
    code = (
        "import hf_bml; dir(hf_bml); from hf_bml.cli import main\n"
        "assert [main([]), main(['trian']), main(['train', 'missing.yaml'])] == [0, 2, 2]\n"
        "assert [main([name, '--help']) for name in ('train', 'compare', 'sensitivity')] == [0, 0, 0]\n"
        "for name in ('evaluate', 'missing', 'robustness', 'analyse', 'report', 'card', 'options'):\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit: pass\n"
        "main(['--version'])\n"
    )
    assert run("-c", code + loaded(SLOW)).splitlines()[-2:] == [hf_bml.__version__, "loaded:"]


def test_the_trainer_loads_little_more_than_that_of_transformers():
    code = "from hf_bml import MultimodalBalancedTrainer, BalancedTrainingArguments, OPM\n"
    assert run("-c", code + loaded(RARE)) == "loaded:"


USE = """
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline
kinds = (AutoConfig, AutoModel, AutoProcessor)
found = [kind.from_pretrained({folder!r}) for kind in kinds] + [pipeline("multimodal-classification", {folder!r})]
print(*[type(each).__name__ for each in found])
"""
OTHER_FINDER = """
import sys
class Finder:
    def find_spec(name, path=None, target=None): return None
sys.meta_path.insert(0, Finder)
"""
THREADS = """
import importlib, threading, hf_bml
names = ["transformers", "hf_bml.models", "hf_bml.processing", "hf_bml.hub.pipeline", "hf_bml.modulation"]
threads = [threading.Thread(target=importlib.import_module, args=[name]) for name in names]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.mark.parametrize(
    "before",
    [
        "import hf_bml, transformers, importlib; importlib.reload(hf_bml)",
        f"{OTHER_FINDER}from hf_bml.models import MultimodalConfig",
        THREADS,
    ],
)
def test_what_is_registered(folder, before):
    names = "MultimodalConfig MultimodalForClassification MultimodalProcessor MultimodalClassificationPipeline"
    assert run("-c", before + USE.format(folder=str(folder))) == names
