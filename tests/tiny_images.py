"""The tiny CNNs and images of the property suite, for other tests."""

from __future__ import annotations

from functools import lru_cache

from hf_bml.testing import samples
from hf_bml.testing.samples import tiny_image_model, without_batch_norm

MODALITIES = samples.MODALITIES[:3]
tiny_image_dataset = lru_cache(samples.tiny_image_dataset)

__all__ = ["MODALITIES", "tiny_image_dataset", "tiny_image_model", "without_batch_norm"]
