from __future__ import annotations

import itertools

import pytest
import torch

from hf_bml.models.encoders.sequences import Tokens
from hf_bml.models.question_answering.avsd import AVSD, AVSDOptions, last_position

SIZES = {"text": 4, "audio": 4, "visual": 4}


def build(sizes=SIZES, labels=3, **options):
    torch.manual_seed(0)
    return AVSD(sizes, labels, AVSDOptions(hidden_size=4, dropout=0.0, **options)).eval()


def tokens(sizes=SIZES, seed=0, **lengths):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Tokens(torch.randn(2, lengths.get(name, 3), size, generator=generator)) for name, size in sizes.items()
    }


def without_potentials(model):
    """All potentials weigh nothing, so attention is the mean."""
    for mix in model.mixes.values():
        torch.nn.init.zeros_(mix.weight)
    return model


def test_without_potentials_it_is_an_lstm_over_the_means():
    model, given = without_potentials(build(utilities={"visual": 2})), tokens(visual=6)
    given["visual"] = given["visual"]._replace(frames=2)
    frames = given["visual"].values.unflatten(1, (2, 3)).mean(2)
    steps = torch.cat([given["audio"].values.mean(1, keepdim=True), frames], dim=1)
    _, (state, _) = model.lstm(steps)
    joined = torch.cat([state[0], given["text"].values.mean(1)], dim=1)
    torch.testing.assert_close(model(given), model.classifier(joined))


def test_the_last_word_has_a_prior():
    seen = torch.tensor([[True, True, False], [True, True, True], [False, False, False], [True, False, True]])
    assert last_position(seen).tolist() == [
        [False, True, False],
        [False, False, True],
        [False, False, False],
        [False, False, True],
    ]
    model, given = without_potentials(build({"text": 4})), tokens({"text": 4})
    with torch.no_grad():
        model.mixes["text"].weight[-1] = 100.0  # the prior is the last potential of the question
    torch.testing.assert_close(model(given), model.classifier(given["text"].values[:, -1]))


def test_potentials_by_hand():
    """One modality beside the question, whose positions are told apart by their likeness to the question alone."""
    model = without_potentials(build({"text": 4, "audio": 4}))
    with torch.no_grad():
        model.mixes["audio"].weight[2] = 2.0  # unary, self, across
        for linear in (model.cross_pairs["text-audio"].first, model.cross_pairs["text-audio"].second):
            linear.weight.copy_(torch.eye(4))
            linear.bias.zero_()
    east, north = torch.eye(4)[:2]
    given = {
        "text": Tokens(torch.stack([east, 3 * east])[None]),
        "audio": Tokens(torch.stack([5 * east, north])[None]),
    }
    first = torch.tensor(2.0).exp() / (torch.tensor(2.0).exp() + 1)  # cosines 1 and 0, doubled, through a softmax
    _, (state, _) = model.lstm((first * 5 * east + (1 - first) * north).view(1, 1, 4))
    torch.testing.assert_close(model(given), model.classifier(torch.cat([state[0], 2 * east[None]], dim=1)))


def test_a_pair_is_shared_by_both_directions():
    assert list(build().cross_pairs) == ["-".join(pair) for pair in itertools.combinations(SIZES, 2)]
    assert {name: len(mix.weight) for name, mix in build(utilities={"visual": 2}).mixes.items()} == {
        "text": 5,  # unary, self, two across, prior
        "audio": 4,
        "visual": 5,  # unary, self, two across, siblings
    }


def test_siblings_look_at_the_other_frames_only():
    model = build({"text": 4, "visual": 4}, utilities={"visual": 2})
    values = torch.randn(1, 4, 4)
    seen = torch.ones(1, 4, dtype=torch.bool)
    expected = model._among_siblings("visual", values, seen)
    changed = values.clone()
    changed[:, 1] += 1  # of the first frame: its other position sees nothing of it, the second frame does
    found = model._among_siblings("visual", changed, seen)
    torch.testing.assert_close(found[:, 0], expected[:, 0])
    assert (found[:, 2:] != expected[:, 2:]).all()


def test_widths_are_projected_where_they_differ():
    model = build({"text": 4, "audio": 6})
    assert isinstance(model.projections["text"], torch.nn.Identity) and model.projections["audio"].weight.shape == (
        4,
        6,
    )
    assert model(tokens({"text": 4, "audio": 6})).shape == (2, 3)


def test_a_modality_that_is_left_out_equals_one_that_is_hidden():
    model, given = build(), tokens()
    hidden = Tokens(given["audio"].values, torch.zeros(2, 3, dtype=torch.bool))
    expected = model({"text": given["text"], "visual": given["visual"]})
    torch.testing.assert_close(model({**given, "audio": hidden}), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be"),
        ({"dropout": 1}, "dropout must be in"),
        ({"utilities": 3}, "utilities must be a dict .* found 3"),
        ({"utilities": {"visual": 0}}, "utilities of 'visual' must be"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        AVSDOptions(**options)
