from __future__ import annotations

import os
import time

import pytest

from hf_bml.study.claim import claim_path, try_claim
from hf_bml.study.shard import Shard, parse_shard

TIMEOUT = 3600.0


class Runs:
    """Runs that take no time, in folders that several shards share."""

    def __init__(self, root, count=6):
        self.folders = [root / str(place) for place in range(count)]
        self.trained = []

    def known(self, place):
        path = self.folders[place] / "result"
        return {"result": path.read_text()} if path.is_file() else None

    def train(self, place, claim):
        assert claim is not None and try_claim(self.folders[place], TIMEOUT) is None
        self.trained.append(place)
        self.folders[place].joinpath("result").write_text(str(place))
        return self.known(place)

    def of(self, index, is_needed=False, train=None):
        shard = Shard(index, 2, TIMEOUT)
        return dict(shard.each_run(self.folders, self.known, train or self.train, is_needed))


def test_a_shard_trains_its_share_and_finds_that_of_others(tmp_path):
    runs = Runs(tmp_path)
    assert list(runs.of(2)) == runs.trained == [1, 3, 5]
    assert runs.of(1) == {place: {"result": str(place)} for place in range(6)}
    assert runs.trained == [1, 3, 5, 0, 2, 4]
    assert runs.of(1) == runs.of(2) and len(runs.trained) == 6
    assert not list(tmp_path.glob("*/.*"))


def test_where_all_are_needed_a_shard_begins_with_its_own(tmp_path):
    runs = Runs(tmp_path)
    runs.of(2, is_needed=True)
    assert runs.trained == [1, 3, 5, 0, 2, 4]


@pytest.mark.parametrize("is_needed", [False, True])
def test_an_abandoned_run_is_taken_over_by_another_shard(tmp_path, is_needed):
    runs = Runs(tmp_path)
    try_claim(runs.folders[0], TIMEOUT)
    os.utime(claim_path(runs.folders[0], 1), (0, time.time() - 2 * TIMEOUT))
    runs.of(2, is_needed)
    assert runs.trained == [1, 3, 5, 0] + [2, 4] * is_needed


def test_a_run_of_a_living_shard_is_left_to_it(tmp_path):
    runs = Runs(tmp_path)
    with try_claim(runs.folders[0], TIMEOUT):
        runs.of(2)
    assert runs.trained == [1, 3, 5]


@pytest.mark.parametrize(("index", "is_needed"), [(2, True), (1, False)])
def test_a_shard_waits_for_what_it_needs_and_for_its_own_share(tmp_path, monkeypatch, capsys, index, is_needed):
    runs = Runs(tmp_path)
    claim = try_claim(runs.folders[0], TIMEOUT)
    pauses = []

    def other_finishes(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            with claim:
                runs.folders[0].joinpath("result").write_text("of the other")

    monkeypatch.setattr(time, "sleep", other_finishes)
    assert runs.of(index, is_needed)[0] == {"result": "of the other"}
    assert 0 not in runs.trained and pauses == [0.5, 1.0]
    assert capsys.readouterr().out == f"waiting for what others train: {runs.folders[0]}\n"


def test_what_another_finishes_between_look_and_claim_is_not_trained_again(tmp_path):
    runs = Runs(tmp_path, count=1)
    answers = [None, {"result": "of the other"}]
    shard = Shard(1, 1, TIMEOUT)
    assert dict(shard.each_run(runs.folders, lambda _: answers.pop(0), runs.train, False)) == {
        0: {"result": "of the other"}
    }
    assert runs.trained == [] and not list(tmp_path.glob("*/.*"))


def test_a_run_that_fails_can_be_taken_over_at_once(tmp_path):
    runs = Runs(tmp_path)

    def fail(place, claim):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        runs.of(1, train=fail)
    runs.of(2)
    assert runs.trained == [1, 3, 5, 0]


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "1/x", "-1/2"])
def test_a_shard_that_cannot_be(text):
    with pytest.raises(ValueError, match="--shard must be INDEX/COUNT"):
        parse_shard(text)
