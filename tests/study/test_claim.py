from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from hf_bml.study.claim import Claim, ClaimCheck, ClaimLost, claim_path, newest_claim, try_claim

HOUR = 3600.0


def age(folder, seconds):
    """Makes the folder's newest claim that old."""
    moment = time.time() - seconds
    os.utime(claim_path(folder, newest_claim(folder)), (moment, moment))


def test_a_renewed_claim_is_respected_and_an_old_one_taken_over(tmp_path):
    folder = tmp_path / "run"
    first = try_claim(folder, HOUR)
    owner = json.loads(first.path.read_text())
    assert owner["pid"] == os.getpid() and owner["host"] and owner["time"]
    assert try_claim(folder, HOUR) is None
    age(folder, HOUR / 2)
    assert try_claim(folder, HOUR) is None
    age(folder, 2 * HOUR)
    second = try_claim(folder, HOUR)
    assert second.path == claim_path(folder, 2) and try_claim(folder, HOUR) is None

    second.renew()
    second.check()
    first.renew()
    with pytest.raises(ClaimLost, match="another process has taken over"):
        ClaimCheck(first).on_step_begin()


def test_renewing_makes_an_old_claim_young(tmp_path):
    claim = try_claim(tmp_path, HOUR)
    age(tmp_path, 2 * HOUR)
    claim.renew()
    assert try_claim(tmp_path, HOUR) is None


def test_only_one_of_those_that_see_the_same_old_claim_takes_over(tmp_path, monkeypatch):
    try_claim(tmp_path, HOUR)
    age(tmp_path, 2 * HOUR)
    rivals = []
    exists = Path.mkdir

    def rival_first(*arguments, **options):
        """Lets a rival take over between the look of the second process and its claim."""
        exists(*arguments, **options)
        if not rivals:
            rivals.append(None)
            monkeypatch.setattr("hf_bml.study.claim.newest_claim", lambda folder: 1)
            rivals[0] = try_claim(tmp_path, HOUR)

    monkeypatch.setattr(Path, "mkdir", rival_first)
    assert try_claim(tmp_path, HOUR) is None and isinstance(rivals[0], Claim)


def test_the_end_deletes_all_claims_and_an_error_leaves_one_to_take_over_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt), try_claim(tmp_path, HOUR):
        raise KeyboardInterrupt
    assert newest_claim(tmp_path) == 1
    with try_claim(tmp_path, HOUR) as second:
        assert second.path == claim_path(tmp_path, 2)
    assert not list(tmp_path.iterdir())
    second.renew()
    with pytest.raises(ClaimLost):
        second.check()


def test_the_thread_renews_within_the_with(tmp_path):
    renewals = []
    with try_claim(tmp_path, 0.001) as claim:
        claim.renew = lambda: renewals.append(1)
        while len(renewals) < 2:  # ends at once, as the thread renews every 0.1 ms
            time.sleep(0.001)
