from __future__ import annotations

import pytest
import torch
from tiny_segments import tiny_segment_model, tiny_segments

from hf_bml.models.segments.psp import PSP, PSPOptions, normalized_similarities, propagation_weights


def test_similarities_are_divided_by_the_sum_of_their_row():
    rows = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]])
    torch.testing.assert_close(normalized_similarities(rows), torch.tensor([[[0.25, 0.75], [0.0, 0.0]]]))


def test_even_similarities_are_all_kept_at_the_published_threshold():
    """Ten segments: each has a share of 0.1."""
    even = torch.full((1, 10, 10), 3.0)
    torch.testing.assert_close(propagation_weights(even, 0.099), torch.full((1, 10, 10), 0.1))
    assert torch.equal(propagation_weights(even, 0.11), torch.zeros(1, 10, 10))


def test_what_is_left_sums_to_one():
    similarities = torch.tensor([[[8.0, 1.0, 1.0], [0.0, 0.0, 0.0]]])
    torch.testing.assert_close(propagation_weights(similarities, 0.2)[0, 0], torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(propagation_weights(similarities, 0.2)[0, 1], torch.zeros(3))


def test_rows_of_zeros_in_float16():
    similarities = torch.tensor([[[0.0, 0.0], [1.0, 3.0]]], dtype=torch.float16)
    weights = propagation_weights(similarities, 0.3)
    assert weights.dtype == torch.float32 and weights[0].tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_bfloat16_does_not_blur_the_threshold():
    """A share of 99 / 999 is above 0.099; both are 0.09912 in bfloat16."""
    similarities = torch.tensor([[[99.0, *[100.0] * 9]]], dtype=torch.bfloat16)
    assert propagation_weights(similarities, 0.099)[0, 0, 0].item() == pytest.approx(99 / 999)


def states(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(2, 4, 16, generator=generator) for name in ("audio", "visual")}


def block(threshold):
    """The block of the tiny model, whose last map is the identity."""
    model = tiny_segment_model("psp", options={"threshold": threshold}).eval()
    for branch in model.architecture.branches.values():
        torch.nn.init.eye_(branch.out[0].weight)
    return model.architecture


def test_with_everything_pruned_a_branch_is_its_own_state():
    architecture, before = block(0.99), states()
    for branch in architecture.branches.values():  # all segments are similar, so that none has the whole share
        for projection in (branch.first, branch.second):
            torch.nn.init.eye_(projection[0].weight)
    branches = architecture.propagate(before)
    for name, state in before.items():
        torch.testing.assert_close(branches[name], torch.nn.functional.layer_norm(state, (16,), eps=1e-6))


def test_what_matches_is_added():
    """Independent of the code: a segment gets the other modality's segments by their pruned shares."""
    architecture, before = block(0.25), states()
    a, v = architecture.branches["audio"], architecture.branches["visual"]
    branches = architecture.propagate(before)
    with torch.no_grad():
        for sample in range(2):
            audio, visual = before["audio"][sample], before["visual"][sample]
            similarity = torch.zeros(4, 4)
            for i in range(4):
                for j in range(4):
                    similarity[i, j] = max(0.0, float(v.second(visual)[i] @ a.first(audio)[j]) / 4)
            shares = similarity / similarity.sum(1, keepdim=True)
            shares[shares <= 0.25] = 0
            added = visual + (shares / shares.sum(1, keepdim=True)) @ a.second(audio)
            expected = torch.nn.functional.layer_norm(torch.relu(added), (16,), eps=1e-6)
            torch.testing.assert_close(branches["visual"][sample], expected)
            shares = similarity.T / similarity.T.sum(1, keepdim=True)
            shares[shares <= 0.25] = 0
            added = audio + (shares / shares.sum(1, keepdim=True)) @ v.first(visual)
            expected = torch.nn.functional.layer_norm(torch.relu(added), (16,), eps=1e-6)
            torch.testing.assert_close(branches["audio"][sample], expected)


def test_encoders_hold_what_lies_before_the_block():
    model = tiny_segment_model("psp")
    inside = {id(p) for encoder in model.encoders.values() for p in encoder.parameters()}
    assert not inside & {id(p) for p in model.architecture.parameters()}
    assert len(inside) + len(list(model.architecture.parameters())) == len(list(model.parameters()))
    assert {name.split(".")[0] for name, _ in model.architecture.named_parameters()} == {
        "branches",
        "norm",
        "classifier",
    }


def test_only_for_two_modalities():
    with pytest.raises(ValueError, match=r"architecture 'psp': psp is defined for two modalities, found \['audio', "):
        tiny_segment_model("psp", ("audio", "visual", "text"))
    PSP.check(PSPOptions(), ["sound", "motion"])


def test_the_guide_may_be_the_other_one():
    model = tiny_segment_model("psp", options={"guide": "visual", "guided": "audio"})
    inputs, labels = tiny_segments(4)
    swapped = {"audio": inputs["visual"][..., :5], "visual": torch.randn(4, 4, 6)}
    assert model(**swapped, labels=labels).logits.shape == (4, 4, 3)
    assert model.encoders["audio"].attention is not None and model.encoders["visual"].attention is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1}, r"threshold must be in \[0, 1\), found 1"),
        ({"similarity_weight": -1}, "similarity_weight must be a number of at least 0, found -1"),
        ({"hidden_size": 0}, "hidden_size must be an integer of at least 1"),
        ({"treshold": 0.1}, "has no option 'treshold'. Did you mean 'threshold'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=f"architecture 'psp'.*{message}"):
        tiny_segment_model("psp", options=options)
