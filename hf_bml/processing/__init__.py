"""From raw dataset columns to batches of tensors."""

from __future__ import annotations

from .collator import MultimodalDataCollator
from .corruptions import CORRUPTIONS
from .decoded_split import DecodedSplit, corrupted_datasets
from .media.file import MediaError
from .media.video import read_video
from .media.waveform import read_waveform
from .modality_transforms import PROCESSORS
from .processor import MultimodalProcessor
from .seen_in_training import augmentation_of, augmentation_text
from .transforms.base import Transform
from .transforms.features import FeatureVector
from .transforms.frames import FrameTransform
from .transforms.ivector import IVector
from .transforms.multi_window_spectrogram import MultiWindowSpectrogram
from .transforms.optical_flow import OpticalFlow, encode_flow, optical_flow
from .transforms.rgb_difference import RGBDifference
from .transforms.spectrogram import LogSpectrogram, log_spectrogram
from .transforms.text import Tokenize, Words
from .transforms.video_frames import VideoFrames
from .transforms.waveform import Waveform

__all__ = [
    "CORRUPTIONS",
    "PROCESSORS",
    "DecodedSplit",
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
    "Transform",
    "VideoFrames",
    "Waveform",
    "Words",
    "augmentation_of",
    "augmentation_text",
    "corrupted_datasets",
    "encode_flow",
    "log_spectrogram",
    "optical_flow",
    "read_video",
    "read_waveform",
]
