from __future__ import annotations

import pytest
import torch
from test_opm import batch_of

from hf_bml.modulation import ModDrop, Step
from hf_bml.modulation.mod_drop import moddrop_masks


def bound(modalities=("audio", "visual"), step=0, rank=0, **options) -> tuple[ModDrop, Step]:
    mod_drop = ModDrop(**options)
    mod_drop.bind(modalities)
    return mod_drop, Step(modalities, step=step, rank=rank)


def kept(size, keep_mask=None, modalities=("audio", "visual"), **options):
    mod_drop, step = bound(modalities, **options)
    return mod_drop.keep_modalities(batch_of(size, modalities), keep_mask, step)


def test_masks_by_hand():
    uniform = torch.tensor([[0.9, 0.9], [0.1, 0.9], [0.1, 0.05], [0.2, 0.1]])
    probabilities = torch.tensor([0.3, 0.2])
    assert moddrop_masks(probabilities, uniform).tolist() == [
        [True, True],
        [False, True],
        [True, False],  # 0.1 / 0.3 > 0.05 / 0.2
        [True, False],  # 0.2 / 0.3 > 0.1 / 0.2
    ]
    assert moddrop_masks(probabilities, uniform, allow_empty=True)[2:].any().item() is False
    present = torch.tensor([[True, True]] * 3 + [[False, True]])
    assert moddrop_masks(probabilities, uniform, present, keep_all=True).tolist() == [
        [True, True],
        [False, True],
        [True, True],
        [False, True],
    ]


@pytest.mark.parametrize("p", [0.3, 0.8])
def test_drop_rates_and_independence(p):
    torch.manual_seed(0)
    keep = moddrop_masks(torch.full((3,), p), torch.rand(40000, 3), allow_empty=True)
    torch.testing.assert_close(keep.float().mean(0), torch.full((3,), 1 - p), atol=0.01, rtol=0)
    assert (~keep).all(1).float().mean().item() == pytest.approx(p**3, abs=0.01)


def test_the_last_modality_is_drawn_uniformly():
    """All are always dropped: each of three remains in a third of the samples, and exactly one."""
    torch.manual_seed(0)
    keep = moddrop_masks(torch.ones(3), torch.rand(40000, 3))
    assert (keep.sum(1) == 1).all()
    torch.testing.assert_close(keep.float().mean(0), torch.full((3,), 1 / 3), atol=0.01, rtol=0)


def test_absent_modalities_are_never_kept_and_an_empty_sample_stays_empty():
    present = torch.tensor([[True, False], [False, True], [False, False]])
    keep = moddrop_masks(torch.ones(2), torch.tensor([[0.0, 0.9], [0.9, 0.0], [0.5, 0.5]]), present)
    assert keep.tolist() == present.tolist()


def test_probability_by_modality():
    keep = kept(50, p={"visual": 1.0})
    assert keep[:, 0].all() and not keep[:, 1].any()


def test_draws_depend_on_step_and_rank_and_go_on_over_micro_batches():
    whole = kept(8, p=0.5)
    parts, step = bound(p=0.5)
    assert torch.equal(whole, torch.cat([parts.keep_modalities(batch_of(1), None, step) for _ in range(8)]))
    for other in ({"step": 1}, {"rank": 1}):
        assert not torch.equal(kept(64, p=0.5), kept(64, p=0.5, **other))


def test_a_subset_of_what_others_kept_and_the_log_counts_its_own_drops():
    kept_before = torch.tensor([[True, False]] * 10)
    mod_drop, step = bound(p={"visual": 1.0})
    assert torch.equal(mod_drop.keep_modalities(batch_of(10), kept_before, step), kept_before)
    assert mod_drop.logs()["mod_drop/drop_fraction_visual"].item() == 0


def test_one_modality_is_dropped_only_if_empty_is_allowed():
    assert kept(4, modalities=("audio",), p=1.0).all()
    assert not kept(4, modalities=("audio",), p=1.0, allow_empty=True).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 1.5}, r"p must be a number in \[0, 1\], found 1.5"),
        ({"p": {"audio": -1}}, "p of 'audio' must be a number"),
        ({"p": None}, "p must be a number"),
        ({"allow_empty": "no"}, "allow_empty must be one of"),
        ({"if_all_dropped": "keep"}, "if_all_dropped must be one of"),
        ({"if_all_dropped": "keep_all", "allow_empty": True}, "exclude each other"),
        ({"preset": "released"}, r"preset must be one of \['paper'\]"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        ModDrop(**options)


def test_a_sample_that_would_lose_all_keeps_all_if_asked_to():
    both = kept(40000, p=0.5, if_all_dropped="keep_all").all(1).float().mean().item()
    assert both == pytest.approx(0.5, abs=0.01)
    assert kept(4, p=1.0, if_all_dropped="keep_all").all()


def test_unknown_modality():
    with pytest.raises(ValueError, match=r"p names 'vsual'\. Did you mean 'visual'"):
        bound(p={"vsual": 0.2})
