"""Greedy, balanced multimodal learning: let the modality that leans on the others learn alone for a while.

Wu et al. 2022, "Characterizing and overcoming the greedy nature of learning in multi-modal deep neural networks"; a
baseline of the paper (Sec. 4.3.3, Table 5). It works on MMTM, whose gates are the only way between the encoders. With
theta_m the parameters of encoder m (main) and theta'_m those of its gates, squeeze included (bypass):

    energy                      mu(theta; t) = ||grad theta||^2 / ||theta||^2
    conditional learning speed  s_m(t) = log10( sum_tau mu(theta'_m; tau) / sum_tau mu(theta_m; tau) )

If the largest and the smallest speed differ by more than `epsilon`, a re-balancing window of `window` steps opens for
the modality with the largest: its gates are replaced by their running mean, a constant, so that its encoder learns
from its own input; the sums wait meanwhile. For two modalities this is the original's `d = s_0 - s_1`; for more
it is our reading.

Usage:      `modulations: {greedy: {}}`, with `interaction: mmtm` in the model's config, which a recipe has by itself
Values:     epsilon 0.01, window 5, starting_epoch 2 (the original); epsilon 0.001 in BalanceBenchmark.
Relations:  any fusion head will do; the original averages two unimodal heads.

The original's code fills every modality's running mean with the first one's gates; here each has its own, over all
samples of all earlier steps and processes. With fp16 the energies carry the loss scale, which cancels in the speed
while it is constant; a step that overflows does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from .base import Modulation, Title
from .config import ModulationConfig, check_count, option
from .step import Gradients, Needs, Run, Step


@dataclass
class GreedyConfig(ModulationConfig):
    """Options of Greedy.

    Args:
        epsilon: the difference of the speeds that is tolerated, >= 0.
        window: optimizer steps of a re-balancing window, at least 1.
        starting_epoch: epochs before the first window may open, >= 0; the energies count from the start.
    """

    epsilon: float = option(0.01, "Tolerated difference of the learning speeds, >= 0.", "[0, inf]")
    window: int = option(5, "Optimizer steps of a re-balancing window, at least 1.", check_count)
    starting_epoch: float = option(2, "Epochs before the first window may open.", "[0, inf]")


def energy(parameters: Sequence[nn.Parameter]) -> Tensor:
    """`||grad theta||^2 / ||theta||^2` over the parameters that have a gradient, 0-d; 0 if none has."""
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    if not trained:
        return parameters[0].new_zeros(())
    gradient = get_total_norm([parameter.grad for parameter in trained])
    weight = get_total_norm([parameter.detach() for parameter in trained])
    return (gradient / weight).square()


def conditional_learning_speeds(bypass: Tensor, main: Tensor) -> Tensor:
    """`s_m = log10(bypass_m / main_m)` of the accumulated energies, both `(modalities,)`.

    Example:
        >>> import torch
        >>> conditional_learning_speeds(torch.tensor([0.03, 0.12]), torch.tensor([0.6, 0.3]))
        tensor([-1.3010, -0.3979])
    """
    return torch.log10(bypass / main)


def next_window(
    speeds: Tensor, remaining: Tensor, caring: Tensor, epsilon: float, window: int, may_open: bool
) -> tuple[Tensor, Tensor]:
    """The re-balancing window's state after an optimizer step, without a host sync.

    Args:
        speeds: `(modalities,)`.
        remaining: steps left of the window, that step included, 0-d int64; 0 while none is open.
        caring: bool `(modalities,)`, the modality that the window is open for; none while it is closed.
        epsilon, window: see `GreedyConfig`.
        may_open: whether a window may open now.

    Returns:
        `remaining` and `caring` for the next step.
    """
    left = (remaining - 1).clamp_min(0)
    still = caring & (left > 0)
    if not may_open:
        return left, still
    opens = (remaining == 0) & (speeds.amax() - speeds.amin() > epsilon)
    fastest = torch.arange(len(speeds), device=speeds.device) == speeds.argmax()
    return torch.where(opens, window, left), torch.where(opens, fastest, still)


class Greedy(Modulation):
    """Opens re-balancing windows by the conditional learning speed (Wu et al. 2022).

    Logs `greedy/speed_<m>` (mean of the steps' speeds) and `greedy/rebalancing_<m>` (share of the steps that were in a
    window for the modality).
    """

    name = "greedy"
    config_class = GreedyConfig
    config: GreedyConfig
    phase = "features"
    kept = ("energies", "remaining", "caring", "gate_means", "gate_count")
    titles: ClassVar = {
        "speed": Title("conditional learning speed", None),
        "rebalancing": Title("share of steps in a window", 0, 1),
    }
    example_options: ClassVar = {"starting_epoch": 0}

    def __init__(self, config: GreedyConfig | None = None, **options: Any):
        super().__init__(config, **options)
        self._modules: list[nn.Module] = []
        self._handles: list[Any] = []

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(gradients=True, separate_encoders=True, whole_model=True, model_options={"interaction": "mmtm"})

    @property
    def options_in_epochs(self) -> list[str]:
        first = [f"starting_epoch={self.config.starting_epoch:g}"] if self.config.starting_epoch else []
        return [*super().options_in_epochs, *first]

    def attach(self, run: Run) -> None:
        model = run.model
        if not hasattr(model, "interaction"):  # only some classes have one, and a user's own may
            raise ValueError(
                f"greedy works on the gates of MMTM, which a {type(model).__name__} does not have. Use a "
                "MultimodalForClassification with interaction: mmtm."
            )
        interaction = model.interaction
        if not hasattr(interaction, "transfer_modules"):  # of MMTM, a submodule: no Protocol finds it
            found = getattr(run.face.config, "interaction", None)  # a user's model has any config, or none
            raise ValueError(
                f"greedy works on the gates of MMTM, but the model has interaction {found!r}. Set interaction: mmtm, "
                "which takes image encoders (timm CNNs or conv)."
            )
        for name, encoder in model.encoders.items():
            if not any(parameter.requires_grad for parameter in encoder.parameters()):
                raise ValueError(
                    f"greedy measures how fast every encoder learns, but that of {name!r} has no trainable parameter."
                )
        self.detach()
        self._modules = list(interaction.transfer_modules)
        self._handles = [
            module.register_forward_hook(partial(self._replace_gates, index))
            for index, module in enumerate(self._modules)
        ]

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def forget(self) -> None:
        self._in_step = False
        self._energies: Tensor | None = None  # (2, modalities), bypass and main, summed over the steps
        self._remaining: Tensor | None = None  # 0-d
        self._caring: Tensor | None = None  # bool (modalities,)
        self._gate_means: list[Tensor] = []  # per module (channels of all modalities,)
        self._gate_count: Tensor | None = None  # 0-d, samples behind the means
        self._gate_sums: dict[int, Tensor] = {}  # of the current step, by module
        self._samples = 0

    def begin_step(self, step: Step) -> None:
        self._in_step, self._gate_sums, self._samples = True, {}, 0

    @torch.compiler.disable
    @torch.no_grad()
    def _observe(self, index: int, gates: Mapping[str, Tensor]) -> None:
        joined = torch.cat(list(gates.values()), dim=-1)
        total = joined.sum(0, dtype=torch.promote_types(joined.dtype, torch.float32))
        self._gate_sums[index] = self._gate_sums[index] + total if index in self._gate_sums else total
        self._samples += len(joined) if index == 0 else 0

    def _replace_gates(self, index: int, module: nn.Module, inputs: Any, gates: dict[str, Tensor]) -> Any:
        """A forward hook of an MMTM module: the gates per modality `(batch, channels)` to those that are used."""
        if not (self._in_step and module.training):
            return None
        self._observe(index, gates)
        if not self._gate_means:
            return None
        means = self._gate_means[index].split([gate.shape[-1] for gate in gates.values()])
        return {
            name: torch.where(cares, mean.to(gate.dtype), gate)
            for (name, gate), mean, cares in zip(gates.items(), means, self._caring.unbind(), strict=True)
        }

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        main = torch.stack([energy(gradients.parameters[name]) for name in step.modalities])
        bypass = torch.stack([energy(self._bypass(name)) for name in step.modalities])
        energies = torch.stack([bypass, main])
        if self._energies is None:
            self._energies = torch.zeros_like(energies)
            self._remaining = torch.zeros((), dtype=torch.int64, device=energies.device)
            self._caring = torch.zeros_like(main, dtype=torch.bool)
        counts = (self._remaining == 0) & torch.isfinite(energies).all()
        self._energies = self._energies + torch.where(counts, energies, 0.0)
        speeds = conditional_learning_speeds(*self._energies)
        self.means.add({"greedy/speed": speeds, "greedy/rebalancing": self._caring.float()})
        may_open = step.epoch >= self.config.starting_epoch
        self._remaining, self._caring = next_window(
            speeds, self._remaining, self._caring, self.config.epsilon, self.config.window, may_open
        )
        self._update_gate_means(step)
        self._in_step = False

    def _bypass(self, modality: str) -> list[nn.Parameter]:
        """theta'_m: the modality's own excitation and the shared squeeze of every module."""
        return [
            parameter
            for module in self._modules
            for part in (module.excite[modality], module.squeeze)
            for parameter in part.parameters()
        ]

    def _update_gate_means(self, step: Step) -> None:
        sums = [self._gate_sums[index] for index in range(len(self._modules))]
        totals = torch.cat([*sums, sums[0].new_full((1,), self._samples)])
        if step.sum_over_processes is not None:
            totals = step.sum_over_processes(totals)
        *sums, count = totals.split([*(len(each) for each in sums), 1])
        if not self._gate_means:
            self._gate_means, self._gate_count = [torch.zeros_like(each) for each in sums], torch.zeros_like(count)
        self._gate_count = self._gate_count + count
        share = count / self._gate_count
        self._gate_means = [
            mean + (each / count - mean) * share for mean, each in zip(self._gate_means, sums, strict=True)
        ]
