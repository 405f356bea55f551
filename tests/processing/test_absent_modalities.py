from __future__ import annotations

import pytest
import torch

from hf_bml.processing import LogSpectrogram, MultimodalDataCollator, MultimodalProcessor
from hf_bml.processing.absent_modalities import WithoutModalities, zero_input

NAMES = ["audio", "text", "tokens"]
SAMPLES = [
    {
        "audio": torch.ones(3),
        "text": torch.ones(2, 4),
        "tokens": {"input_ids": torch.tensor([5, 6]), "attention_mask": torch.tensor([1, 1])},
        "labels": 1,
    },
    {
        "audio": None,
        "text": torch.ones(1, 4),
        "tokens": {"input_ids": torch.tensor([7]), "attention_mask": torch.tensor([1])},
        "labels": 0,
    },
]


def batch_of(absent, absence):
    return WithoutModalities(MultimodalDataCollator(NAMES), NAMES, absent, absence)(SAMPLES)


def test_zero_input_leaves_masks_labels_and_the_others():
    batch, plain = batch_of(["text", "tokens"], "zero_input"), batch_of([], "zero_input")
    assert not batch["text"]["values"].any() and not batch["tokens"]["input_ids"].any()
    assert torch.equal(batch["text"]["mask"], plain["text"]["mask"])
    assert torch.equal(batch["tokens"]["attention_mask"], torch.tensor([[1, 1], [1, 0]]))
    for name in ("audio", "labels", "modality_mask"):
        assert torch.equal(batch[name], plain[name])
    assert plain["modality_mask"].tolist() == [[True, True, True], [False, True, True]]


def test_modality_mask_tells_the_model_and_leaves_the_inputs():
    batch = batch_of(["text"], "modality_mask")
    assert batch["modality_mask"].tolist() == [[True, False, True], [False, False, True]]
    assert batch["text"]["values"].any()
    assert not batch_of(NAMES, "modality_mask")["modality_mask"].any()


def test_without_a_mask_in_the_batch():
    collator = WithoutModalities(MultimodalDataCollator(["text"]), ["text"], [], "modality_mask")
    assert collator(SAMPLES)["modality_mask"].tolist() == [[True], [True]]


def test_zero_input_keeps_shape_and_type():
    value = torch.ones(2, 3, dtype=torch.float16)
    assert torch.equal(zero_input(value), torch.zeros_like(value)) and zero_input(value).dtype == torch.float16


def test_bad_input():
    with pytest.raises(ValueError, match="found \\['sound'\\]"):
        batch_of(["sound"], "zero_input")
    with pytest.raises(ValueError, match=r"absence must be one of \['modality_mask', 'zero_input'\], found 'none'"):
        batch_of([], "none")


@pytest.mark.parametrize(
    ("config", "zeros"),
    [
        ({"type": "log_spectrogram"}, "noise at the mean log level of a clip"),
        ({"type": "log_spectrogram", "standardize": False}, "noise at log level 0, louder than a clip"),
        ({"type": "multi_window"}, "noise at the mean log level of a clip"),
        ({"type": "features"}, "features that are all 0, which no clip may have"),
        ({"type": "words"}, "a text of the token with id 0, as long as the sample's own"),
        ({"type": "ivector"}, None),
        ({"type": "frames"}, None),
        ({"type": "video"}, None),
        ({"type": "rgb_difference"}, None),
        ({"type": "optical_flow"}, None),
    ],
)
def test_every_processor_says_what_its_zeros_are(config, zeros):
    try:
        [transform] = MultimodalProcessor({"it": config}).transforms.values()
    except ValueError as error:
        pytest.skip(str(error))  # an extra, such as OpenCV, is missing
    assert transform.zeros == zeros


def test_zeros_of_a_log_spectrogram_are_louder_than_silence():
    """Nearly silent clips lie far below zero; that is why `modality_mask` is the default."""
    quiet = torch.randn(8000, generator=torch.Generator().manual_seed(0)).numpy() * 1e-3
    [spectrogram] = LogSpectrogram(sampling_rate=8000, duration=1.0, standardize=False)([quiet])
    assert spectrogram.max() < -5
