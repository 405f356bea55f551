from __future__ import annotations

import pytest
import torch
from tiny import unreached
from tiny_segments import tiny_segment_model, tiny_segments


def test_the_features_are_the_sound_and_the_attended_positions():
    model = tiny_segment_model("avga").eval()
    inputs, _ = tiny_segments(4)
    for parameter in model.encoders["visual"].attention.parameters():
        torch.nn.init.zeros_(parameter)
    features = model(**inputs).features
    assert torch.equal(features["audio"], inputs["audio"])
    torch.testing.assert_close(features["visual"], inputs["visual"].mean(2))


def test_the_logits_come_from_both_directions_of_both_modalities():
    model = tiny_segment_model("avga").eval()
    inputs, _ = tiny_segments(2)
    output = model(**inputs)
    parts = []
    for name, encoder in model.encoders.items():
        plain = torch.nn.LSTM(output.features[name].shape[-1], 8, batch_first=True, bidirectional=True)
        plain.load_state_dict(encoder.recurrent.state_dict())
        parts.append(plain(output.features[name])[0])
    hidden = torch.relu(torch.cat(parts, -1))
    first, last = model.architecture.classifier[1], model.architecture.classifier[3]
    torch.testing.assert_close(output.logits, last(torch.relu(first(hidden))))


def test_published_sizes():
    model = tiny_segment_model("avga", options={"positions": 49, "attention_size": 512, "hidden_size": 128})
    attention = model.encoders["visual"].attention
    assert attention.from_position.weight.shape == attention.from_guide.weight.shape == (49, 512)
    assert attention.weigh.weight.shape == (1, 49)
    assert model.architecture.classifier[1].in_features == 512


def test_a_further_modality_runs_beside():
    model = tiny_segment_model("avga", ("audio", "visual", "text"))
    inputs, labels = tiny_segments(4, ("audio", "visual", "text"))
    output = model(**inputs, labels=labels)
    assert list(output.unimodal_logits) == ["audio", "visual", "text"]
    output.loss.backward()
    assert unreached(model) == []


def test_a_modality_that_is_neither_guided_has_the_mean_of_its_positions():
    model = tiny_segment_model("avga", options={"guide": "visual", "guided": "audio", "positions": 1})
    inputs, _ = tiny_segments(4)
    torch.testing.assert_close(model(**inputs).features["visual"], inputs["visual"].mean(2))


def test_needs_two_modalities():
    with pytest.raises(ValueError, match="architecture 'avga': one modality guides another"):
        tiny_segment_model("avga", ("audio",))
