"""From raw dataset columns to batches of tensors."""

from .collator import MultimodalDataCollator
from .features import FeatureVector
from .frames import FrameTransform
from .processing_multimodal import PROCESSORS, MultimodalProcessor
from .spectrogram import LogSpectrogram, log_spectrogram
from .text import Tokenize
from .waveform import read_waveform

__all__ = [
    "PROCESSORS",
    "FeatureVector",
    "FrameTransform",
    "LogSpectrogram",
    "MultimodalDataCollator",
    "MultimodalProcessor",
    "Tokenize",
    "log_spectrogram",
    "read_waveform",
]
