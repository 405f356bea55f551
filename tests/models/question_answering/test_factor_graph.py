from __future__ import annotations

import math

import pytest
import torch

from hf_bml.models.question_answering.factor_graph import Mix, Pair, Unary, attended, pairwise_potentials


def test_equal_potentials_give_the_mean():
    values = torch.tensor([[[1.0, 2.0], [3.0, 8.0], [5.0, 2.0]]])
    assert torch.allclose(
        attended(values, torch.full((1, 3), 7.0), torch.ones(1, 3, dtype=torch.bool)), values.mean(1)
    )


def test_attention_by_hand():
    values = torch.tensor([[[1.0], [0.0], [50.0]]])
    seen = torch.tensor([[True, True, False]])
    found = attended(values, torch.tensor([[math.log(3.0), 0.0, 9.0]]), seen)
    torch.testing.assert_close(found, torch.tensor([[0.75]]))


def test_nothing_to_see_gives_zero_and_no_gradient():
    values = torch.randn(2, 3, 4, requires_grad=True)
    potentials = torch.randn(2, 3, requires_grad=True)
    seen = torch.tensor([[False] * 3, [True, False, False]])
    found = attended(values, potentials, seen)
    assert (found[0] == 0).all() and torch.allclose(found[1], values[1, 0])
    found.sum().backward()
    assert (values.grad[0] == 0).all() and torch.isfinite(potentials.grad).all()


def test_pairwise_potential_of_two_positions_by_hand():
    """Queries (1, 0) and (0.6, 0.8), keys (1, 0) and (0, 1), all of any length: cosines 1, 0 and 0.6, 0.8."""
    queries = torch.tensor([[[5.0, 0.0], [3.0, 4.0]]])
    keys = torch.tensor([[[2.0, 0.0], [0.0, 9.0]]])
    both = pairwise_potentials(queries, keys, torch.tensor([[True, True]]))
    torch.testing.assert_close(both, torch.tensor([[0.5, 0.7]]))
    first = pairwise_potentials(queries, keys, torch.tensor([[True, False]]))
    torch.testing.assert_close(first, torch.tensor([[1.0, 0.6]]))
    assert (pairwise_potentials(queries, keys, torch.tensor([[False, False]])) == 0).all()


def test_pairwise_potentials_marginalise_the_similarity_matrix():
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    seen = torch.tensor([[True] * 5, [True, True, False, True, False]])
    expected = torch.zeros(2, 3)
    for row in range(2):
        for position in range(3):
            similarities = [
                torch.cosine_similarity(queries[row, position], keys[row, other], dim=0)
                for other in range(5)
                if seen[row, other]
            ]
            expected[row, position] = torch.stack(similarities).mean()
    torch.testing.assert_close(pairwise_potentials(queries, keys, seen), expected)


def test_masked_zeros_in_float16():
    queries = torch.tensor([[[5.0, 0.0], [0.0, 0.0]]], dtype=torch.float16)
    keys = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]], dtype=torch.float16)
    found = pairwise_potentials(queries, keys, torch.tensor([[True, False]]))
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), torch.tensor([[0.6, 0.0]]), atol=1e-3, rtol=0)


def test_unary_by_hand():
    unary = Unary(2, dropout=0.5).eval()
    with torch.no_grad():
        unary.embed.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 2.0]]))
        unary.embed.bias.copy_(torch.tensor([0.5, 0.0]))
        unary.reduce.weight.copy_(torch.tensor([[2.0, 1.0]]))
        unary.reduce.bias.fill_(0.1)
    values = torch.tensor([[[1.0, 3.0], [2.0, -1.0]]])
    torch.testing.assert_close(unary(values), torch.tensor([[6.1, 7.1]]))  # relu (0, 6) and (3.5, 0)


def test_the_mix_begins_as_a_sum_and_learns():
    mix = Mix(2)
    parts = [torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]])]
    torch.testing.assert_close(mix(parts), torch.tensor([[11.0, 22.0]]))
    mix(parts).sum().backward()
    torch.testing.assert_close(mix.weight.grad, torch.tensor([3.0, 30.0]))


@pytest.mark.parametrize("module", [Unary(4, 0.1), Pair(4), Mix(3)])
def test_everything_is_trainable(module):
    assert all(parameter.requires_grad for parameter in module.parameters())
