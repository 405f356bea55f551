"""A share of a comparison's runs, trained beside other shards on a shared folder."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from ..training.training_args import BalancedTrainingArguments
from .claim import Claim, newest_claim, try_claim

Run = dict[str, Any]
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two looks at what others do, doubled from look to look


@dataclass(frozen=True)
class Shard:
    """Which runs this command trains first, and how it shares the others.

    Attributes:
        index: from 1 to `count`.
        count: of shards.
        timeout: see `try_claim`.
        is_main: whether this process decides, of those that a launcher has started.
        processes: how many these are.
    """

    index: int
    count: int
    timeout: float
    is_main: bool = True
    processes: int = 1

    def owner(self, place: int) -> int:
        """The shard whose share the run at this place of the plan belongs to."""
        return place % self.count + 1

    def each_run(
        self,
        folders: Sequence[Path],
        known: Callable[[int], Run | None],
        train: Callable[[int, Claim | None], Run],
        is_needed: bool,
    ) -> Iterator[tuple[int, Run]]:
        """Yields every run that is finished, by its place, when it is; trains those of this shard, then those that
        others have left.

        Left is what was begun with a claim that nobody renews. Where all runs are needed, those that nobody has begun
        are, too, and this waits for others that train; else it waits for runs of this shard only.

        Args:
            folders: of the runs, in an order that all shards share.
            known: the result of the run at a place, None if it is not finished; called in the main process.
            train: trains it under the claim, which only the main process has.
            is_needed: whether all runs are.
        """
        left = sorted(range(len(folders)), key=lambda place: self.owner(place) != self.index)
        pause = FIRST_PAUSE
        while left:
            found, place, claim, others = {}, None, None, []
            if self.is_main:
                found, place, claim, others = self.look(left, folders, known, is_needed)
            if self.processes > 1:
                decided = [(found, place, others)]
                broadcast_object_list(decided)  # the main process decides for all
                found, place, others = decided[0]
            left = [other for other in left if other not in found]
            yield from found.items()
            if place is not None:
                with claim or nullcontext():
                    run = train(place, claim)
                left.remove(place)
                yield place, run
            elif others:
                if self.is_main and pause == FIRST_PAUSE:
                    print(f"waiting for what others train: {', '.join(str(folders[p]) for p in others)}", flush=True)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def look(
        self, left: Sequence[int], folders: Sequence[Path], known: Callable[[int], Run | None], is_needed: bool
    ) -> tuple[dict[int, Run], int | None, Claim | None, list[int]]:
        """What to do next: the runs that are finished, one that this process has claimed, its claim, and those of
        others that must be waited for."""
        found = {place: run for place in left if (run := known(place)) is not None}
        others = []
        for place in (place for place in left if place not in found):
            is_own = is_needed or self.owner(place) == self.index
            if not is_own and not newest_claim(folders[place]):
                continue
            claim = try_claim(folders[place], self.timeout)
            if claim is None:
                if is_own:
                    others.append(place)
            elif (run := known(place)) is None:
                return found, place, claim, others
            else:  # finished since
                found[place] = run
                with claim:
                    pass
        return found, None, None, others


def parse_shard(text: str) -> tuple[int, int]:
    """Index and count of `2/8`.

    Raises:
        ValueError: it is none.

    Example:
        >>> parse_shard("2/8")
        (2, 8)
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shard must be INDEX/COUNT with an index from 1 to COUNT, such as 2/8, found {text!r}.")
    return int(match[1]), int(match[2])


def shard_of(text: str | None, timeout: float, training: BalancedTrainingArguments) -> Shard | None:
    """The share of the runs that a command line asks for; None for all.

    Raises:
        ValueError: it is none, or a claim would be dead at once.
    """
    if text is None:
        return None
    if timeout <= 0:
        raise ValueError(f"--claim_timeout must be above 0 seconds, found {timeout:g}.")
    index, count = parse_shard(text)
    return Shard(index, count, timeout, training.process_index == 0, training.world_size)
