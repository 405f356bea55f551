"""From raw dataset columns to batches of tensors."""

from .collator import MultimodalDataCollator
from .features import FeatureVector
from .frames import FrameTransform
from .ivector import IVector
from .media_file import MediaError
from .modality_transforms import PROCESSORS
from .multi_window_spectrogram import MultiWindowSpectrogram
from .optical_flow import OpticalFlow, encode_flow, optical_flow
from .processing_multimodal import MultimodalProcessor
from .rgb_difference import RGBDifference
from .spectrogram import LogSpectrogram, log_spectrogram
from .text import Tokenize, Words
from .video import read_video
from .video_frames import VideoFrames
from .waveform import read_waveform

__all__ = [
    "PROCESSORS",
    "FeatureVector",
    "FrameTransform",
    "IVector",
    "LogSpectrogram",
    "MediaError",
    "MultiWindowSpectrogram",
    "MultimodalDataCollator",
    "MultimodalProcessor",
    "OpticalFlow",
    "RGBDifference",
    "Tokenize",
    "VideoFrames",
    "Words",
    "encode_flow",
    "log_spectrogram",
    "optical_flow",
    "read_video",
    "read_waveform",
]
