"""Models of one modality each that were trained alone, frozen, and teach a joint model on the batches it sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ground.task import at_least_float32, masked_mean
from .step import MicroBatch, Run


def feature_distance(feature: Tensor, taught: Tensor, present: Tensor | None = None) -> Tensor:
    """`mean_{i,d} (phi_{i,d} - phi'_{i,d})^2`, 0-d, in float32 or better; the gradient reaches `feature` alone.

    Args:
        feature: phi, `(batch, ..., dim)`.
        taught: phi', shaped alike.
        present: optional bool `(batch,)`; other samples do not count. 0 if there are none.

    Example:
        >>> import torch
        >>> feature_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        tensor(2.5000)
    """
    squares = (at_least_float32(feature) - at_least_float32(taught).detach()).square()
    return masked_mean(squares.flatten(1).mean(1), present)


def divergence(first: Tensor, second: Tensor, temperature: float, present: Tensor | None = None) -> Tensor:
    """`T^2 mean_i KL(softmax(z_i / T) || softmax(z'_i / T))`, 0-d, in float32 or better.

    Args:
        first: z, `(batch, ..., num_labels)`.
        second: z', shaped alike.
        temperature: T, > 0.
        present: as in `feature_distance`.

    Example:
        >>> import torch
        >>> divergence(torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.931034, 0.068966]]).log(), 1.0)
        tensor(0.0066)
    """
    each = divergences(first, second, temperature)
    return temperature**2 * masked_mean(each.view(len(each), -1).mean(1), present)


def divergences(first: Tensor, second: Tensor, temperature: float = 1.0) -> Tensor:
    """`KL(softmax(z / T) || softmax(z' / T))`, `(...)`, in float32 or better; arguments as of `divergence`."""
    first, second = ((at_least_float32(logits) / temperature).log_softmax(-1) for logits in (first, second))
    return (first.exp() * (first - second)).sum(-1)


class Teachers:
    """A training's teachers; they are loaded when they are first asked, so that a model can be evaluated without.

    Args:
        run: whose `trained_alone` names them.
        modalities: to be taught.
    """

    def __init__(self, run: Run, modalities: tuple[str, ...]):
        self._run, self._modalities = run, modalities
        self._models: dict[str, Any] = {}

    @torch.no_grad()
    def outputs(self, batch: MicroBatch) -> dict[str, Any]:
        """What each teacher makes of the batch, augmented as the model sees it: `features` and `logits`. A modality
        that the whole batch lacks is left out.

        Raises:
            ValueError: a teacher's feature is shaped otherwise than the model's.
        """
        if not self._models:
            self._models = {name: self._run.trained_alone(name) for name in self._modalities}
        given = {name: inputs for name, inputs in batch.inputs.items() if inputs is not None}
        found = {name: self._models[name](**{name: inputs}) for name, inputs in given.items()}
        for name, output in found.items():
            own, taught = batch.features[name].shape, output.features[name].shape
            if own != taught:
                raise ValueError(
                    f"trained_alone: the features of {name!r} are {tuple(taught)} in the model that was trained "
                    f"alone, but {tuple(own)} here. Train it by the same recipe."
                )
        return found
