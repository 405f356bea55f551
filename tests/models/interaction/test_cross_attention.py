from __future__ import annotations

import pytest
import torch
from tiny import TINY_BERT, KeepOnly, scrambled, tiny_image_config, tiny_images
from torch import nn

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.encoders.sequences import sinusoidal_positions
from hf_bml.models.interaction.cross_attention import CrossAttentionLayer, CrossAttentionOptions, attend

OPTIONS = {"hidden_size": 8, "num_heads": 2, "num_layers": 2}


def identity_attention(size):
    """One head whose projections are the identity, so that the result is softmax(q k / sqrt(size)) k."""
    attention = nn.MultiheadAttention(size, 1, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.eye(size).repeat(3, 1))
        attention.out_proj.weight.copy_(torch.eye(size))
        attention.in_proj_bias.zero_(), attention.out_proj.bias.zero_()
    return attention


def test_attention_by_hand_and_nothing_where_every_key_is_hidden():
    queries = torch.tensor([[[2.0, 0.0, 0.0, 0.0]]]).expand(3, -1, -1).clone().requires_grad_()
    keys = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]]]).expand(3, -1, -1)
    hidden = torch.tensor([[False, False, True], [False, True, True], [True, True, True]])
    found = attend(identity_attention(4), queries, keys, hidden)
    weight = 1 / (1 + torch.exp(torch.tensor(-1.0)))  # scores 2 / sqrt(4) = 1 and 0
    torch.testing.assert_close(found[0, 0], torch.tensor([weight, 1 - weight, 0, 0]))
    torch.testing.assert_close(found[1, 0], torch.tensor([1.0, 0, 0, 0]))
    assert (found[2] == 0).all()
    found.sum().backward()
    assert torch.isfinite(queries.grad).all() and (queries.grad[2] == 0).all()


def reference_layer(layer, values):
    """The layer without padding and dropout, in plain terms."""
    values = {
        name: value + layer.self_attention[name](*[layer.self_norms[name](value)] * 3)[0]
        for name, value in values.items()
    }
    joined = {}
    for name, value in values.items():
        keys = torch.cat([layer.cross_norms[other](values[other]) for other in values if other != name], 1)
        found, weights = layer.cross_attention[name](layer.cross_norms[name](value), keys, keys)
        assert weights.shape[-1] == sum(values[other].shape[1] for other in values if other != name)
        joined[name] = value + found
    return {
        name: value + layer.feedforward[name](layer.feedforward_norms[name](value)) for name, value in joined.items()
    }


@pytest.mark.parametrize("names", [("a", "v"), ("a", "v", "t")])
def test_every_modality_attends_to_itself_then_to_all_others(names):
    torch.manual_seed(0)
    layer = scrambled(CrossAttentionLayer(names, CrossAttentionOptions(8, num_heads=2, dropout=0.5))).eval()
    values = {name: torch.randn(2, length, 8) for name, length in zip(names, (3, 4, 5), strict=False)}
    seen = {name: torch.zeros(value.shape[:2], dtype=torch.bool) for name, value in values.items()}
    for name, value in layer(values, seen, seen).items():
        torch.testing.assert_close(value, reference_layer(layer, values)[name])


def test_a_hidden_modality_changes_nothing_for_the_others():
    torch.manual_seed(0)
    layer = scrambled(CrossAttentionLayer(("a", "v", "t"), CrossAttentionOptions(8, num_heads=2))).eval()
    values = {name: torch.randn(1, length, 8) for name, length in (("a", 3), ("v", 4), ("t", 5))}
    padding = {name: torch.zeros(1, value.shape[1], dtype=torch.bool) for name, value in values.items()}
    without = layer({m: values[m] for m in ("a", "t")}, padding, padding)
    hidden = {**padding, "v": torch.ones(1, 4, dtype=torch.bool)}
    masked = layer(values, padding, hidden)
    for name in ("a", "t"):
        torch.testing.assert_close(masked[name], without[name])
    everything_hidden = layer(values, hidden, hidden)  # a row of nothing but padding
    assert all(torch.isfinite(value).all() for value in everything_hidden.values())


def build(**options):
    torch.manual_seed(0)
    config = tiny_image_config(interaction="cross_attention", interaction_options={**OPTIONS, **options})
    return scrambled(MultimodalForClassification(config)).eval()


def test_the_whole_interaction_by_plain_terms():
    model, batch = build(num_layers=1), tiny_images()
    interaction = model.interaction
    values = {}
    for name, encoder in model.encoders.items():
        tokens = interaction.projections[name](encoder.tokens(batch[name]).values)
        values[name] = tokens + sinusoidal_positions(tokens.shape[1], 8, tokens) + interaction.embeddings[name]
    assert values["visual"].shape == (4, 3, 8)  # a position in each of three frames
    values = reference_layer(interaction.layers[0], values)
    pooled = [interaction.norms[name](value).mean(1) for name, value in values.items()]
    torch.testing.assert_close(model(**batch).logits, model.head(dict(zip(batch, pooled, strict=True))))


def test_position_counts():
    """The same maps in another order give another feature."""
    model, batch = build(), tiny_images()
    flipped = {**batch, "visual": batch["visual"].flip(1)}
    assert not torch.allclose(model(**flipped).features["visual"], model(**batch).features["visual"], atol=1e-4)


def test_dropout_acts_in_training_only_and_never_in_the_score():
    model, batch = build(dropout=0.5), tiny_images()
    assert torch.equal(model(**batch).logits, model(**batch).logits)
    for module in model.encoders.modules():  # keeps BatchNorm still
        module.eval()
    model.interaction.train(), model.head.train()
    model.training = True
    first, second = model(**batch), model(**batch)
    assert not torch.equal(first.logits, second.logits)
    for name in batch:
        assert torch.equal(first.unimodal_logits[name], second.unimodal_logits[name])


def test_a_sample_with_nothing_but_padding_is_finite():
    model, batch = build(), tiny_images()
    visual = {"values": batch["visual"], "mask": torch.tensor([[False] * 3] + [[True] * 3] * 3)}
    mask = torch.tensor([[True, False]] + [[True, True]] * 3)
    output = model(audio=batch["audio"], visual=visual, modality_mask=mask)
    assert torch.isfinite(output.logits).all()
    alone = model(audio=batch["audio"][:1], visual=None)
    torch.testing.assert_close(output.logits[:1], alone.logits)


MIXED = {
    "text": {"type": "transformers", "config": TINY_BERT},
    "audio": {"type": "sequence", "input_size": 5, "hidden_size": 12, "num_heads": 2},
    "visual": {
        "type": "timm",
        "architecture": "vit_tiny_patch16_224",
        "model_args": {"img_size": 32, "embed_dim": 24, "depth": 1, "num_heads": 2},
    },
    "flow": {"type": "conv", "in_channels": 2, "channels": [4, 6]},
}


def mixed_inputs():
    torch.manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    return {
        "text": {"input_ids": torch.randint(5, 50, (3, 4)), "attention_mask": mask},
        "audio": {"values": torch.randn(3, 4, 5), "mask": mask.bool()},
        "visual": {"values": torch.randn(3, 2, 3, 32, 32), "mask": torch.tensor([[1, 1], [1, 0], [1, 1]]).bool()},
        "flow": torch.randn(3, 2, 8, 8),
    }


def test_encoders_of_every_kind_meet():
    torch.manual_seed(0)
    config = MultimodalConfig(
        modalities=MIXED, num_labels=3, interaction="cross_attention", interaction_options=OPTIONS
    )
    model, batch = scrambled(MultimodalForClassification(config)).eval(), mixed_inputs()
    output = model(**batch, labels=torch.tensor([0, 1, 2]))
    output.loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert all("pooler" in name for name in without), without  # bert's, which no hidden state passes
    keep = torch.tensor([[True, True, True, False], [True, False, True, True], [False, True, False, True]])
    dropped = model(**batch, modulation=KeepOnly(keep))
    for row in range(3):
        inputs = {
            name: {key: value[[row]] for key, value in values.items()} if isinstance(values, dict) else values[[row]]
            for name, values in batch.items()
        }
        kept = {name: values if keep[row, column] else None for column, (name, values) in enumerate(inputs.items())}
        torch.testing.assert_close(model(**kept).logits[0], dropped.logits[row])
        for name in batch:
            alone = model(**{**dict.fromkeys(batch), name: inputs[name]})
            torch.testing.assert_close(alone.features[name][0], output.features[name][row])


def test_padding_of_any_kind_is_not_seen():
    torch.manual_seed(0)
    config = MultimodalConfig(
        modalities=MIXED, num_labels=3, interaction="cross_attention", interaction_options=OPTIONS
    )
    model, batch = scrambled(MultimodalForClassification(config)).eval(), mixed_inputs()
    output = model(**batch)
    trimmed = {
        "text": {key: value[[1], :2] for key, value in batch["text"].items()},
        "audio": {key: value[[1], :2] for key, value in batch["audio"].items()},
        "visual": batch["visual"]["values"][[1], :1],
        "flow": batch["flow"][[1]],
    }
    torch.testing.assert_close(model(**trimmed).logits[0], output.logits[1])
