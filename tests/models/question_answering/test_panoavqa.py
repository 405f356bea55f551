from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_bml.models.encoders.sequences import Tokens
from hf_bml.models.question_answering.panoavqa import CrossModalLayer, PanoAVQA, PanoAVQAOptions

SIZES = {"text": 4, "audio": 5, "visual": 6}


def options(**changes):
    return PanoAVQAOptions(**{"hidden_size": 4, "num_layers": 1, "num_heads": 1, "dropout": 0.0, **changes})


def build(sizes=SIZES, labels=3, **changes):
    torch.manual_seed(0)
    return PanoAVQA(sizes, labels, options(**changes)).eval()


def tokens(sizes=SIZES, length=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: Tokens(torch.randn(2, length, size, generator=generator)) for name, size in sizes.items()}


def plain(attention):
    """Queries and keys as they are, so that weights are softmax(q . k / sqrt(dim)), and values as they are."""
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.eye(attention.embed_dim).repeat(3, 1))
        attention.in_proj_bias.zero_()
        attention.out_proj.weight.copy_(torch.eye(attention.embed_dim))
        attention.out_proj.bias.zero_()


def silent(module):
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def test_cross_attention_by_hand():
    """Text (2, 0, 0, 0) sees audio (1, 1, 0, 0) and (0, 0, 0, 4): scores 1 and 0, weights e and 1 over e + 1.

    Everything behind it is silent, so LayerNorm is all that follows, thrice.
    """
    layer = CrossModalLayer(["text", "audio"], options(feedforward_size=2)).eval()
    plain(layer.cross_attention["text"])
    for silenced in (layer.cross_attention["audio"], layer.self_attention, layer.feedforward):
        silent(silenced)
    text = torch.tensor([[[2.0, 0.0, 0.0, 0.0]]])
    audio = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 4.0]]])
    nobody = {"text": torch.zeros(1, 1, dtype=torch.bool), "audio": torch.zeros(1, 2, dtype=torch.bool)}
    found = layer({"text": text, "audio": audio}, nobody)
    weight = 0.7310585786300049  # e / (e + 1)
    attended = text + torch.tensor([weight, weight, 0.0, 4 * (1 - weight)])
    torch.testing.assert_close(found["text"], normalized(attended))
    torch.testing.assert_close(found["audio"], normalized(audio))
    hidden = {**nobody, "audio": torch.tensor([[False, True]])}
    attended = text + torch.tensor([1.0, 1.0, 0.0, 0.0])
    torch.testing.assert_close(layer({"text": text, "audio": audio}, hidden)["text"], normalized(attended))
    hidden = {**nobody, "audio": torch.tensor([[True, True]])}
    torch.testing.assert_close(layer({"text": text, "audio": audio}, hidden)["text"], normalized(text))
    torch.testing.assert_close(layer({"text": text}, nobody)["text"], normalized(text))


def normalized(values, times=3):
    for _ in range(times):
        values = nn.functional.layer_norm(values, values.shape[-1:])
    return values


def test_each_attends_to_the_next_and_the_last_to_the_first():
    layer = CrossModalLayer(list(SIZES), options()).eval()
    assert layer.attended == {"text": "audio", "audio": "visual", "visual": "text"}
    values = {name: torch.randn(1, 2, 4) for name in SIZES}
    hidden = {name: torch.zeros(1, 2, dtype=torch.bool) for name in SIZES}
    expected = layer(values, hidden)
    for source, reader in {"audio": "text", "visual": "audio", "text": "visual"}.items():
        found = layer({**values, source: torch.randn(1, 2, 4)}, hidden)
        changed = {name for name in SIZES if not torch.allclose(found[name], expected[name])}
        assert changed == {source, reader}


def test_one_modality_attends_to_itself_only():
    assert len(CrossModalLayer(["text"], options()).cross_attention) == 0
    assert build({"text": 4})(tokens({"text": 4})).shape == (2, 3)


@pytest.mark.parametrize("name", SIZES)
def test_a_modality_that_is_left_out_equals_one_that_is_hidden(name):
    model, given = build(num_layers=2), tokens()
    hidden = Tokens(given[name].values, torch.zeros(2, 3, dtype=torch.bool))
    expected = model({other: value for other, value in given.items() if other != name})
    torch.testing.assert_close(model({**given, name: hidden}), expected)


def test_what_is_pooled():
    """The classifier reads zero for a modality that is hidden, and of the others their first token."""
    model, given = build(), tokens()
    read = []
    model.classifier.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    mask = torch.tensor([[False] * 3, [True, False, False]])
    model({**given, "audio": Tokens(given["audio"].values, mask)})
    assert read[0].shape == (2, 12)
    assert (read[0][0, 4:8] == 0).all() and (read[0][1, 4:8] != 0).any() and (read[0][:, :4] != 0).any(1).all()
    assert read[0].abs().max() <= 1


def test_tokens_without_positions_are_a_set():
    model, given = build(num_layers=2), tokens()
    shuffled = {name: Tokens(value.values[:, [2, 0, 1]]) for name, value in given.items()}
    torch.testing.assert_close(model(shuffled), model(given))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 6, "num_heads": 4}, "hidden_size 6 must be a multiple of num_heads 4"),
        ({"num_layers": 0}, "num_layers must be"),
        ({"feedforward_size": 0}, "feedforward_size must be"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(ValueError, match=message):
        options(**changes)
