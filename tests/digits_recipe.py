"""The part of a recipe that says what is trained on, for tiny trainings with the embedded data set."""

from __future__ import annotations

DIGITS = """
dataset: digits
modalities:
  audio: {type: conv, channels: [4, 8]}
  visual: {type: conv, channels: [4, 8]}
processors:
  audio: {type: log_spectrogram, sampling_rate: 8000, duration: 0.3, window_length: 128, overlap: 64}
  visual: {type: frames, size: 8, num_channels: 1}
"""
