from __future__ import annotations

import math
import warnings

import pytest
import torch
from tiny import tiny_config
from torch import nn

from hf_bml import MultimodalForClassification
from hf_bml.models.fusion import (
    FUSIONS,
    ConcatHead,
    FiLMHead,
    GatedHead,
    ProductHead,
    SumHead,
    bounded_votes,
    cosines,
    drop_features,
    entropy_weights,
    evaluation_mode,
)

SIZES = {"audio": 2, "visual": 3, "text": 4}


def head_and_features(fusion, sizes=None, **options):
    sizes = sizes or SIZES
    torch.manual_seed(0)
    head = FUSIONS[fusion](sizes, tiny_config(tuple(sizes), num_labels=5, fusion=fusion, **options))
    for bias in [p for name, p in head.named_parameters() if name.endswith("bias")][:1]:
        nn.init.normal_(bias)
    return head, {name: torch.randn(6, size) for name, size in sizes.items()}


def test_linear_concat_split_is_exact_and_sums_to_the_joint_logits():
    head, features = head_and_features("concat")
    linear = head.classifier[-1]
    parts = head.unimodal_logits(features)
    start = 0
    for name, size in SIZES.items():
        expected = features[name] @ linear.weight[:, start : start + size].T + linear.bias / 3
        torch.testing.assert_close(parts[name], expected)
        start += size
    torch.testing.assert_close(sum(parts.values()), head(features))


def test_sum_head_parts_use_their_own_full_bias():
    head, features = head_and_features("sum")
    parts = head.unimodal_logits(features)
    for name in SIZES:
        linear = head.classifiers[name][-1]
        torch.testing.assert_close(parts[name], features[name] @ linear.weight.T + linear.bias)
    torch.testing.assert_close(sum(parts.values()), head(features))


def test_multi_layer_zero_out_of_the_hand_computed_case():
    """T-C1."""
    head = ConcatHead({"a": 1, "b": 1}, tiny_config(("audio", "visual"), num_labels=2, head_hidden_sizes=[2]))
    first, last = head.classifier[0], head.classifier[-1]
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, -1.0], [0.5, 1.0]]))
        first.bias.copy_(torch.tensor([0.0, -0.5]))
        last.weight.copy_(torch.diag(torch.tensor([1.0, 2.0])))
        last.bias.copy_(torch.tensor([0.1, -0.1]))
    features = {"a": torch.tensor([[2.0]]), "b": torch.tensor([[1.0]])}
    joint = head(features)
    torch.testing.assert_close(joint, torch.tensor([[1.1, 2.9]]))
    torch.testing.assert_close(joint.softmax(-1), torch.tensor([[0.141851, 0.858149]]), atol=1e-6, rtol=0)
    parts = head.unimodal_logits(features)
    torch.testing.assert_close(parts["a"], torch.tensor([[2.1, 0.9]]))
    torch.testing.assert_close(parts["b"], torch.tensor([[0.1, 0.9]]))
    neither = head({name: torch.zeros_like(f) for name, f in features.items()})
    torch.testing.assert_close(neither, torch.tensor([[0.1, -0.1]]))
    probability = {name: logits.softmax(-1)[0, 1].item() for name, logits in parts.items()}
    assert probability["a"] == pytest.approx(0.231475, abs=1e-6)
    assert probability["b"] == pytest.approx(0.689974, abs=1e-6)
    assert parts["a"].softmax(-1)[0, 0].item() == pytest.approx(0.768525, abs=1e-6)
    assert parts["b"].softmax(-1)[0, 0].item() == pytest.approx(0.310026, abs=1e-6)
    assert math.isclose(probability["b"] / probability["a"], 2.98, abs_tol=0.005)


def set_linear(linear, weight, bias=None):
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight))
        if bias is not None:
            linear.bias.copy_(torch.tensor(bias))


def pair_config(fusion, **options):
    return tiny_config(("audio", "visual"), num_labels=2, fusion=fusion, **options)


X, V = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 2.0]])


@pytest.mark.parametrize("order", [("audio", "visual"), ("visual", "audio")])
def test_film_of_the_hand_computed_case(order):
    """T-C2: x = audio conditions v = visual, in either modality order."""
    features = {name: {"audio": X, "visual": V}[name] for name in order}
    head = FiLMHead(dict.fromkeys(order, 2), pair_config("film", conditioning="audio"))
    set_linear(head.film, [[2.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [1.0, 1.0, 0.0, 0.5])
    set_linear(head.classifier[-1], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    torch.testing.assert_close(head(features), torch.tensor([[1.5, 3.5]]))
    parts = head.unimodal_logits(features)
    assert list(parts) == list(order)
    torch.testing.assert_close(parts["audio"], torch.tensor([[0.0, 1.5]]))
    torch.testing.assert_close(parts["visual"], torch.tensor([[0.5, 2.5]]))


def test_gated_by_hand_and_its_gate_is_not_shut_without_the_gating_modality():
    head = GatedHead({"audio": 1, "visual": 2}, pair_config("gated"))
    assert head.gate.out_features == head.content.out_features == 2  # the widest feature
    set_linear(head.gate, [[math.log(3)], [0.0]], [0.0, math.log(4)])
    set_linear(head.content, [[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0])
    set_linear(head.classifier[-1], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.5])
    features = {"audio": torch.tensor([[2.0]]), "visual": torch.tensor([[3.0, 1.0]])}
    # gates sigmoid(2 ln 3) = 0.9 and sigmoid(ln 4) = 0.8, content (4, 1)
    torch.testing.assert_close(head(features), torch.tensor([[3.6, 1.3]]))
    parts = head.unimodal_logits(features)
    torch.testing.assert_close(parts["audio"], torch.tensor([[0.9, -0.3]]))  # content is its bias (1, -1)
    torch.testing.assert_close(parts["visual"], torch.tensor([[2.0, 1.3]]))  # gates 0.5 and 0.8


def test_product_by_hand_predicts_a_constant_for_every_modality_alone():
    head = ProductHead({"audio": 1, "visual": 2}, pair_config("product"))
    set_linear(head.factors["audio"], [[2.0], [-1.0]])
    set_linear(head.factors["visual"], [[1.0, 0.0], [1.0, 1.0]])
    set_linear(head.classifier[-1], [[1.0, 0.0], [1.0, 1.0]], [0.5, -0.5])
    features = {"audio": torch.tensor([[3.0]]), "visual": torch.tensor([[2.0, -1.0]])}
    torch.testing.assert_close(head(features), torch.tensor([[12.5, 8.5]]))  # (6, -3) times (2, 1)
    for part in head.unimodal_logits(features).values():
        torch.testing.assert_close(part, torch.tensor([[0.5, -0.5]]))
    assert [name for name, head_class in FUSIONS.items() if head_class.zero_out_is_blind] == ["product"]


def test_averages_are_what_the_classifiers_predict_over_the_modalities_that_are_there():
    both = torch.tensor([[3.0], [3.0], [0.0], [0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    features = dict(zip(("audio", "visual"), both, strict=True))
    audio, visual = torch.tensor([3.0, -3.0]), torch.tensor([1.0, 2.0])
    for fusion in ("average_logits", "average_probabilities"):
        head = FUSIONS[fusion]({"audio": 1, "visual": 2}, pair_config(fusion))
        set_linear(head.classifiers["audio"][-1], [[1.0], [-1.0]], [0.0, 0.0])
        set_linear(head.classifiers["visual"][-1], [[1.0, 0.0], [1.0, 1.0]], [0.0, 0.0])
        parts = [audio, visual, torch.zeros(2)]
        if fusion == "average_logits":
            expected = [(audio + visual) / 2, audio, visual, parts[2]]
        else:
            audio_, visual_, nothing = (part.softmax(0) for part in parts)
            expected = [p.log() for p in ((audio_ + visual_) / 2, audio_, visual_, nothing)]
        torch.testing.assert_close(head(features), torch.stack(expected))


@pytest.mark.parametrize("fusion", ["film", "gated"])
def test_one_of_three_modalities_conditions_the_concatenation_of_the_others(fusion):
    for conditioning in (None, *SIZES):
        head, features = head_and_features(fusion, conditioning=conditioning)
        name = conditioning or "audio"
        others = [other for other in SIZES if other != name]
        condition, content = head.split(features)
        assert torch.equal(condition, features[name])
        assert torch.equal(content, torch.cat([features[other] for other in others], 1))
        y_size = sum(SIZES[other] for other in others)
        if fusion == "film":
            gamma, beta = (features[name] @ head.film.weight.T + head.film.bias).split(y_size, dim=1)
            joined = gamma * content + beta
        else:
            gate = features[name] @ head.gate.weight.T + head.gate.bias
            joined = gate.sigmoid() * (content @ head.content.weight.T + head.content.bias)
            assert gate.shape[1] == 4
        linear = head.classifier[-1]
        torch.testing.assert_close(head(features), joined @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if not FUSIONS[name].splits_exactly and name != "concat"])
def test_zero_out_is_the_prediction_with_the_others_at_zero(fusion):
    head, features = head_and_features(fusion)
    for name, part in head.unimodal_logits(features).items():
        alone = {other: f if other == name else torch.zeros_like(f) for other, f in features.items()}
        torch.testing.assert_close(part, head(alone))


def test_product_warns_once_per_model_unless_a_probe_scores():
    with pytest.warns(UserWarning, match="'product' is purely multiplicative.*unimodal_prediction: probe") as caught:
        MultimodalForClassification(tiny_config(fusion="product"))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MultimodalForClassification(tiny_config(fusion="product", unimodal_prediction="probe"))
        MultimodalForClassification(tiny_config(fusion="gated"))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_multi_layer_scoring_ignores_dropout_and_restores_it(fusion):
    head, features = head_and_features(fusion, head_hidden_sizes=[8], head_dropout=0.5)
    head.train()
    first, second = head.unimodal_logits(features), head.unimodal_logits(features)
    for name in features:
        assert torch.equal(first[name], second[name])
    assert all(m.training for m in head.modules())
    assert not torch.equal(head(features), head(features))


def test_evaluation_mode_leaves_batch_norm_statistics_alone():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    frozen = nn.BatchNorm1d(3).eval()
    module.append(frozen)
    with evaluation_mode(module):
        module(torch.randn(8, 3) + 5)
        assert not any(m.training for m in module)
    assert module[0].running_mean.abs().max() == 0
    assert module[0].training and module[1].training and not frozen.training


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("hidden", [[], [6]])
@pytest.mark.parametrize("modalities", [("audio",), ("audio", "visual"), ("audio", "visual", "text")])
def test_every_head_with_one_two_and_three_modalities(fusion, hidden, modalities):
    if len(modalities) == 1 and FUSIONS[fusion].joins_several:
        with pytest.raises(ValueError, match="joins two or more modalities"):
            tiny_config(modalities, fusion=fusion)
        return
    head, features = head_and_features(fusion, {m: SIZES[m] for m in modalities}, head_hidden_sizes=hidden)
    parts = head.unimodal_logits(features)
    assert list(parts) == list(modalities)
    assert all(part.shape == (6, 5) for part in parts.values())
    if len(modalities) == 1:
        torch.testing.assert_close(parts[modalities[0]], head(features))
    head(features).sum().backward()
    assert all(p.grad is not None for p in head.parameters())


def test_sum_head_does_not_mix_modalities():
    head, features = head_and_features("sum", head_hidden_sizes=[8])
    assert isinstance(head, SumHead)
    changed = {**features, "audio": features["audio"] + 1}
    before, after = head.unimodal_logits(features), head.unimodal_logits(changed)
    assert torch.equal(before["visual"], after["visual"])
    assert not torch.equal(before["audio"], after["audio"])


def test_drop_keeps_the_features_and_gradients_of_what_is_kept():
    features = {"a": torch.ones(2, 3, requires_grad=True), "b": torch.ones(2, 4, 5, requires_grad=True)}
    dropped = drop_features(features, torch.tensor([[True, False], [False, True]]))
    sum(value.sum() for value in dropped.values()).backward()
    assert features["a"].grad[:, 0].tolist() == [1, 0]
    assert features["b"].grad[:, 0, 0].tolist() == [0, 1]
    assert dropped["b"].shape == (2, 4, 5)


def bounded_by_hand(dtype=torch.float32):
    """W^a = (3, 4)^T, W^b = diag(1, 2), b = (0.5, -1), tau = 6."""
    config = tiny_config(("audio", "visual"), num_labels=2, fusion="bounded", logit_bound=6)
    head = FUSIONS["bounded"]({"audio": 1, "visual": 2}, config)
    set_linear(head.classifiers["audio"][-1], [[3.0], [4.0]])
    set_linear(head.classifiers["visual"][-1], [[1.0, 0.0], [0.0, 2.0]])
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.5, -1.0]))
    return head.to(dtype)


# z of length 5 becomes 6 z / 6, z of length 0 stays, z = (0, 2) becomes (0, 12 / 3); each has half of the bias
VOTES = [([1.0], [3.0, 4.0]), ([0.0], [0.0, 0.0]), ([-1.0], [-3.0, -4.0])]


@pytest.mark.parametrize(("feature", "vote"), VOTES)
def test_bounded_votes_by_hand_sum_to_the_joint_logits(feature, vote):
    head = bounded_by_hand()
    features = {"audio": torch.tensor([feature]), "visual": torch.tensor([[0.0, 1.0]])}
    torch.testing.assert_close(head(features), torch.tensor([[vote[0] + 0.5, vote[1] + 4 - 1]]))
    parts = head.unimodal_logits(features)
    torch.testing.assert_close(parts["audio"], torch.tensor([[vote[0] + 0.25, vote[1] - 0.5]]))
    torch.testing.assert_close(parts["visual"], torch.tensor([[0.25, 3.5]]))
    assert head.splits_exactly


def test_no_modality_shouts_and_a_dropped_one_has_no_vote():
    head = bounded_by_hand()
    loud = {"audio": torch.tensor([[1e6]]), "visual": torch.zeros(1, 2)}
    vote = head(loud) - head.bias
    torch.testing.assert_close(vote, 6 * torch.tensor([[0.6, 0.8]]))
    dropped = drop_features(loud, torch.tensor([[False, True]]))
    assert torch.equal(head(dropped), head.bias[None])


def test_the_gradient_of_a_vote_at_zero_is_the_bound():
    """tau (I / (n + 1) - z z^T / (n (n + 1)^2)): tau I at zero; at (3, 4) 6 / 36 (6 I - z z^T / 5)."""
    zero, other = torch.zeros(2, requires_grad=True), torch.tensor([3.0, 4.0], requires_grad=True)
    for z, expected in ((zero, [6.0, 0.0]), (other, [(6 - 9 / 5) / 6, -12 / 5 / 6])):
        bounded_votes(z, 6.0)[0].backward()
        torch.testing.assert_close(z.grad, torch.tensor(expected))


def test_votes_are_float32_under_autocast():
    """The lengths of z are whole numbers, whose squares bfloat16 would round."""
    head = bounded_by_hand()
    features = {"audio": torch.tensor([[51.0]]), "visual": torch.zeros(1, 2)}  # z = (153, 204), length 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, parts = head(features), head.unimodal_logits(features)
    expected = 6 * torch.tensor([[153.0, 204.0]]) / 256
    assert logits.dtype == torch.float32
    assert torch.equal(logits - head.bias, expected)
    assert torch.equal(parts["audio"] - head.bias / 2, expected)


@pytest.mark.parametrize("bound", [0, -1.0, float("nan"), float("inf"), "5", True])
def test_a_bound_must_be_above_zero(bound):
    with pytest.raises(ValueError, match="logit_bound must be a number above 0, found"):
        tiny_config(fusion="bounded", logit_bound=bound)


def test_bounded_hidden_layers_give_nothing_for_a_dropped_modality():
    head, features = head_and_features("bounded", head_hidden_sizes=[8])
    dropped = drop_features(features, torch.zeros(6, 3, dtype=torch.bool))
    assert torch.equal(head(dropped), head.bias.expand(6, 5))


def test_bounded_saves_and_loads(tmp_path):
    model = MultimodalForClassification(tiny_config(fusion="bounded", logit_bound=2.5)).eval()
    torch.nn.init.normal_(model.head.bias)
    model.save_pretrained(tmp_path)
    loaded = MultimodalForClassification.from_pretrained(tmp_path).eval()
    batch = {"audio": torch.randn(3, 5), "visual": torch.randn(3, 7)}
    assert loaded.head.bound == 2.5
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def cosine_by_hand():
    """T-N6: rows e1, e2 of audio, (2, 0), (1, 1) of visual, s = 10."""
    head = FUSIONS["cosine"](dict.fromkeys(("audio", "visual"), 2), pair_config("cosine"))
    set_linear(head.classifiers["audio"][-1], [[1.0, 0.0], [0.0, 1.0]])
    set_linear(head.classifiers["visual"][-1], [[2.0, 0.0], [1.0, 1.0]])
    return head, {"audio": torch.tensor([[3.0, 4.0]]), "visual": torch.tensor([[1.0, 1.0]])}


def test_cosine_of_the_hand_computed_case():
    head, features = cosine_by_hand()
    parts = head.unimodal_logits(features)
    torch.testing.assert_close(parts["audio"], torch.tensor([[6.0, 8.0]]))
    torch.testing.assert_close(parts["visual"], torch.tensor([[7.07107, 10.0]]), atol=1e-5, rtol=0)
    logits = head(features)
    torch.testing.assert_close(logits, torch.tensor([[13.071068, 18.0]]))
    loss = nn.functional.cross_entropy(logits, torch.tensor([1]))
    assert loss.item() == pytest.approx(0.007208, abs=1e-6)
    torch.testing.assert_close(sum(parts.values()), logits)


@pytest.mark.parametrize(("classes", "probability"), [(4, 0.9), (6, 0.99), (31, 0.999)])
def test_the_scale_that_a_cosine_needs_for_a_probability(classes, probability):
    """Of two modalities; class weights are a simplex, with cosines of -1 / (C - 1), and features point to one."""
    scale = (classes - 1) / (2 * classes) * math.log((classes - 1) * probability / (1 - probability))
    simplex = torch.eye(classes, dtype=torch.float64) - 1 / classes
    found = (2 * scale * cosines(simplex[:1], simplex)).softmax(1)[0, 0].item()
    ceiling = 1 / (1 + (classes - 1) * math.exp(-2 * scale * (1 + 1 / (classes - 1))))
    assert found == pytest.approx(probability) and ceiling == pytest.approx(probability)


def test_cosine_does_not_see_lengths_and_an_absent_modality_adds_nothing():
    head, features = cosine_by_hand()
    before = head(features)
    torch.testing.assert_close(head({**features, "audio": 1e-3 * features["audio"]}), before)
    with torch.no_grad():
        head.classifiers["visual"][-1].weight.mul_(torch.tensor([[5.0], [0.1]]))
    torch.testing.assert_close(head(features), before)
    dropped = drop_features(features, torch.tensor([[False, True]]))
    torch.testing.assert_close(head(dropped), head.unimodal_logits(features)["visual"])
    hidden, features = head_and_features("cosine", head_hidden_sizes=[8])
    assert not hidden(drop_features(features, torch.zeros(6, 3, dtype=torch.bool))).any()
    bound = 3 * 10.0
    assert hidden(features).abs().max() <= bound


def test_the_gradient_of_a_cosine_is_finite_at_zero():
    feature = torch.zeros(1, 2, requires_grad=True)
    cosines(feature, torch.tensor([[3.0, 4.0]])).sum().backward()
    torch.testing.assert_close(feature.grad, torch.tensor([[0.6, 0.8]]))


def test_cosines_are_float32_under_autocast():
    head, features = cosine_by_hand()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(features)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, head(features))


def shared_pair(**options):
    """g(x) = (3 x, 0) + (0, 1), of features x of one number."""
    head = FUSIONS["shared"](dict.fromkeys(("audio", "visual"), 1), pair_config("shared", **options))
    set_linear(head.classifier[-1], [[3.0], [0.0]], [0.0, 1.0])
    return head


def test_shared_sum_and_mean_by_hand():
    features = {"audio": torch.tensor([[2.0], [2.0], [0.0]]), "visual": torch.tensor([[-1.0], [0.0], [0.0]])}
    parts = shared_pair().unimodal_logits(features)
    assert parts["audio"].tolist() == [[6, 1], [6, 1], [0, 1]] and parts["visual"].tolist() == [
        [-3, 1],
        [0, 1],
        [0, 1],
    ]
    total = shared_pair(shared_prediction="sum")
    assert total(features).tolist() == [[3, 2], [6, 2], [0, 2]] and total.splits_exactly
    mean = shared_pair()
    assert mean(features).tolist() == [[1.5, 1], [6, 1], [0, 1]] and not mean.splits_exactly
    kept = {"audio": features["audio"], "visual": torch.zeros(3, 1)}
    assert torch.equal(mean(kept), parts["audio"])


def test_shared_entropy_weighs_the_modalities_in_evaluation_alone():
    """T-N12: u^1 = (3, 0), u^2 = (0, 0): weights (0.622996, 0.377004)."""
    logits = torch.tensor([[[3.0, 0.0]], [[0.0, 0.0]]])
    weights = entropy_weights(logits, torch.ones(2, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.622996, 0.377004]), atol=1e-6, rtol=0)
    entropies = torch.distributions.Categorical(logits=logits).entropy().flatten()
    torch.testing.assert_close(entropies, torch.tensor([0.190865, 0.693147]), atol=1e-6, rtol=0)
    torch.testing.assert_close((-entropies).softmax(0), weights.flatten())
    head = shared_pair(shared_prediction="entropy").eval()
    set_linear(head.classifier[-1], [[3.0], [0.0]], [0.0, 0.0])
    features = {"audio": torch.tensor([[1.0], [0.0]]), "visual": torch.tensor([[1e-30], [1.0]])}
    torch.testing.assert_close(head(features), torch.tensor([[3 * 0.622996, 0.0], [3.0, 0.0]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(head.train()(features), torch.tensor([[1.5, 0.0], [3.0, 0.0]]))
    alike = torch.randn(1, 4, 3).expand(2, 4, 3)
    torch.testing.assert_close(entropy_weights(alike, torch.ones(2, 4, 1).bool()), torch.full((2, 4, 1), 0.5))


@pytest.mark.parametrize(("width", "projected"), [(None, ["audio", "visual"]), (3, ["audio", "text"]), (5, [*SIZES])])
def test_shared_projects_features_of_another_size(width, projected):
    head, features = head_and_features("shared", shared_width=width)
    assert list(head.projections) == projected
    assert head.classifier[-1].in_features == (width or 4)
    assert {head.projections[name].out_features for name in projected} == {width or 4}
    torch.testing.assert_close(head(features), sum(head.unimodal_logits(features).values()) / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cosine_scale": 0}, "cosine_scale must be a number above 0"),
        ({"shared_prediction": "max"}, "shared_prediction"),
        ({"shared_width": 0}, "shared_width must be an integer of at least 1"),
    ],
)
def test_bad_options_of_heads(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**options)


@pytest.mark.parametrize(
    "options", [{"fusion": "cosine", "cosine_scale": 4.0}, {"fusion": "shared", "shared_width": 6}]
)
def test_new_heads_save_and_load(options, tmp_path):
    model = MultimodalForClassification(tiny_config(**options)).eval()
    model.save_pretrained(tmp_path)
    loaded = MultimodalForClassification.from_pretrained(tmp_path).eval()
    batch = {"audio": torch.randn(3, 5), "visual": torch.randn(3, 7)}
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
