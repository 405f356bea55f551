"""Store tensors in an Arrow column as bytes plus shape.

Reading 2,000 float32 tensors of shape (1, 40, 98) in batches of 32 takes about a tenth of the time that
`datasets.Array3D` needs, shapes may differ between rows, and an absent value stays `None` (`Array3D` turns it into
NaN).

A stored value also names the processor that made it, so that a prepared data set can be pushed to the Hub, loaded, and
used where that processor is applied again, but not where another one is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Features, List, Value
from torch import Tensor

SOURCE = "prepared_by"  # beside the tensors: digest of the modality's processor


class TensorBytes(Value):
    """Column type of a tensor's bytes in a prepared data set: as `Value("binary")`, which it is in files, but only
    the format that `MultimodalProcessor.apply` sets can read it. Others would give the bytes without a word."""

    def __init__(self) -> None:
        super().__init__("binary")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and other.dtype == self.dtype

    def decode_example(self, value: bytes, token_per_repo_id: Any = None) -> bytes:
        """Raises ValueError."""
        raise ValueError(
            "Expected the format that MultimodalProcessor.apply sets, found another one, in which a prepared column "
            "gives bytes instead of tensors. Keep the format, or apply the processor to this data set."
        )


def with_guarded_bytes(feature: Any, guarded: bool = True) -> Any:
    """The column type of stored tensors with `TensorBytes` (or, not guarded, with plain bytes) in it."""
    if not isinstance(feature, dict):
        return feature
    feature = {key: with_guarded_bytes(kind, guarded) for key, kind in feature.items()}
    if feature.keys() >= {"data", "shape", "dtype"}:
        feature["data"] = TensorBytes() if guarded else Value("binary")
    return feature


def tensor_features() -> Features:
    """Column type of one stored tensor."""
    return Features({"data": Value("binary"), "shape": List(Value("int32")), "dtype": Value("string")})


def encode_tensor(tensor: Tensor) -> dict:
    """Tensor of any shape and numpy dtype -> `{"data": bytes, "shape": list, "dtype": str}`."""
    array = tensor.contiguous().numpy()
    return {"data": array.tobytes(), "shape": list(array.shape), "dtype": array.dtype.str}


def decode_tensor(stored: dict) -> Tensor:
    """Inverse of `encode_tensor`; the result owns its memory."""
    array = np.frombuffer(stored["data"], dtype=np.dtype(stored["dtype"])).reshape(stored["shape"])
    return torch.from_numpy(array.copy())


def encode_value(value: Tensor | dict[str, Tensor] | None, source: str | None = None) -> dict | None:
    """Encode a tensor, a dict of tensors, or an absent value; `source` is stored beside it."""
    if value is None:
        return None
    if isinstance(value, dict):
        encoded = {key: encode_tensor(tensor) for key, tensor in value.items()}
    else:
        encoded = encode_tensor(value)
    return encoded if source is None else {**encoded, SOURCE: source}


def decode_value(stored: dict | None) -> Tensor | dict[str, Tensor] | None:
    """Inverse of `encode_value`."""
    if stored is None:
        return None
    if "data" in stored and "shape" in stored:
        return decode_tensor(stored)
    return {key: decode_tensor(tensor) for key, tensor in stored.items() if key != SOURCE}


def stored_source(value: Any) -> str | None:
    """The source of a stored value, or `None` for any other value; of a column's type, whether there is one."""
    return value.get(SOURCE) if isinstance(value, dict) else None
