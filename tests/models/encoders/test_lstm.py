from __future__ import annotations

import pytest
import torch

from hf_bml.models.encoders.build import build_encoder


def build(**options):
    torch.manual_seed(0)
    return build_encoder("text", {"type": "lstm", "vocab_size": 9, "embedding_size": 4, "hidden_size": 5, **options})


def test_the_feature_is_the_state_after_the_last_word():
    encoder = build()
    ids, mask = torch.tensor([[2, 3, 0], [4, 5, 6]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    feature, tokens = encoder(ids, mask), encoder.tokens(ids, mask)
    assert feature.shape == (2, 5) and tokens.values.shape == (2, 3, 5)
    torch.testing.assert_close(feature[0], encoder(ids[:1, :2])[0])
    torch.testing.assert_close(feature[1], tokens.values[1, 2])
    assert torch.equal(tokens.mask, mask.bool())


def test_the_padding_has_no_word_vector():
    encoder = build()
    assert (encoder.embedding.weight[0] == 0).all() and encoder.embedding.weight[1:].std() > 0.5


@pytest.mark.parametrize("options", [{"vocab_size": 0}, {"hidden_size": 0}, {"dropout": 1.0}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        build(**options)
