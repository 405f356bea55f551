"""`hf-bml train` on data that is read while training, and the commands that look at such a run."""

from __future__ import annotations

import io
import json
import shutil
import tarfile

import datasets
import numpy as np
import pytest
import soundfile
from PIL import Image
from streams import write_recipe

from hf_bml import MultimodalForClassification
from hf_bml.cli import main
from hf_bml.processing.modality_transforms import ModalityTransforms


@pytest.fixture(scope="module", autouse=True)
def no_pause():
    """`datasets` pauses for 5 s whenever the threads of a shuffled stream end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
        yield


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("streamed"))


@pytest.fixture(scope="module")
def run(recipe):
    folder = recipe.parent / "run"
    assert main(["train", str(recipe), "--output_dir", str(folder)]) == 0
    return folder


def read(path):
    return json.loads(path.read_text())


def test_train_leaves_a_complete_run(run):
    metrics = read(run / "metrics.json")
    assert metrics["test"]["accuracy"] > 0.7 and set(metrics["final_ratios"]) == {"audio", "visual"}
    assert metrics["epoch_seconds"] == []  # a stream has no epochs
    config = MultimodalForClassification.from_pretrained(run).config
    assert [config.id2label[index] for index in range(3)] == ["low", "middle", "high"]
    evaluated = [entry["step"] for entry in read(run / "trainer_state.json")["log_history"] if "eval_loss" in entry]
    assert evaluated == [10, 20]
    assert (run / "curves.png").is_file()


def test_a_stream_evaluates_like_the_same_rows_on_the_disk(recipe, run, tmp_path):
    """Whole and in one piece, with the labels' names of the model."""
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("streaming: true", "streaming: false"))
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    expected = read(run / "metrics.json")["test"]
    assert read(tmp_path / "run" / "metrics_test.json") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("split", ["train", "test"])
def test_evaluate_agrees(run, split):
    assert main(["evaluate", str(run), "--split", split]) == 0
    found = read(run / f"metrics_{split}.json")
    assert set(found) == set(read(run / "metrics.json")["test"])
    if split == "test":
        assert found == pytest.approx(read(run / "metrics.json")["test"], abs=1e-6)


def test_the_looking_commands(run):
    assert main(["analyse", str(run), "--split", "validation"]) == 0
    assert read(run / "analysis_validation.json")["samples"] == 24
    assert main(["missing", str(run)]) == 0
    assert read(run / "missing.json")["complete"] == pytest.approx(read(run / "metrics.json")["test"]["accuracy"])
    assert main(["probe", str(run)]) == 0
    assert len(read(run / "probe.json")["checkpoints"]) == 2


def test_an_interrupted_run_goes_on_where_it_was(recipe, run, tmp_path, monkeypatch):
    """From step 10 of 20, where the first pass of 12 steps is not over; nothing before it is transformed."""
    transformed = []
    transform = ModalityTransforms.__call__

    def counted(self, name, values, training=False, *rest):
        transformed.append(len(values) * training * (name == "audio"))
        return transform(self, name, values, training, *rest)

    monkeypatch.setattr(ModalityTransforms, "__call__", counted)
    shutil.copytree(run / "checkpoint-10", tmp_path / "checkpoint-10")
    shutil.copy(run / "training.json", tmp_path)
    command = ["train", str(recipe), "--output_dir", str(tmp_path)]
    assert main([*command, "--resume_from_checkpoint", "last"]) == 0
    assert 80 <= sum(transformed) < 120  # ten steps of eight, and what is read together with them
    assert read(tmp_path / "metrics.json")["resumed_from"] == str(tmp_path / "checkpoint-10")
    assert (tmp_path / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert main([*command, "--stream_buffer_size", "8", "--resume_from_checkpoint", "last"]) == 2  # another training


def test_seed_and_buffer_decide_the_order(recipe, tmp_path):
    weights, short = [], ["--max_steps", "2", "--save_strategy", "no"]
    for option in ([], ["--seed", "43"], ["--data_seed", "1"], ["--stream_buffer_size", "0"]):
        assert main(["train", str(recipe), "--output_dir", str(tmp_path), *short, *option]) == 0
        weights.append((tmp_path / "model.safetensors").read_bytes())
    assert len(set(weights)) == 4


def test_a_series_is_compared_and_reused(recipe, tmp_path, capsys):
    command = ["train", str(recipe), "--seeds", "0", "1", "--max_steps", "2", "--output_dir", str(tmp_path)]
    assert main(command) == 0 and main(command) == 0
    assert capsys.readouterr().out.count("not trained again") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max_steps", "-1"], "Set max_steps, the number of optimizer steps"),
        (["--eval_strategy", "epoch"], "eval_strategy: epoch needs a training split of known length"),
        (
            ["--modulations", '{"gradient_blending": {}}', "--auxiliary_loss_weight", "0"],
            "gradient_blending holds 8% of the training split out",
        ),
        (["--modulations.opm.start", "2"], "opm counts in epochs (start=2)"),
        (["--modulations.pmr.prototypes", "online"], "pmr counts in epochs (prototypes=online, entropy_epochs=5)"),
        (
            ["--processors", '{"audio": {"type": "ivector"}}', "--modalities.audio.input_size", "100"],
            "['audio'] learn from the training split",
        ),
        (["--stream_buffer_size", "-1"], "stream_buffer_size must be at least 0, found -1"),
        (["--dataset_options.label", "sound"], "Expected the classes of"),
        (["--dataset_options.types", "{audio: audio}"], "Expected media or plain values to stream"),
    ],
)
def test_what_a_stream_cannot_do_is_one_line(recipe, tmp_path, capsys, arguments, message):
    assert main(["train", str(recipe), "--output_dir", str(tmp_path / "run"), *arguments]) == 2
    captured = capsys.readouterr()
    error = captured.err.splitlines()[-1]
    assert error.startswith("hf-bml train: ") and message in error and "Traceback" not in captured.err


OWN = """
from datasets import Dataset, Features, IterableDatasetDict, List, Value

def load(features=True):
    rows = Dataset.from_dict({"a": [[0.0, 1.0], [1.0, 0.0]] * 4, "labels": [0, 1] * 4}).to_iterable_dataset()
    rows = rows if features else rows.map(lambda row: row)
    return IterableDatasetDict({name: rows for name in ("train", "validation", "test")})
"""


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ([], "the streamed column `labels` to be a ClassLabel"),
        (["--dataset_options.features", "false"], "to declare its columns"),
    ],
)
def test_streams_of_the_users_own(tmp_path, monkeypatch, capsys, option, message):
    (tmp_path / "my_stream.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(
        "dataset: my_stream:load\nmodalities:\n  a: {type: sequence, input_size: 2, hidden_size: 4, num_heads: 1}\n"
        "use_cpu: true\nmax_steps: 2\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["train", "own.yaml", *option]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


WEBDATASET = """
dataset: from_columns
dataset_options:
  path: webdataset
  data_files: {{train: "{folder}/train-*.tar", validation: "{folder}/validation.tar", test: "{folder}/test.tar"}}
  modalities: {{audio: wav, visual: png}}
  label: json.tone
  classes: [low, high]
  streaming: true
stream_buffer_size: 8
processors:
  audio: {{type: log_spectrogram, sampling_rate: 8000, duration: 0.1, window_length: 128, overlap: 64}}
  visual: {{type: frames, size: 8, num_channels: 1, augment: crop_flip}}
modalities:
  audio: {{type: conv, channels: [4]}}
  visual: {{type: conv, channels: [4]}}
learning_rate: 1e-2
max_steps: 20
per_device_train_batch_size: 8
dataloader_num_workers: 1
save_strategy: "no"
use_cpu: true
disable_tqdm: true
report_to: none
"""


def write_tar(path, rows, generator):
    """Samples of a tone and a grey image, both of which tell the class."""
    with tarfile.open(path, "w") as archive:
        for row in range(rows):
            label, sound, picture = row % 2, io.BytesIO(), io.BytesIO()
            wave = np.sin(np.arange(800) * (0.2 + 1.5 * label)) * 0.5 + generator.normal(size=800) * 0.01
            soundfile.write(sound, wave, 8000, format="wav")
            grey = generator.integers(90, 130, size=(8, 8)) + 100 * label
            Image.fromarray(grey.astype(np.uint8)).save(picture, format="png")
            tone = json.dumps({"tone": ["low", "high"][label]}).encode()
            for name, content in (("wav", sound.getvalue()), ("png", picture.getvalue()), ("json", tone)):
                entry = tarfile.TarInfo(f"{row:03d}.{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def test_webdataset_with_a_worker(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("train-0", "train-1", "validation", "test"):
        write_tar(tmp_path / f"{name}.tar", 16, generator)
    (tmp_path / "web.yaml").write_text(WEBDATASET.format(folder=tmp_path))
    assert main(["train", str(tmp_path / "web.yaml"), "--output_dir", str(tmp_path / "run")]) == 0
    assert read(tmp_path / "run" / "metrics.json")["test"]["accuracy"] > 0.9
