"""Two gloo processes on the CPU end where one process ends; ranks agree, masks differ, resuming is bitwise."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distributed_worker import BF16, METHODS, OWN_DRAWS, RUNS, method
from exactness import BATCH, Run, train
from filelock import FileLock

pytestmark = pytest.mark.slow
WORKER = Path(__file__).parents[1].joinpath("distributed_worker.py")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
SAME_AS_ONE_PROCESS = {name: run.whole for name, run in RUNS.items()}
SAME_AS_ONE_PROCESS["last batch is filled up"] = Run("opm+ogm_ge", samples=36, repeated=4)


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """What the two ranks found, launched once for all tests (and for all workers of pytest-xdist)."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "two_ranks"
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            folder.mkdir()
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
            done = subprocess.run(
                [*command, str(WORKER), str(folder)],
                capture_output=True, text=True, timeout=280,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-6000:]
    outcomes = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert [outcome["world_size"] for outcome in outcomes] == [2, 2]
    return outcomes


@pytest.fixture(scope="module")
def one_process():
    """The outcome of a run on this process alone."""
    outcomes = {}

    def one_process(run):
        if repr(run) not in outcomes:
            outcomes[repr(run)] = train(run)
        return outcomes[repr(run)]

    return one_process


def assert_close(first, second, tolerance):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_take_the_steps_of_one_process(ranks, one_process, name):
    run = RUNS[name]
    first, second = (outcome["runs"][name] for outcome in ranks)
    kind = {0: "DistributedDataParallel", 1: "FullyShardedDataParallel", 2: "FSDP"}[run.fsdp]
    assert run.compiled or first["kind"].startswith(kind)
    assert_close(first["weights"], second["weights"], 0)
    expected = one_process(SAME_AS_ONE_PROCESS[name])
    assert_close(expected["weights"], first["weights"], TOLERANCE[run.dtype])
    assert {**first["masks"], **second["masks"]} == expected["masks"]
    for key, value in expected["logs"].items():
        # OPM logs means over micro-batches, and what was dropped on the main process.
        if not key.startswith("opm/") or (run.samples % BATCH == 0 and "drop_fraction" not in key):
            assert first["logs"][key] == pytest.approx(value, abs=1e-5), key


@pytest.mark.parametrize("name", BF16)
def test_two_ranks_in_bf16(ranks, one_process, name):
    """Ranks agree bitwise, and about with float32. FSDP2 draws other noise."""
    first, second = (outcome["bf16"][name] for outcome in ranks)
    assert_close(first["weights"], second["weights"], 0)
    exact = one_process(replace(BF16[name].whole, arguments={}))
    apart = max((value - exact["weights"][key]).abs().max() for key, value in first["weights"].items())
    assert apart > 1e-5
    if "ogm_ge" not in name:
        assert apart < 0.02
    for key, value in exact["logs"].items():
        if "/" in key and "drop_fraction" not in key:
            assert first["logs"][key] == pytest.approx(value, abs=0.1), key


def test_the_cases_are_modulated(one_process):
    """What the equalities above would hide: nothing happened."""
    logs = one_process(Run("opm+ogm"))["logs"]
    assert min(logs[f"ogm/coefficient_{m}"] for m in ("audio", "visual", "text")) < 0.9
    assert max(logs[f"opm/drop_fraction_{m}"] for m in ("audio", "visual", "text")) > 0.1
    plain = one_process(Run())["weights"]
    for modulations in ("opm", "ogm", "ogm_ge", "graph"):
        modulated = one_process(Run(modulations))["weights"]
        assert max((modulated[name] - plain[name]).abs().max() for name in plain) > 1e-2


def test_a_rank_without_audio_scores_the_audio_of_the_other(one_process, ranks):
    logs = ranks[1]["runs"]["rank without audio opm+ogm ddp"]["logs"]
    assert logs["balance/score_audio"] > 0.34
    assert logs["ogm/coefficient_audio"] < 1


@pytest.mark.parametrize("name", OWN_DRAWS)
def test_masks_differ_between_ranks_and_weights_do_not(ranks, name):
    first, second = (outcome["own_draws"][name] for outcome in ranks)
    assert_close(first["weights"], second["weights"], 0)
    assert not first["masks"].keys() & second["masks"].keys()  # other samples
    drops = [[kept for _, kept in sorted(rank["masks"].items())] for rank in (first, second)]
    assert drops[0] != drops[1]


def test_noise_of_sharded_gradients(ranks):
    """Every shard gets noise of the whole gradient's spread, though its own entries spread less or more."""
    found = ranks[0]["shards"]["(401, 50) (1, 2)"]
    assert [outcome["shards"]["(401, 50) (1, 2)"]["rows_here"] for outcome in ranks] == [201, 200]
    gradient = found["gradient"]
    std = gradient.std().item()
    assert gradient[:200].std() < 0.3 * std and gradient[201:].std() > 1.3 * std
    k = 0.390725  # of a ratio of 2 with alpha 0.8
    for modality, coefficient in (("audio", k), ("visual", 1.0)):
        noise = found[modality] - coefficient * gradient
        for rows in (slice(None), slice(201), slice(201, None)):
            assert noise[rows].std().item() == pytest.approx(std, rel=0.03)
            assert noise[rows].mean().item() == pytest.approx(0, abs=0.05 * std)
        both = torch.stack([noise[:200].flatten(), noise[201:].flatten()])
        assert abs(torch.corrcoef(both)[0, 1]) < 0.03  # the shards draw other numbers
    assert not torch.allclose(found["audio"] - k * gradient, found["visual"] - gradient)


@pytest.mark.parametrize("shape", ["(400, 51)", "(401, 50)", "(3, 2)", "(1, 4)", "(1, 1)"])
@pytest.mark.parametrize("mesh", ["(1, 2)", "(2, 1)"])
def test_sharded_gradients_of_any_shape(ranks, shape, mesh):
    """Evenly and unevenly sharded, an empty shard, replicas of one shard."""
    first, second = (outcome["shards"][f"{shape} {mesh}"] for outcome in ranks)
    for modality in ("audio", "visual"):
        assert torch.equal(first[modality], second[modality])  # in full; of replicas: each rank's own
        assert torch.isfinite(first[modality]).all()
    expected = first["gradient"].std() if first["gradient"].numel() > 1 else torch.tensor(0.0, dtype=torch.float64)
    torch.testing.assert_close(first["std"], expected, atol=0, rtol=1e-12)
    assert first["std_gathers"] == 0


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_two_ranks_take_the_steps_of_one_process_with_other_methods(ranks, tmp_path, name, micro_batches):
    expected = method(name, tmp_path, processes=1)
    if name == "greedy":
        assert any(expected["logs"][f"greedy/rebalancing_{modality}"] for modality in ("audio", "visual"))
    for outcome in ranks:
        found = outcome["methods"][f"{name} {micro_batches}"]
        assert_close(expected["weights"], found["weights"], 1e-10)
    for key, value in expected["logs"].items():
        if not key.endswith("seconds"):
            assert ranks[0]["methods"][f"{name} {micro_batches}"]["logs"][key] == pytest.approx(value, abs=1e-6), key


@pytest.mark.parametrize("backend", ["ddp", "fsdp2"])
def test_resuming_two_ranks_is_bitwise(ranks, backend):
    for outcome in ranks:
        assert_close(*(outcome["resumed"][backend][part]["weights"] for part in ("whole", "resumed")), 0)
    main = ranks[0]["resumed"][backend]  # the log is the main process's
    assert main["whole"]["logs"] == main["resumed"]["logs"]


def test_a_rank_may_pass_none_for_a_modality(ranks):
    first, second = (outcome["modality_of_none"] for outcome in ranks)
    assert_close(first, second, 0)
    assert all(torch.isfinite(value).all() for value in first.values())


def test_what_cannot_work_names_the_way_out(ranks):
    messages = ranks[0]["messages"]
    assert "does not run on the CPU" in messages.pop("sync_batch_norm")
    refused = messages.pop("fsdp1 ogm gradients")
    assert all(way in refused for way in ("FSDP2", "version: 2", "DDP", "placement: graph", "opm"))
    assert set(messages.values()) == {"no error"} and len(messages) == 5
