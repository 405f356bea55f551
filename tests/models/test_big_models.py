"""Models of all tasks in half precision, and exported; encoders by themselves: encoders/test_support.py."""

from __future__ import annotations

import pytest
import torch
from tiny import check_export, tiny_image_config, tiny_images
from tiny_questions import tiny_question_model, tiny_questions
from tiny_segments import tiny_segment_model, tiny_segments

from hf_bml import MultimodalForClassification


def attending():
    options = {"interaction": "cross_attention", "interaction_options": {"hidden_size": 16, "num_heads": 2}}
    return MultimodalForClassification(tiny_image_config(**options))


CASES = {
    "avsd": (tiny_question_model, tiny_questions),
    "psp": (lambda: tiny_segment_model("psp"), lambda: tiny_segments(4)[0]),
    "cross_attention": (attending, tiny_images),
}


@pytest.fixture(params=CASES)
def case(request):
    build, inputs = CASES[request.param]
    return build(), {name: value for name, value in inputs().items() if name != "labels"}


def test_inputs_in_float32_meet_weights_in_bfloat16(case):
    model, batch = case
    labels = torch.zeros(model.eval()(**batch).logits.shape[:-1], dtype=torch.long)
    output = model.to(torch.bfloat16).train()(**batch, labels=labels)
    assert output.logits.dtype == torch.bfloat16
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_export_with_any_number_of_samples(case):
    check_export(*case)
