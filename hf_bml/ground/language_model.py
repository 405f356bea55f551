"""What a language model's answer is worth: its labels are tokens, most of which are not asked for."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from .task import UNLABELLED, Task, at_least_float32


class LanguageModeling(Task):
    """Tokens of an answer, each predicted from those before it: their cross-entropy, scored by their probability.

    Labels are token ids `(batch, length)`, -100 where none is asked for (the prompt, images, padding). Logits are
    those that `predicting` has taken from the model's, one row per target: `(batch, targets, vocabulary)`. The loss is
    the mean over all labelled tokens of a batch, as transformers' models have it; the score of a sample is the mean
    probability of its own. A sample without a labelled token scores 0.

    Args:
        shift: how far a token lies behind the logits that predict it: 1 of a causal model, 0 of one whose decoder gets
            the labels shifted.
        longest: labelled tokens that a sample has at most; only as many are kept. None: every position is kept, which
            of a large vocabulary takes much memory.
    """

    problem_type: ClassVar[str] = "language modeling"
    counts_tokens: ClassVar[bool] = True

    def __init__(self, shift: int, longest: int | None = None):
        super().__init__()
        self.shift, self.longest = shift, longest

    def places(self, labels: Tensor) -> Tensor:
        """Where the last `longest` labelled tokens of each sample are, ascending, int64 `(batch, targets)`; of a
        sample that has fewer also places without a label. Static shapes, no host sync."""
        length = labels.shape[1] - self.shift
        order = torch.arange(length, device=labels.device)
        order = torch.where(labels[:, self.shift :] != UNLABELLED, order, order - length)
        return order.topk(min(self.longest, length), dim=1).indices.sort(1).values + self.shift

    def targets(self, labels: Tensor) -> Tensor:
        """The tokens that are to be predicted, `(batch, targets)`, -100 where none is.

        Example:
            >>> labels = torch.tensor([[-100, -100, 7, 8], [-100, 5, -100, -100]])
            >>> LanguageModeling(shift=1, longest=2).targets(labels)
            tensor([[   7,    8],
                    [   5, -100]])
        """
        return labels[:, self.shift :] if self.longest is None else labels.gather(1, self.places(labels))

    def predicting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The logits that predict the targets, `(batch, targets, vocabulary)`, of a model's `(batch, length,
        vocabulary)`."""
        if self.longest is None:
            return logits[:, : logits.shape[1] - self.shift]
        return logits.take_along_dim(self.places(labels).unsqueeze(-1) - self.shift, 1)

    def by_place(self, values: Tensor, labels: Tensor, fill: float = UNLABELLED) -> Tensor:
        """Values of the targets `(batch, targets)` where their labels are, `(batch, length)`; `fill` elsewhere."""
        found = values.new_full(labels.shape, fill)
        if self.longest is None:
            found[:, self.shift :] = values
            return found
        return found.scatter(1, self.places(labels), values)

    def log_probabilities(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of every target, `(..., batch, targets)`, float32 or better, with a graph; 0 where there is none."""
        targets, logits = self.targets(labels), at_least_float32(logits)
        chosen = targets.clamp_min(0).expand(logits.shape[:-1]).unsqueeze(-1)
        found = logits.gather(-1, chosen).squeeze(-1) - logits.logsumexp(-1)
        return torch.where(targets != UNLABELLED, found, 0.0)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over a sample's labelled tokens, `(batch,)`; 0 if it has none."""
        counts = (self.targets(labels) != UNLABELLED).sum(1)
        return -self.log_probabilities(logits, labels).sum(1) / counts.clamp_min(1)

    def loss(
        self, logits: Tensor, labels: Tensor, present: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """The mean over all labelled tokens, each times the weight `(batch,)` of its sample, of the samples that are
        present; 0-d, 0 if there are none."""
        labelled = self.targets(labels) != UNLABELLED
        values = -self.log_probabilities(logits, labels)
        if weights is not None:
            values = values * weights.unsqueeze(1).to(values.dtype)
        if present is not None:
            labelled = labelled & present.unsqueeze(1)
            values = torch.where(present.unsqueeze(1), values, 0.0)
        return values.sum() / labelled.sum().clamp_min(1)

    @torch.no_grad()
    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean probability of a sample's labelled tokens, `(..., batch)`."""
        labelled = self.targets(labels) != UNLABELLED
        probabilities = torch.where(labelled, self.log_probabilities(logits, labels).exp(), 0.0)
        return probabilities.sum(-1) / labelled.sum(-1).clamp_min(1)

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether every labelled token of a sample is the most probable one, bool `(..., batch)`."""
        targets = self.targets(labels)
        return ((logits.argmax(-1) == targets) | (targets == UNLABELLED)).all(-1) & (targets != UNLABELLED).any(-1)

    def labelled(self, labels: Tensor) -> Tensor:
        """Which samples have a labelled token, bool `(batch,)`."""
        return (self.targets(labels) != UNLABELLED).any(1)

    def counts(self, labels: Tensor) -> Tensor:
        """The same, shaped as the score: a sample has one."""
        return self.labelled(labels)

    def expected(self, num_labels: int) -> str:
        """What labels are, in words."""
        return f"tokens in [0, {num_labels}), {UNLABELLED} where none is asked for"

    def fits(self, labels: Tensor, num_labels: int) -> Tensor | None:
        """Which samples' labels are as they must be, bool `(batch,)`; None if dtype or shape are not."""
        if labels.dtype != torch.int64 or labels.dim() != 2:
            return None
        return ((labels >= 0) & (labels < num_labels) | (labels == UNLABELLED)).all(1)

    def tokens(self, labels: Tensor) -> Tensor:
        """How many tokens of a batch are labelled, 0-d."""
        return (self.targets(labels) != UNLABELLED).sum()
