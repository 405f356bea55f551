"""Waveforms for speech models, by the feature extractor that the model was pretrained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoFeatureExtractor

from ..media.waveform import check_min_rms, read_audible_waveform
from .base import Transform


class Waveform(Transform):
    """Audio -> what a model of transformers takes: `{"input_values": (samples,)}`, float32, of wav2vec2, HuBERT and
    WavLM, `{"input_features": ...}` of others; unpadded (the collator pads), unless the model wants one length.

    The feature extractor decides sampling rate, normalisation and whether an `attention_mask` marks the padding:
    models with group normalisation, such as wav2vec2-base, were pretrained without, and hear zeros there.

    Usage: `processors: {audio: {type: waveform, feature_extractor: facebook/wav2vec2-base, duration: 4}}`

    Args:
        feature_extractor: name on the Hub or folder of a transformers feature extractor.
        duration: of longer clips the middle is taken, in seconds; None keeps them whole.
        min_rms: clips whose root mean square amplitude is lower count as silent and raise MediaError; 1e-4 is -80 dB
            of full scale. 0 accepts silence.

    Raises:
        ValueError: `duration` or `min_rms` is out of range, or there is no feature extractor.
        MediaError: a clip cannot be read, or is silent; the message names the file.
    """

    signal = "audio"
    reads_video = True
    source_option = "feature_extractor"
    of_the_encoder = ("feature_extractor",)

    def __init__(self, feature_extractor: str, duration: float | None = None, min_rms: float = 0.0):
        if duration is not None and duration <= 0:
            raise ValueError(f"Expected duration > 0, found {duration}. Give seconds, or null for whole clips.")
        check_min_rms(min_rms)
        self.feature_extractor = AutoFeatureExtractor.from_pretrained(feature_extractor)
        self.sampling_rate = self.feature_extractor.sampling_rate
        self.duration, self.min_rms = duration, min_rms
        self.output_keys = list(self._features(np.zeros(self.sampling_rate, dtype=np.float32)))

    def save_files(self, folder: Path) -> None:
        """Write the feature extractor's configuration."""
        self.feature_extractor.save_pretrained(folder)

    def read(self, value: Any) -> Tensor:
        """The mono waveform of a clip (any form `read_waveform` accepts), float32 (samples,)."""
        return read_audible_waveform(value, self.sampling_rate, self.min_rms)

    def from_signal(self, signal: Tensor, training: bool = False) -> dict[str, Tensor]:
        """Cut a waveform and extract; `training` changes nothing."""
        if self.duration is not None:
            length = max(1, round(self.duration * self.sampling_rate))
            start = max(0, len(signal) - length) // 2
            signal = signal[start : start + length]
        return self._features(signal.numpy())

    def _features(self, waveform: np.ndarray) -> dict[str, Tensor]:
        batch = self.feature_extractor(waveform, sampling_rate=self.sampling_rate, return_tensors="np")
        values = {key: torch.from_numpy(np.ascontiguousarray(value[0])) for key, value in batch.items()}
        return {key: value.float() if value.is_floating_point() else value.long() for key, value in values.items()}
