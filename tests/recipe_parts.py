"""Parts of recipes for tiny trainings: what is trained on, and how."""

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
VECTORS = """
dataset: finished:load
modalities:
  audio: &encoder {type: sequence, input_size: 2, hidden_size: 4, num_heads: 1, num_layers: 0}
  visual: {<<: *encoder}
"""
EVERY_EPOCH = """
num_train_epochs: 3
logging_strategy: epoch
eval_strategy: epoch
save_strategy: epoch
load_best_model_at_end: true
metric_for_best_model: accuracy
"""
TWO_STEPS = """
max_steps: 2
eval_strategy: "no"
save_strategy: "no"
"""
QUIET = """
use_cpu: true
disable_tqdm: true
report_to: none
"""
