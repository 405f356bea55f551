"""Sample-level modality valuation: what a modality contributes little to is read more often, with it alone (Wei et al.
2024).

A modality's contribution to a sample is its Shapley value of v(S) = |S| if the model that sees only the modalities S
predicts the sample rightly, else 0. For two of them, with the whole sample's v(12),

    phi^1 = (v(1) + v(12) - v(2)) / 2,        sum_m phi^m = v(all)

Before every epoch after the warm-up, each sample gets further copies of which only modality m is kept:

    phi^m      >= 1      (0.4, 1)      (-0.1, 0.4]      <= -0.1
    copies        0             1                2            3

Usage:      `modulations: {sample_valuation: {}}`, or `{level: modality}`, which adds, for a share of the samples that
            grows with the gap of the mean contributions, copies with the lower modality only.
Values:     `warmup: 5`, `alpha: 1.0` and `part: 0.2` are the authors' code's.
Cost:       a pass over the training split, or a part of it, before every epoch; for three modalities or more one for
            every further coalition: 4 passes for M = 3, 11 for M = 4. With `level: modality` the part is the same
            samples before every epoch; the first time, one more pass finds which modalities all have.
Relations:  the coalitions of one modality are its own predictions (`unimodal_logits`), which drive OPM and OGM, too.

The authors read all samples and all copies in an epoch, of up to five times the length for two modalities. Here an
epoch keeps its length, which schedules and `max_steps` count: it reads as many entries as there are samples, drawn
without replacement from samples and copies. Our reading, where there is more than one: for labels by segment, v is the
share of segments that are right, times |S|; a sample that lacks a modality is valued by those it has, and a mean
contribution is that of the samples that have the modality; for more than two modalities at the level of modalities,
each is compared to the one that contributes most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Modulation, Title
from .config import ModulationConfig, option
from .step import EpochPlan, Needs, seeded_generator

BOUNDS = (-0.1, 0.4)  # of the contributions that give three, and two copies


@dataclass
class SampleValuationConfig(ModulationConfig):
    """Options of sample valuation.

    Args:
        level: `"sample"`: copies by a sample's own contributions; `"modality"`: by their means.
        warmup: epochs of plain training before the first valuation, at least 0.
        alpha: at the level of modalities, how many copies a gap of the means adds, at least 0.
        part: share of the training split that is valued at the level of modalities, in (0, 1]; the same samples before
            every epoch.
    """

    level: str = option("sample", "Whose contributions decide: sample's, or modality means.", ("sample", "modality"))
    warmup: float = option(5, "Epochs of plain training before the first valuation.", "[0, inf]")
    alpha: float = option(1.0, "How many copies a gap adds (level: modality), >= 0.", "[0, inf)")
    part: float = option(0.2, "Share of the samples valued, always the same (level: modality).", "(0, 1]")


def contributions(values: Tensor) -> Tensor:
    """Shapley values `(samples, modalities)` from the worth of every coalition.

    Args:
        values: `(samples, 2^M)`, v of the coalition whose members are the bits of the column's number.

    Example:
        >>> contributions(torch.tensor([[0.0, 1.0, 0.0, 2.0]]))  # v(), v(1), v(2), v(12)
        tensor([[1.5000, 0.5000]])
    """
    count = values.shape[1].bit_length() - 1
    found = values.new_zeros(len(values), count)
    for member, without in itertools.product(range(count), range(values.shape[1])):
        if not without >> member & 1:
            size = without.bit_count()
            orders = math.factorial(size) * math.factorial(count - size - 1)
            found[:, member] += orders * (values[:, without | 1 << member] - values[:, without])
    return found / math.factorial(count)  # after the sum, so that a whole number stays one


def copies(contribution: Tensor) -> Tensor:
    """How many copies with a modality alone a sample gets, int64, shaped as its contributions.

    Example:
        >>> copies(torch.tensor([1.0, 0.5, 0.0, -0.5]))
        tensor([0, 1, 2, 3])
    """
    low, high = BOUNDS
    return 3 - (contribution > low).long() - (contribution > high).long() - (contribution >= 1).long()


def added_shares(means: Tensor, alpha: float) -> Tensor:
    """For which share of the samples a copy with each modality alone is added, `(modalities,)` in [0, 1].

    Args:
        means: mean contributions, `(modalities,)`.
        alpha: at least 0.

    Example:
        >>> added_shares(torch.tensor([0.9, 0.3]), alpha=1.0)
        tensor([0.0000, 0.4000])
    """
    return (alpha * 2 / 3 * (means.max() - means)).clamp(0, 1)


class SampleValuation(Modulation):
    """Adds copies of samples with the modalities that contribute little to them.

    Logs, of an epoch that it plans, `sample_valuation/contribution_<m>` (mean phi of the samples that have the
    modality) and `sample_valuation/copies_<m>` (copies per sample, of which the epoch draws).
    """

    name = "sample_valuation"
    config_class = SampleValuationConfig
    config: SampleValuationConfig
    phase = "data"
    compares_modalities = True
    titles: ClassVar = {
        "contribution": Title("contribution of one modality", None),
        "copies": Title("copies with one modality"),
    }
    example_options: ClassVar = {"warmup": 0}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(class_numbers=True)

    @property
    def first_epoch(self) -> float:
        return self.config.warmup

    def forget(self) -> None:
        self._present: Tensor | None = None  # which modalities the samples have, for the level of modalities

    def plan_epoch(self, epoch: int) -> EpochPlan | None:
        modalities = self.means.modalities
        if epoch < self.config.warmup or len(modalities) == 1:
            return None
        by_sample = self.config.level == "sample"
        values, valued = self._values(modalities, 1.0 if by_sample else self.config.part)
        found = contributions(values)
        counts = valued.sum(0)
        means = (found * valued).sum(0) / counts.clamp_min(1)
        generator = seeded_generator(self.name, torch.device("cpu"), self._run.seed, epoch)
        if by_sample:
            rows, numbers = torch.arange(len(found)), copies(found) * valued
        else:
            if self._present is None:
                self._present = self._run.collect("train", ["keep_mask"])["keep_mask"].bool()
            rows, present = torch.arange(len(self._present)), self._present
            shares = added_shares(means, self.config.alpha) * (counts > 0)  # what was not valued gets no copies
            places = torch.rand(present.shape, generator=generator).argsort(0).argsort(0)
            numbers = (places < shares * len(rows)).long() * present
        device = next(self._run.model.parameters()).device
        logged = {"contribution": means, "copies": numbers.double().mean(0)}
        self.means.add({f"{self.name}/{key}": value.float().to(device) for key, value in logged.items()})
        return drawn_plan(rows, numbers, generator) if numbers.any() else None

    def _values(self, modalities: Sequence[str], part: float) -> tuple[Tensor, Tensor]:
        """v of every coalition of what a sample has, `(samples, 2^M)` float64, and bool `(samples, modalities)`."""
        run, count = self._run, len(modalities)
        first = run.collect("train", ["logits", "unimodal_logits", "labels", "keep_mask"], part)
        logits = {1 << m: first[f"unimodal_logits_{name}"] for m, name in enumerate(modalities)}
        logits[2**count - 1] = first["logits"]
        right = torch.zeros(len(first["labels"]), 2**count, dtype=torch.float64)
        for code in range(1, 2**count):
            if code not in logits:
                members = [name for m, name in enumerate(modalities) if code >> m & 1]
                logits[code] = run.collect("train", ["logits"], part, members)["logits"]
            correct = run.task.correct(logits[code], first["labels"])
            right[:, code] = correct.double().flatten(1).mean(1) if correct.dim() > 1 else correct.double()
        present = first["keep_mask"].bool()
        sizes = torch.tensor([code.bit_count() for code in range(2**count)])
        has = (present * torch.tensor([1 << m for m in range(count)])).sum(1, keepdim=True)
        of = torch.arange(2**count) & has  # what a coalition has of a sample
        return (right * sizes).gather(1, of), present


def drawn_plan(rows: Tensor, numbers: Tensor, generator: torch.Generator) -> EpochPlan:
    """An epoch of as many entries as there are samples, drawn without replacement from samples and copies.

    Args:
        rows: numbers of the samples, `(samples,)`.
        numbers: int64 `(samples, modalities)`, copies of each sample that keep one modality alone.
        generator: on the CPU.
    """
    samples, count = numbers.shape
    which = torch.arange(samples * count).repeat_interleave(numbers.flatten())
    alone = torch.nn.functional.one_hot(which % count, count).bool()
    entries = torch.cat([rows, rows[which // count]])
    keep = torch.cat([torch.ones(samples, count, dtype=torch.bool), alone])
    chosen = torch.randperm(len(entries), generator=generator)[:samples]
    return EpochPlan(entries[chosen], keep[chosen])
