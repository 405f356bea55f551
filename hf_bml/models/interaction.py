"""Cross-modal interaction: how encoders exchange information before the fusion head (paper Sec. 4.3.2, Table 3).

| name              | what the modalities exchange                                | encoders             |
|-------------------|--------------------------------------------------------------|----------------------|
| none              | nothing (late fusion)                                        | any                  |
| `centralnet`      | every stage's feature flows into a central stream            | CNNs (timm, `conv`)  |
| `mmtm`            | after the last stages, all gate the channels of each         | CNNs (timm, `conv`)  |
| `cross_attention` | tokens attend to the other modalities' tokens (VATT-style)   | any                  |

For all of them: a modality that a sample lacks, or that a modulation drops, contributes nothing to the joint path; the
unimodal score runs each modality with the others absent; the parameters of an interaction belong to no modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .configuration_encoders import check_fraction, check_size, is_number
from .encoders import StageMaps, masked_mean, sinusoidal_positions
from .fusion import drop_features

Inputs = Tensor | dict[str, Tensor]


def fill_absent(
    features: Mapping[str, Tensor | None], sizes: Mapping[str, int], keep_mask: Tensor | None
) -> dict[str, Tensor]:
    """Features per modality `(batch, sizes[m])` with zeros where a modality is None or `keep_mask` is False."""
    example = next(feature for feature in features.values() if feature is not None)
    filled = {
        name: example.new_zeros(len(example), sizes[name]) if feature is None else feature
        for name, feature in features.items()
    }
    return filled if keep_mask is None else drop_features(filled, keep_mask)


def keyword_inputs(inputs: Inputs, keyword: str = "values") -> dict[str, Tensor]:
    """A modality's input as keywords of its encoder."""
    return inputs if isinstance(inputs, dict) else {keyword: inputs}


class Interaction(nn.Module):
    """Late fusion, and the base class of interactions.

    A modality is `start`ed alone, with a graph; then the started modalities are joined by `forward`, under the keep
    mask that the modulations decided, or scored one by one by `alone`.

    Args:
        encoders: per modality, in modality order.
        options: the config's `interaction_options`.

    Attributes:
        sizes: feature size per modality, as `forward` and `alone` return it.
        features_are_unimodal: whether a modality's feature depends on that modality alone.
    """

    staged = False
    features_are_unimodal = True

    def __init__(self, encoders: Mapping[str, nn.Module], options: Any = None):
        super().__init__()
        self.sizes = {modality: encoder.output_size for modality, encoder in encoders.items()}

    def last(self, modality: str, feature: Tensor) -> Tensor:
        """The part of a feature `(batch, dim)` that is the encoder's own output: what auxiliary heads see."""
        return feature

    def start(self, encoder: nn.Module, inputs: Inputs) -> Any:
        """What a modality computes before it meets the others; here its feature `(batch, dim)`."""
        return encoder(**inputs) if isinstance(inputs, dict) else encoder(inputs)

    def alone(self, encoder: nn.Module, modality: str, started: Any) -> Tensor:
        """The feature `(batch, dim)` of a modality when every other one is absent."""
        return started

    def forward(
        self, encoders: Mapping[str, nn.Module], started: Mapping[str, Any], keep_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """
        Args:
            encoders: per modality.
            started: per modality, as `start` returned it; None for one that the whole batch lacks.
            keep_mask: bool `(batch, modalities)`, the modalities to join in each sample; None for all.

        Returns:
            features per modality `(batch, dim)`, zero where `keep_mask` is False.
        """
        return fill_absent(started, self.sizes, keep_mask)


@dataclass
class CentralNetOptions:
    """Options of CentralNet.

    Args:
        stages: how many of the encoders' last stages flow into the central stream.
    """

    stages: int = 4

    def __post_init__(self) -> None:
        check_size("stages", self.stages)


class CentralNet(Interaction):
    """The feature of a modality is the concatenation of its stages' global averages; the central stream is the head.

    Vielzeuf et al., CentralNet (2018); with ResNet-18 pairs the taps are 64, 128, 256 and 512 wide. The central stream
    is [`CentralHead`](fusion.py); give the unimodal heads of the original by `auxiliary_loss_weight: 1`.
    """

    staged = True

    def __init__(self, encoders: Mapping[str, nn.Module], options: CentralNetOptions):
        super().__init__(encoders)
        self.stages = common_stages(encoders, options.stages)
        self.tap_sizes = {
            modality: list(encoder.stage_sizes[-self.stages :]) for modality, encoder in encoders.items()
        }
        self.sizes = {modality: sum(sizes) for modality, sizes in self.tap_sizes.items()}

    def last(self, modality: str, feature: Tensor) -> Tensor:
        return feature[..., -self.tap_sizes[modality][-1] :]

    def start(self, encoder: nn.Module, inputs: Inputs) -> Tensor:
        """All taps of a modality, concatenated: `(batch, sum of the stages' channels)`."""
        state = encoder.images(**keyword_inputs(inputs))
        taps = []
        for index in range(len(encoder.stage_sizes)):
            state = state._replace(maps=encoder.stage(index, state.maps))
            taps.append(state.pooled())
        return torch.cat(taps[-self.stages :], dim=-1)


@dataclass
class MMTMOptions:
    """Options of MMTM.

    Args:
        stages: after how many of the encoders' last stages a module stands.
        ratio: the squeeze has `2 * channels / ratio` units, channels summed over the modalities.
        gate_scale: gates are `gate_scale * sigmoid(.)`; 2 makes the identity reachable, 1 is the published code.
    """

    stages: int = 3
    ratio: int = 4
    gate_scale: float = 2.0

    def __post_init__(self) -> None:
        check_size("stages", self.stages)
        check_size("ratio", self.ratio)
        if not (is_number(self.gate_scale) and self.gate_scale > 0):
            raise ValueError(f"gate_scale must be a number above 0, found {self.gate_scale!r}.")


class MMTMModule(nn.Module):
    """One multimodal transfer module: joint squeeze, and a channel gate per modality (Joze et al. 2020).

    Args:
        sizes: channels per modality.
        ratio, gate_scale: see `MMTMOptions`.

    Attributes:
        track_gates: whether training batches update the running mean of the gates.
        frozen: optional bool `(modalities,)`; a modality marked here is gated by its running mean, a constant, so
            that it learns from its own input alone. Set by the Greedy modulation.
    """

    def __init__(self, sizes: Mapping[str, int], ratio: int, gate_scale: float):
        super().__init__()
        self.gate_scale = gate_scale
        total = sum(sizes.values())
        self.squeeze = nn.Linear(total, max(1, int(2 * total / ratio)))
        self.excite = nn.ModuleDict(
            {modality: nn.Linear(self.squeeze.out_features, size) for modality, size in sizes.items()}
        )
        for modality, size in sizes.items():
            self.register_buffer(f"mean_gate_{modality}", torch.zeros(size))
        self.register_buffer("gate_count", torch.zeros(()))
        self.track_gates = False
        self.frozen: Tensor | None = None

    def gates(self, pooled: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Per modality the pooled feature `(batch, channels)`, zero where absent, to its gate of the same shape."""
        squeezed = torch.relu(self.squeeze(torch.cat(list(pooled.values()), dim=-1)))
        return {
            modality: self.gate_scale * torch.sigmoid(excite(squeezed)) for modality, excite in self.excite.items()
        }

    def forward(self, pooled: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `gates`, with the running mean in training: updated if tracked, used for a frozen modality."""
        gates = self.gates(pooled)
        if not (self.training and self.track_gates):
            return gates
        self._track(gates)
        if self.frozen is None:
            return gates
        return {
            modality: torch.where(frozen, getattr(self, f"mean_gate_{modality}"), gate)
            for (modality, gate), frozen in zip(gates.items(), self.frozen.unbind(), strict=True)
        }

    @torch.no_grad()
    def _track(self, gates: Mapping[str, Tensor]) -> None:
        self.gate_count += 1
        for modality, gate in gates.items():
            mean = getattr(self, f"mean_gate_{modality}")
            mean += (gate.mean(0) - mean) / self.gate_count


class MMTM(Interaction):
    """The encoders run stage by stage; after each of the last stages, a module gates their channels.

    Clips are averaged over frames for the squeeze, and one gate scales all frames.
    """

    staged = True
    features_are_unimodal = False

    def __init__(self, encoders: Mapping[str, nn.Module], options: MMTMOptions):
        super().__init__(encoders)
        self.stages = common_stages(encoders, options.stages)
        self.stage_sizes = {
            modality: list(encoder.stage_sizes[-self.stages :]) for modality, encoder in encoders.items()
        }
        self.transfer_modules = nn.ModuleList(
            MMTMModule(
                {modality: sizes[stage] for modality, sizes in self.stage_sizes.items()},
                options.ratio,
                options.gate_scale,
            )
            for stage in range(self.stages)
        )

    def start(self, encoder: nn.Module, inputs: Inputs) -> StageMaps:
        """The first stages, up to and with the first one that is gated."""
        state = encoder.images(**keyword_inputs(inputs))
        for index in range(len(encoder.stage_sizes) - self.stages + 1):
            state = state._replace(maps=encoder.stage(index, state.maps))
        return state

    def alone(self, encoder: nn.Module, modality: str, started: StageMaps) -> Tensor:
        state = started
        for stage, module in enumerate(self.transfer_modules):
            state = self._advance(encoder, state, stage)
            pooled = state.pooled()
            absent = {
                name: pooled if name == modality else pooled.new_zeros(len(pooled), sizes[stage])
                for name, sizes in self.stage_sizes.items()
            }
            state = state.scaled(module.gates(absent)[modality])
        return state.pooled()

    def forward(
        self,
        encoders: Mapping[str, nn.Module],
        started: Mapping[str, StageMaps | None],
        keep_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        states = dict(started)
        for stage, module in enumerate(self.transfer_modules):
            states = {
                name: None if state is None else self._advance(encoders[name], state, stage)
                for name, state in states.items()
            }
            pooled = {name: None if state is None else state.pooled() for name, state in states.items()}
            sizes = {name: sizes[stage] for name, sizes in self.stage_sizes.items()}
            gates = module(fill_absent(pooled, sizes, keep_mask))
            states = {name: None if state is None else state.scaled(gates[name]) for name, state in states.items()}
        features = {name: None if state is None else state.pooled() for name, state in states.items()}
        return fill_absent(features, self.sizes, keep_mask)

    def _advance(self, encoder: nn.Module, state: StageMaps, stage: int) -> StageMaps:
        """Runs the encoder's stage before module `stage`; the first has been run by `start`."""
        if stage == 0:
            return state
        index = len(encoder.stage_sizes) - self.stages + stage
        return state._replace(maps=encoder.stage(index, state.maps))


def common_stages(encoders: Mapping[str, nn.Module], wanted: int) -> int:
    """How many last stages to use: `wanted`.

    Raises:
        ValueError: an encoder has fewer.
    """
    for modality, encoder in encoders.items():
        if len(encoder.stage_sizes) < wanted:
            raise ValueError(
                f"interaction_options: stages is {wanted}, but the encoder of {modality!r} has only "
                f"{len(encoder.stage_sizes)} stages. Lower `stages`, or use a deeper encoder."
            )
    return wanted


@dataclass
class CrossAttentionOptions:
    """Options of the cross-modal attention.

    Args:
        hidden_size: width of the tokens, a multiple of `num_heads`.
        num_layers: layers of self-attention, cross-attention and feed-forward.
        num_heads: attention heads.
        feedforward_size: width of the feed-forward part; default four times `hidden_size`.
        dropout: in [0, 1).
    """

    hidden_size: int = 512
    num_layers: int = 2
    num_heads: int = 8
    feedforward_size: int | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_heads"):
            check_size(name, getattr(self, name))
        if self.feedforward_size is not None:
            check_size("feedforward_size", self.feedforward_size)
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of num_heads {self.num_heads}.")
        check_fraction("dropout", self.dropout)


class Tokens(NamedTuple):
    """A modality's sequence.

    Attributes:
        values: `(batch, length, dim)`.
        padding: bool `(batch, length)`, True where it is not to be seen; None for nowhere.
    """

    values: Tensor
    padding: Tensor | None = None

    def hidden(self, present: Tensor | None) -> Tensor:
        """`padding`, and everything where `present (batch,)` is False: bool `(batch, length)`."""
        padding = self.padding
        if padding is None:
            padding = torch.zeros(self.values.shape[:2], dtype=torch.bool, device=self.values.device)
        return padding if present is None else padding | ~present.unsqueeze(1)


class CrossAttentionLayer(nn.Module):
    """Pre-norm self-attention within a modality, attention to the others' tokens, feed-forward."""

    def __init__(self, modalities: Sequence[str], options: CrossAttentionOptions):
        super().__init__()
        size, dropout = options.hidden_size, options.dropout

        def attention() -> nn.ModuleDict:
            return nn.ModuleDict(
                {
                    name: nn.MultiheadAttention(size, options.num_heads, dropout, batch_first=True)
                    for name in modalities
                }
            )

        def norms() -> nn.ModuleDict:
            return nn.ModuleDict({name: nn.LayerNorm(size) for name in modalities})

        self.self_norms, self.self_attention = norms(), attention()
        self.cross_norms, self.cross_attention = norms(), attention()
        self.feedforward_norms = norms()
        wide = options.feedforward_size or 4 * size
        self.feedforward = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(size, wide), nn.GELU(), nn.Dropout(dropout), nn.Linear(wide, size))
                for name in modalities
            }
        )
        self.dropout = nn.Dropout(dropout)

    def attend_self(self, name: str, tokens: Tokens) -> Tokens:
        """Self-attention of one modality."""
        normed = self.self_norms[name](tokens.values)
        attended, _ = self.self_attention[name](
            normed, normed, normed, key_padding_mask=tokens.padding, need_weights=False
        )
        return tokens._replace(values=tokens.values + self.dropout(attended))

    def attend_others(self, name: str, tokens: Tokens, keys: Tensor, hidden: Tensor) -> Tokens:
        """Attention of one modality to `keys (batch, length, dim)`, nothing where all of them are `hidden`."""
        nothing = hidden.all(1)
        attended, _ = self.cross_attention[name](
            self.cross_norms[name](tokens.values),
            keys,
            keys,
            key_padding_mask=hidden & ~nothing.unsqueeze(1),  # a row without any key would give NaN
            need_weights=False,
        )
        attended = torch.where(nothing[:, None, None], 0.0, attended)
        return tokens._replace(values=tokens.values + self.dropout(attended))

    def feed_forward(self, name: str, tokens: Tokens) -> Tokens:
        """The feed-forward part of one modality."""
        update = self.feedforward[name](self.feedforward_norms[name](tokens.values))
        return tokens._replace(values=tokens.values + self.dropout(update))


class CrossAttention(Interaction):
    """Tokens of each modality attend to those of all others, layer by layer; the feature is their mean.

    The paper names VATT as "cross-modal attention" without further detail; this is our reading for encoders of any
    kind: the last hidden states (feature map positions of a CNN, over all frames) are projected to `hidden_size` and
    get sinusoidal positions and a learned modality embedding.
    """

    features_are_unimodal = False

    def __init__(self, encoders: Mapping[str, nn.Module], options: CrossAttentionOptions):
        super().__init__(encoders)
        size = options.hidden_size
        self.sizes = dict.fromkeys(encoders, size)
        self.projections = nn.ModuleDict(
            {modality: nn.Linear(encoder.token_size, size) for modality, encoder in encoders.items()}
        )
        self.embeddings = nn.ParameterDict({modality: nn.Parameter(torch.zeros(size)) for modality in encoders})
        self.layers = nn.ModuleList(CrossAttentionLayer(list(encoders), options) for _ in range(options.num_layers))
        self.norms = nn.ModuleDict({modality: nn.LayerNorm(size) for modality in encoders})

    def start(self, encoder: nn.Module, inputs: Inputs) -> Tokens:
        tokens, mask = encoder.tokens(**inputs) if isinstance(inputs, dict) else encoder.tokens(inputs)
        return Tokens(tokens, None if mask is None else ~mask.bool())

    def _embed(self, modality: str, tokens: Tokens) -> Tokens:
        values = self.projections[modality](tokens.values)
        positions = sinusoidal_positions(values.shape[1], values.shape[2], values)
        return tokens._replace(values=values + positions + self.embeddings[modality].to(values.dtype))

    def alone(self, encoder: nn.Module, modality: str, started: Tokens) -> Tensor:
        tokens = self._embed(modality, started)
        for layer in self.layers:
            tokens = layer.feed_forward(modality, layer.attend_self(modality, tokens))
        return self._pool(modality, tokens)

    def forward(
        self, encoders: Mapping[str, nn.Module], started: Mapping[str, Tokens | None], keep_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        columns = {name: column for column, name in enumerate(started)}
        given = {name: self._embed(name, tokens) for name, tokens in started.items() if tokens is not None}
        present = {name: None if keep_mask is None else keep_mask[:, columns[name]].bool() for name in given}
        for layer in self.layers:
            given = {name: layer.attend_self(name, tokens) for name, tokens in given.items()}
            joined = dict(given)
            for name, tokens in given.items():
                others = [other for other in given if other != name]
                if others:
                    keys = torch.cat([layer.cross_norms[other](given[other].values) for other in others], dim=1)
                    hidden = torch.cat([given[other].hidden(present[other]) for other in others], dim=1)
                    joined[name] = layer.attend_others(name, tokens, keys, hidden)
            given = {name: layer.feed_forward(name, tokens) for name, tokens in joined.items()}
        features = {name: self._pool(name, given[name]) if name in given else None for name in started}
        return fill_absent(features, self.sizes, keep_mask)

    def _pool(self, modality: str, tokens: Tokens) -> Tensor:
        mask = None if tokens.padding is None else ~tokens.padding
        return masked_mean(self.norms[modality](tokens.values), mask)


INTERACTIONS: dict[str, tuple[type[Interaction], type]] = {
    "centralnet": (CentralNet, CentralNetOptions),
    "mmtm": (MMTM, MMTMOptions),
    "cross_attention": (CrossAttention, CrossAttentionOptions),
}
