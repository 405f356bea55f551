"""AVSD, adapted from the audio visual scene-aware dialog baseline (paper Table 7; our re-implementation).

Schwartz et al. 2019, "A simple baseline for audio-visual scene-aware dialog": the question, the sound and a few video
frames attend to each other through factor graph attention; an LSTM runs over what is found in the sound and in each
frame; its last state and the attended question give the answer.

What differs from the original: it decodes sentences with an LSTM from a dialog and its caption and trains with
AdaDelta; here a classifier picks the answer. Any modalities in place of sound and frames. The cross potentials of a
sequence with the frames of one video are averaged before they are mixed, where the original has a weight for each.
All biases start at zero, the LSTM's weights Xavier uniform, those of linear layers Xavier normal, where the original
has Xavier normal for the LSTMs and He normal for the others; the question's LSTM starts as torch's own.

As published, the encoders are an LSTM over embedded words and linear projections of VGGish and of VGG (here ResNet-18)
features:

    modalities:
      text: {type: lstm, vocab_size: 93, embedding_size: 200, hidden_size: 256}
      audio: {type: sequence, input_size: 128, hidden_size: 256, num_layers: 0, positions: false}
      visual: {type: sequence, input_size: 512, hidden_size: 256, num_layers: 0, positions: false}
    architecture: avsd
    architecture_options: {utilities: {visual: 4}}
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..encoders.lstm import RecurrentLayer
from ..encoders.sequences import Tokens, seen_tokens
from ..options import check_fraction, check_size
from .base import Architecture, projection
from .factor_graph import Mix, Pair, Unary, attended, pairwise_potentials


@dataclass
class AVSDOptions:
    """Options of AVSD.

    Args:
        hidden_size: width of the attention and the LSTM; tokens of another width are projected.
        dropout: in the unary potentials, in [0, 1).
        utilities: by modality given as `(frames, positions, dim)`, how many frames at most, each of which is then
            attended by itself; where there are fewer, the last find nothing. Default one sequence of all tokens.
    """

    hidden_size: int = 256
    dropout: float = 0.5
    utilities: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        check_fraction("dropout", self.dropout)
        if not isinstance(self.utilities, Mapping):
            raise ValueError(f"utilities must be a dict of numbers by modality, found {self.utilities!r}.")
        for name, count in self.utilities.items():
            check_size(f"utilities of {name!r}", count)


class AVSD(Architecture):
    """Factor graph attention between question, sound and frames, an LSTM over what it finds, a classifier."""

    options_class = AVSDOptions
    provenance = (
        "A re-implementation of AVSD (Schwartz et al. 2019) that differs from what was published: a classifier "
        "instead of a decoder of sentences, no dialog history, and no weight of its own for each frame of a video. "
        "The original was trained with AdaDelta."
    )

    def __init__(self, sizes: Mapping[str, int], num_labels: int, options: AVSDOptions):
        super().__init__(sizes, num_labels, options)
        unknown = [name for name in options.utilities if name not in self.others]
        if unknown:
            raise ValueError(f"utilities are for the modalities {self.others}, found {unknown}.")
        size = options.hidden_size
        self.utilities = {name: options.utilities.get(name, 1) for name in sizes}
        self.projections = nn.ModuleDict({name: projection(width, size) for name, width in sizes.items()})
        self.unary = nn.ModuleDict({name: Unary(size, options.dropout) for name in sizes})
        self.self_pairs = nn.ModuleDict({name: Pair(size) for name in sizes})
        self.sibling_pairs = nn.ModuleDict({name: Pair(size) for name, count in self.utilities.items() if count > 1})
        self.cross_pairs = nn.ModuleDict(
            {f"{first}-{second}": Pair(size) for first, second in itertools.combinations(sizes, 2)}
        )
        self.mixes = nn.ModuleDict({name: Mix(self._count_potentials(name)) for name in sizes})
        self.lstm = RecurrentLayer(size, size, bidirectional=False) if self.others else None
        self.classifier = nn.Sequential(
            nn.Linear(size * (2 if self.others else 1), size), nn.ReLU(), nn.Linear(size, num_labels)
        )

    def _count_potentials(self, name: str) -> int:
        """Unary, self, one per other modality, the siblings, and the question's prior."""
        return 2 + len(self.sizes) - 1 + (self.utilities[name] > 1) + (name == self.question)

    def forward(self, tokens: Mapping[str, Tokens]) -> Tensor:
        example = next(iter(tokens.values())).values
        tokens = {name: self._with_all_frames(name, given) for name, given in tokens.items()}
        values = {name: self.projections[name](given.values) for name, given in tokens.items()}
        seen = {name: given.mask for name, given in tokens.items()}
        found = {name: self._attend(name, values, seen) for name in tokens}  # (batch, utilities, hidden_size)
        width = self.classifier[-1].in_features
        dtype = next(iter(found.values())).dtype
        found = {
            name: found[name] if name in found else example.new_zeros(example.shape[0], count, width, dtype=dtype)
            for name, count in self.utilities.items()
        }
        parts = [found[self.question].squeeze(1)]
        if self.others:
            steps = torch.cat([found[name] for name in self.others], dim=1)
            _, (state, _) = self.lstm(steps)
            parts.insert(0, state.squeeze(0).to(dtype))
        return self.classifier(torch.cat(parts, dim=-1))

    def _attend(self, name: str, values: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> Tensor:
        """What the utilities of a modality come to, `(batch, utilities, hidden_size)`."""
        own = values[name]
        potentials = [
            self.unary[name](own),
            self._within_utilities(name, own, seen[name]),
            *(self._across(name, other, values, seen) for other in self.sizes if other != name),
        ]
        if self.utilities[name] > 1:
            potentials.append(self._among_siblings(name, own, seen[name]))
        if name == self.question:
            potentials.append(last_position(seen[name]).to(own.dtype))
        mixed = self.mixes[name](potentials)
        cut = [self._cut(name, part) for part in (own, mixed, seen[name])]
        return attended(*cut).unflatten(0, (-1, self.utilities[name]))

    def _with_all_frames(self, name: str, tokens: Tokens) -> Tokens:
        """The tokens with a mask, and hidden ones at the end for the frames that the whole batch has not.

        A utility is a frame, not a share of the length, which the padding would change.
        """
        count, frames = self.utilities[name], tokens.frames
        seen = seen_tokens(tokens)
        if count == 1:
            return Tokens(tokens.values, seen)
        if frames is None or frames > count:
            found = f"a sequence of {seen.shape[1]} without frames" if frames is None else f"{frames} frames"
            raise ValueError(
                f"Modality {name!r}: with utilities={count}, expected (frames, positions, dim) of at most {count} "
                f"frames, found {found}. Give it as many frames, or change `utilities`."
            )
        lacking = (count - frames) * (seen.shape[1] // frames)
        return Tokens(
            nn.functional.pad(tokens.values, (0, 0, 0, lacking)), nn.functional.pad(seen, (0, lacking)), count
        )

    def _cut(self, name: str, part: Tensor) -> Tensor:
        """`(batch, length, ...)` to `(batch * utilities, length / utilities, ...)`."""
        return part.unflatten(1, (self.utilities[name], -1)).flatten(0, 1)

    def _within_utilities(self, name: str, own: Tensor, seen: Tensor) -> Tensor:
        pair = self.self_pairs[name]
        queries, keys, seen = (self._cut(name, part) for part in (pair.first(own), pair.second(own), seen))
        return pairwise_potentials(queries, keys, seen).view(own.shape[:2])

    def _among_siblings(self, name: str, own: Tensor, seen: Tensor) -> Tensor:
        """The pairwise potentials with the other utilities of the same modality: all keys but the utility's own."""
        count, pair = self.utilities[name], self.sibling_pairs[name]
        keys = pair.second(own).unsqueeze(1).expand(-1, count, -1, -1).flatten(0, 1)
        utility = torch.arange(count, device=own.device)
        is_sibling = utility[:, None] != utility.repeat_interleave(own.shape[1] // count)  # (utilities, length)
        others = (seen.unsqueeze(1) & is_sibling).flatten(0, 1)
        return pairwise_potentials(self._cut(name, pair.first(own)), keys, others).view(own.shape[:2])

    def _across(self, name: str, other: str, values: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> Tensor:
        if other not in values:
            return values[name].new_zeros(values[name].shape[:2])
        if f"{name}-{other}" in self.cross_pairs:
            pair = self.cross_pairs[f"{name}-{other}"]
            project, project_other = pair.first, pair.second
        else:
            pair = self.cross_pairs[f"{other}-{name}"]
            project, project_other = pair.second, pair.first
        return pairwise_potentials(project(values[name]), project_other(values[other]), seen[other])


def last_position(seen: Tensor) -> Tensor:
    """1 at the last seen position of each row, 0 elsewhere: bool `(batch, length)`, the question's prior potential."""
    behind = seen.flip(1).cumsum(1).flip(1)
    return seen & (behind == 1)
