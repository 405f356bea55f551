"""Clips per second from video files to model inputs, and whether training waits for cached data.

    python recipes/benchmarks/data_pipeline.py

Every clip becomes a 257 x 299 log spectrogram of its sound track and three normalised 224 x 224 frames. Compared are
`MultimodalProcessor.apply` without a cache, then with it, and a straightforward PyTorch dataset that calls
`librosa.load` and reads all frames with `cv2.VideoCapture`, as audio-visual research code commonly does: on the video
files; after FFmpeg has extracted the sound tracks to wav files, once with that time counted and once without. All use
two processes and the same files, take turns in one program, and end with batches of 32 from a `DataLoader`.

Needs the clips `grid/grid_s1_clips-*.parquet` (see `hf_bml.data.location`), librosa, opencv-python-headless, FFmpeg.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import cv2
import datasets
import librosa
import numpy as np
import pyarrow.parquet as pq
import scipy.signal
import torch
import yaml
from datasets import Dataset, DatasetDict
from PIL import Image
from torchvision import transforms

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.data import find_data_file, load_multimodal_dataset
from hf_bml.processing import MultimodalDataCollator, MultimodalProcessor

NUM_PROC = 2
BATCH_SIZE = 32
RECIPE = Path(__file__).parents[1] / "av_letters" / "concat.yaml"
TABLE = Path(__file__).with_suffix(".md")
PROCESSORS = {"audio": {"type": "log_spectrogram"}, "visual": {"type": "video", "num_frames": 3, "size": 224}}


class StraightforwardDataset(torch.utils.data.Dataset):
    """The reference: `librosa.load`, all frames with OpenCV, three of them kept."""

    def __init__(self, videos: list[str], sounds: list[str]):
        self.videos, self.sounds = videos, sounds
        self.transform = transforms.Compose(
            [
                transforms.Resize((224, 224)),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        samples, rate = librosa.load(self.sounds[index], sr=16000, mono=True)
        samples = samples if len(samples) >= 3 * rate else np.tile(samples, 3)[: 3 * rate]
        start = (len(samples) - 3 * rate) // 2
        samples = samples[start : start + 3 * rate].clip(-1, 1)
        _, _, spectrogram = scipy.signal.spectrogram(samples, rate, nperseg=512, noverlap=353)
        spectrogram = np.log(spectrogram + 1e-7)
        spectrogram = (spectrogram - spectrogram.mean()) / (spectrogram.std() + 1e-9)
        capture, frames = cv2.VideoCapture(self.videos[index]), []
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        capture.release()
        chosen = [frames[position] for position in (0, (len(frames) - 1) // 2, len(frames) - 1)]
        visual = torch.stack([self.transform(Image.fromarray(frame)) for frame in chosen])
        return {"audio": torch.from_numpy(spectrogram).float()[None], "visual": visual}


def loader(dataset: torch.utils.data.Dataset, collate: Callable | None = None) -> torch.utils.data.DataLoader:
    """Batches from two workers with one thread each."""
    return torch.utils.data.DataLoader(
        dataset,
        BATCH_SIZE,
        num_workers=NUM_PROC,
        collate_fn=collate,
        worker_init_fn=_one_thread,
        multiprocessing_context="fork",
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def timed(run: Callable[[], int]) -> tuple[float, float]:
    """Clips per second of a run, and CPU milliseconds per clip of this process and its children."""
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    count = run()
    return count / (time.perf_counter() - start), 1e3 * (_cpu_seconds() - cpu_start) / count


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def count_clips(batches: Iterable[dict]) -> int:
    """Consume an epoch."""
    return sum(len(batch["audio"]) for batch in batches)


def write_clips(folder: Path, count: int) -> list[str]:
    """The clips as mp4 files."""
    videos = []
    for part in (0, 1):
        table = pq.read_table(find_data_file(f"grid/grid_s1_clips-{part}.parquet"), columns=["id", "video"])
        for row in table.to_pylist()[: count - len(videos)]:
            video = folder / f"{row['id']}.mp4"
            video.write_bytes(row["video"]["bytes"])
            videos.append(str(video))
    return videos


def extract_sounds(videos: list[str]) -> int:
    """FFmpeg writes every sound track to a wav file, its name that of the video and `.wav`."""
    options = [
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-threads",
        "1",
        "-i",
        "{}",
        "-vn",
        "-ac",
        "1",
        "-ar",
        "16000",
        "{}.wav",
    ]
    command = ["xargs", "-0", "-P", str(NUM_PROC), "-I", "{}", "ffmpeg", *options]
    subprocess.run(command, input="\0".join(videos).encode(), check=True)
    return len(videos)


def check_equal(videos: list[str], sounds: list[str]) -> None:
    """Both ways must do the same work: equal spectrograms, and frames equal but for the resizing."""
    reference = StraightforwardDataset(videos, sounds)[0]
    ours = MultimodalProcessor(PROCESSORS).prepare(audio=videos[0], visual=videos[0])
    torch.testing.assert_close(ours["audio"][0], reference["audio"], atol=2e-2, rtol=0)
    assert (ours["visual"][0] - reference["visual"]).abs().mean() < 0.05


def measure_pipelines(count: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Medians of each pipeline's clips per second and CPU milliseconds per clip."""
    results: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        videos = write_clips(Path(folder), count)
        sounds = [f"{video}.wav" for video in videos]
        extract_sounds(videos)
        check_equal(videos, sounds)
        for number in range(rounds):
            rows = Dataset.from_dict({name: [{"bytes": None, "path": path} for path in videos] for name in PROCESSORS})
            rows.save_to_disk(f"{folder}/round{number}")  # a new folder: no cache
            data = DatasetDict({"train": Dataset.load_from_disk(f"{folder}/round{number}")})
            collate = MultimodalDataCollator(list(PROCESSORS))
            processed: list[DatasetDict] = []

            def cold(data=data, collate=collate, processed=processed) -> int:
                processed.append(MultimodalProcessor(PROCESSORS).apply(data, num_proc=NUM_PROC))
                return count_clips(loader(processed[0]["train"], collate))

            runs = {
                "reference": lambda: count_clips(loader(StraightforwardDataset(videos, videos))),
                "reference, extracting": lambda: (
                    extract_sounds(videos) and count_clips(loader(StraightforwardDataset(videos, sounds)))
                ),
                "reference, wav files": lambda: count_clips(loader(StraightforwardDataset(videos, sounds))),
                "hf_bml, no cache": cold,
                "hf_bml, cached": lambda p=processed, c=collate: count_clips(loader(p[0]["train"], c)),
            }
            for name, run in runs.items():
                results.setdefault(name, []).append(timed(run))
                rate, cpu = results[name][-1]
                print(f"round {number + 1}, {name}: {rate:.1f} clips/s, {cpu:.1f} ms CPU a clip", flush=True)
    return {
        name: (statistics.median(rate for rate, _ in values), statistics.median(cpu for _, cpu in values))
        for name, values in results.items()
    }


def measure_waiting(num_steps: int) -> dict[str, float]:
    """Milliseconds per batch: loading alone, the training step alone, and waiting when one worker loads ahead."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    data = load_multimodal_dataset(recipe["dataset"])
    train = MultimodalProcessor(recipe["processors"]).apply(data)["train"]
    num_labels = train.features["labels"].num_classes
    model = MultimodalForClassification(
        MultimodalConfig(modalities=recipe["modalities"], num_labels=num_labels)
    ).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    collate = MultimodalDataCollator(list(model.encoders), num_labels=num_labels)

    def batches(num_workers: int) -> Iterator[dict]:
        while True:
            yield from torch.utils.data.DataLoader(
                train, BATCH_SIZE, shuffle=True, drop_last=True, num_workers=num_workers, collate_fn=collate
            )

    times: dict[str, list[float]] = {"load": [], "step": [], "wait": []}
    for num_workers, loading in ((0, "load"), (1, "wait")):
        source = batches(num_workers)
        for index in range(num_steps):
            start = time.perf_counter()
            batch = next(source)
            loaded = time.perf_counter()
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if index >= 3:  # warm-up, start of the worker
                times[loading].append(1e3 * (loaded - start))
                times["step"].append(1e3 * (time.perf_counter() - loaded))
    return {name: statistics.median(values) for name, values in times.items()}


def table(
    results: dict[str, tuple[float, float]], waiting: dict[str, float], count: int, rounds: int, load: float
) -> str:
    """The result as Markdown."""
    machine = (
        f"{_processor_name()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )
    lines = [
        "# Data pipeline",
        "",
        f"`python recipes/benchmarks/data_pipeline.py`, {datetime.now(timezone.utc):%Y-%m-%d}; {machine}; load "
        f"average {load:.1f} at the start. {count} GRID clips (96 x 96 h264, 75 frames, AAC 16 kHz) to a 257 x 299 "
        f"log spectrogram and three 224 x 224 frames, {NUM_PROC} processes, median of {rounds} rounds in turn.",
        "",
        "| pipeline | clips/s | x reference | CPU ms/clip | x reference |",
        "|---|---:|---:|---:|---:|",
    ]
    described = {
        "reference": "`librosa.load` and `cv2.VideoCapture` on the mp4 files",
        "reference, extracting": "FFmpeg extracts the sound tracks to wav files, then the same on these",
        "reference, wav files": "the same on wav files that are there already",
        "hf_bml, no cache": "`MultimodalProcessor.apply` without a cache, and one epoch",
        "hf_bml, cached": "an epoch from the cache",
    }
    base_rate, base_cpu = results["reference"]
    for name, (rate, cpu) in results.items():
        lines.append(f"| {described[name]} | {rate:.1f} | {rate / base_rate:.1f} | {cpu:.1f} | {base_cpu / cpu:.1f} |")
    lines += [
        "",
        "On a machine that others also use, the CPU time is the steadier measure.",
        "",
        f"Training `{RECIPE.parent.name}/{RECIPE.name}` on the CPU, cached data, batches of {BATCH_SIZE}, medians:",
        "",
        "| per batch | ms |",
        "|---|---:|",
        f"| loading, in the training process | {waiting['load']:.2f} |",
        f"| training step (forward, backward, SGD) | {waiting['step']:.2f} |",
        f"| waiting for data, one worker loading ahead (it competes for the CPU) | {waiting['wait']:.2f} |",
        "",
    ]
    return "\n".join(lines)


def _processor_name() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Measure, print the table, and write it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1000, help="How many of the 1,000 clips to use.")
    parser.add_argument("--rounds", type=int, default=3, help="How often each pipeline runs.")
    parser.add_argument("--steps", type=int, default=60, help="Training steps to measure.")
    parser.add_argument("--output", type=Path, default=TABLE, help="Where to write the table.")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning, module="librosa")
    warnings.filterwarnings("ignore", message="PySoundFile failed")
    datasets.disable_progress_bars()
    load = os.getloadavg()[0]
    results = measure_pipelines(options.clips, options.rounds)
    waiting = measure_waiting(options.steps)
    text = table(results, waiting, options.clips, options.rounds, load)
    print(text)
    options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
