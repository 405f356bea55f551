"""Diagnosing and re-learning: pull an encoder back to its start, the more its features overfit (Wei et al. 2024).

A few times in a training the features of the training split and of a held-out part of it are clustered by k-means into
as many clusters as there are classes. With the purity P of a split, the share of its samples whose class is the most
frequent one of their cluster,

    g^m = |P_train^m - P_heldout^m|,     a^m = tanh(lam g^m),     theta^m <- a^m theta_0^m + (1 - a^m) theta^m

theta_0 is what the encoder started from, pre-trained weights included. An encoder whose features separate the classes
no better in training than on held-out samples, because it has learned well or not at all, stays as it is.

Usage:      `modulations: {relearning: {}}`
Values:     `every: 20` epochs, `times: 3` and `lam: 3.0` are the authors' code's, for 90 epochs.
Cost:       each time, a pass over both parts and two k-means per modality; one copy of the encoders' trained weights
            in the main memory and in every checkpoint.
Relations:  the held-out part, here 10 %, is lost to the training; validation and test splits are never touched.
Limits:     purity means something for many samples a class only: clusters of few samples are pure by chance.

Features are scaled to [-1, 1] per dimension, in each part by itself. As in the authors' code, parameters are pulled
back, while BatchNorm's statistics and the optimizer's momentum stay; `buffers` and `reset_momentum` change that. Our
reading: a modality's features are those of the samples that have it, labels by segment are told apart one by one, and
an encoder is diagnosed by itself, so that a single modality is, too. The main process clusters for all.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..ground.task import at_least_float32
from .base import Modulation, Title
from .config import ModulationConfig, check_count, option
from .step import Needs, Run, Step

STARTS = 10  # of k-means, of which the best counts
FEW_ROWS = 10  # per class


@dataclass
class RelearningConfig(ModulationConfig):
    """Options of diagnosing and re-learning.

    Args:
        every: epochs between two diagnoses, and before the first, > 0.
        times: how many there are, at least 1.
        lam: how strongly a gap of the purities pulls, > 0.
        held_out: share of the training split that is held out, in (0, 1).
        fraction: share of the rest that is looked at, in (0, 1].
        buffers: `"keep"`, or `"blend"` those of floating point, such as BatchNorm's statistics, as the parameters.
        reset_momentum: forget what the optimizer knows of the parameters of an encoder that is pulled back.
    """

    every: float = option(20, "Epochs between two diagnoses, and before the first, > 0.", "(0, inf]")
    times: int = option(3, "How many diagnoses there are, at least 1.", check_count)
    lam: float = option(3.0, "How strongly a gap of the purities pulls back, > 0.", "(0, inf)")
    held_out: float = option(0.1, "Share of the training split to hold out, in (0, 1).", "(0, 1)")
    fraction: float = option(1.0, "Share of the rest that is looked at, in (0, 1].", "(0, 1]")
    buffers: str = option("keep", "What becomes of BatchNorm's statistics: keep or blend.", ("keep", "blend"))
    reset_momentum: bool = option(False, "Forget the optimizer's state of the encoders.")


def purity(labels: np.ndarray, clusters: np.ndarray) -> float:
    """The share of samples whose class is the most frequent one of their cluster, in (0, 1].

    Args:
        labels: whole numbers from 0, `(samples,)`.
        clusters: the same.

    Example:
        >>> round(purity(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 0])), 4)
        0.6667
    """
    counts = np.zeros((clusters.max() + 1, labels.max() + 1), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return counts.max(1).sum().item() / len(labels)


def clustered(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The k-means cluster of each sample, from features that are scaled to [-1, 1] per dimension.

    Args:
        features: `(samples, dim)`.
        count: of clusters; no more than there are samples.
        seed: of the starting points.
    """
    from sklearn.cluster import KMeans  # slow to import

    low, high = features.min(0), features.max(0)
    scaled = 2 * (features - low) / np.where(high > low, high - low, 1) - 1
    return KMeans(min(count, len(features)), n_init=STARTS, random_state=seed).fit_predict(scaled)


def rows_of_labels(feature: Tensor, labels: Tensor, present: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Features `(n, dim)` and labels `(n,)` of what is labelled in the samples that have a modality.

    Args:
        feature: `(samples, ..., dim)`, the first axes as those of the labels; over further ones the mean is taken.
        labels: `(samples,)` or `(samples, segments)`.
        present: bool `(samples,)`.
    """
    feature, labels = at_least_float32(feature[present]), labels[present]
    if feature.dim() > labels.dim() + 1:
        feature = feature.flatten(labels.dim(), -2).mean(labels.dim())
    return feature.flatten(0, -2).numpy(), labels.flatten().numpy()


def relearning_rate(train_purity: float, held_out_purity: float, lam: float) -> float:
    """`a = tanh(lam |P_train - P_heldout|)`, in [0, 1).

    Example:
        >>> round(relearning_rate(0.8, 2 / 3, lam=3.0), 4)
        0.3799
    """
    return math.tanh(lam * abs(train_purity - held_out_purity))


class Relearning(Modulation):
    """Pulls encoders back to their starting weights where their features overfit.

    Logs `relearning/rate_<m>` (a), `relearning/train_purity_<m>` and `relearning/held_out_purity_<m>` of a diagnosis.
    """

    name = "relearning"
    config_class = RelearningConfig
    config: RelearningConfig
    phase = "features"
    kept = ("start", "next", "diagnoses")
    titles: ClassVar = {
        "rate": Title("share of the starting weights", 0, 1),
        "train_purity": Title("purity of training features", 0, 1),
        "held_out_purity": Title("purity of held-out features", 0, 1),
    }
    example_options: ClassVar = {"every": 1, "held_out": 0.25, "buffers": "blend", "reset_momentum": True}

    def needs(self, modalities: Sequence[str]) -> Needs:
        resets = self.config.reset_momentum
        return Needs(whole_model=True, separate_encoders=True, class_numbers=True, optimizer=resets)

    @property
    def held_out_fraction(self) -> float:
        return self.config.held_out

    @property
    def first_epoch(self) -> float:
        return self.config.every

    def forget(self) -> None:
        self._start: dict[str, dict[str, Tensor]] = {}
        self._next = float(self.config.every)
        self._diagnoses: list[dict[str, Any]] = []

    def attach(self, run: Run) -> None:
        if run.face.wrapped_model is not None:
            raise ValueError(
                "relearning clusters the features that a model returns, but a model in balance() returns none. Use a "
                "MultimodalForClassification, MultimodalForQuestionAnswering or MultimodalForSegmentClassification."
            )
        super().attach(run)
        self._start = {
            modality: {name: value.detach().to("cpu", copy=True) for name, value in self._blended(encoder).items()}
            for modality, encoder in run.face.encoders.items()
        }

    def warn_if_few_held_out(self, rows: int) -> None:
        labels = self._run.face.num_labels
        if rows < FEW_ROWS * labels:
            warnings.warn(
                f"relearning clusters {rows} held-out rows (held_out={self.config.held_out:g}) into {labels} classes: "
                "so few are pure by chance, whatever the features say. Raise held_out or train on more rows, so that "
                f"at least {FEW_ROWS * labels} are held out.",
                stacklevel=2,
            )

    def _blended(self, encoder: nn.Module) -> dict[str, Tensor]:
        """What is pulled back in an encoder, by name."""
        found = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
        if self.config.buffers == "blend":
            found |= {name: buffer for name, buffer in encoder.named_buffers() if buffer.is_floating_point()}
        return found

    @torch.no_grad()
    def begin_step(self, step: Step) -> None:
        if step.epoch < self._next or len(self._diagnoses) == self.config.times:
            return
        self._next = self.config.every * (step.epoch // self.config.every + 1)
        found = self._diagnose(step)
        self.means.add({f"{self.name}/{key}": value for key, value in found.items()})
        by_key = {key: dict(zip(step.modalities, value.tolist(), strict=True)) for key, value in found.items()}
        self._diagnoses.append({"epoch": float(step.epoch), **by_key})
        for modality, rate in by_key["rate"].items():
            if not rate:
                continue
            for name, value in self._blended(self._run.face.encoders[modality]).items():
                value.lerp_(self._start[modality][name].to(value), rate)
                if self.config.reset_momentum:
                    step.optimizer.state.pop(value, None)

    def _diagnose(self, step: Step) -> dict[str, Tensor]:
        """a and both purities of every modality, `(modalities,)`, the same on every process."""
        fields = ["features", "labels", "keep_mask"]
        splits = {
            "train_purity": self._run.collect("train", fields, self.config.fraction),
            "held_out_purity": self._run.collect("held_out", fields),
        }
        found = torch.zeros(3, len(step.modalities))
        for column, modality in enumerate(step.modalities if step.rank == 0 else ()):
            purities = [self._purity(collected, modality, column) for collected in splits.values()]
            rate = relearning_rate(*purities, self.config.lam) if all(purities) else 0.0
            found[:, column] = torch.tensor([rate, *purities])
        found = found.to(next(self._run.model.parameters()).device)
        if step.sum_over_processes is not None:
            found = step.sum_over_processes(found)
        return dict(zip(["rate", *splits], found, strict=True))  # figures show what is logged first

    def _purity(self, collected: Mapping[str, Tensor], modality: str, column: int) -> float:
        """0 if no sample has the modality."""
        present = collected["keep_mask"][:, column].bool()
        if not present.any():
            return 0.0
        features, labels = rows_of_labels(collected[f"features_{modality}"], collected["labels"], present)
        return purity(labels, clustered(features, self._run.face.num_labels, self._run.seed))

    def snapshots(self) -> list[Tensor]:
        return [value for values in self._start.values() for value in values.values()]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._start = {m: {name: value.cpu() for name, value in own.items()} for m, own in self._start.items()}

    def summary(self) -> dict[str, Any]:
        """Every diagnosis: epoch, purities and rates."""
        return {"diagnoses": self._diagnoses}
