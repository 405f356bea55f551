"""The tiny CNNs and images of the property suite, for other tests."""

from __future__ import annotations

from hf_bml.testing import samples
from hf_bml.testing.samples import tiny_image_dataset, tiny_image_model, without_batch_norm

MODALITIES = samples.MODALITIES[:3]

__all__ = ["MODALITIES", "tiny_image_dataset", "tiny_image_model", "without_batch_norm"]
