"""Every fusion with every interaction, on two and three modalities: trains, scores, saves, and is modulated."""

from __future__ import annotations

import itertools

import pytest
import torch
from tiny import check_reload, tiny_image_config, tiny_images

from hf_bml import MultimodalBalancedTrainer, MultimodalForClassification
from hf_bml.models import FUSIONS, INTERACTIONS

OPTIONS = {
    "centralnet": {"stages": 3},
    "mmtm": {"stages": 2},
    "cross_attention": {"hidden_size": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0},
}
MODALITIES = [("audio", "visual"), ("visual", "audio", "flow")]
REFUSED = [(fusion, interaction) for fusion in FUSIONS for interaction in INTERACTIONS if fusion != "concat"]
REFUSED = [pair for pair in REFUSED if INTERACTIONS[pair[1]].has_own_head]
COMBINATIONS = [
    (fusion, interaction)
    for fusion in FUSIONS
    for interaction in (None, *INTERACTIONS)
    if (fusion, interaction) not in REFUSED
]
LABELS = torch.tensor([0, 1, 2, 0])
every_combination = pytest.mark.parametrize(("fusion", "interaction"), COMBINATIONS)
two_and_three = pytest.mark.parametrize("modalities", MODALITIES, ids=len)


def build(fusion, interaction, modalities=("audio", "visual"), **options):
    torch.manual_seed(0)
    config = tiny_image_config(
        modalities,
        fusion=fusion,
        interaction=interaction,
        interaction_options=OPTIONS.get(interaction),
        unimodal_prediction="probe" if fusion == "product" else "auto",
        **options,
    )
    return MultimodalForClassification(config)


def samples(modalities, count=32):
    """Images whose brightness tells the class, more so in the first modality."""
    images, labels = tiny_images(modalities, count), torch.arange(count) % 3
    for index, values in enumerate(images.values()):
        values += (labels * (2.0 if index == 0 else 0.2)).view(-1, *[1] * (values.dim() - 1))
    return [{**{m: v[row] for m, v in images.items()}, "labels": labels[row]} for row in range(count)]


def train(model, args, modalities):
    trainer = MultimodalBalancedTrainer(model, args, train_dataset=samples(modalities))
    trainer.train()
    return trainer


def test_only_the_central_stream_leaves_no_choice_of_fusion():
    assert {interaction for _, interaction in REFUSED} == {"centralnet"}


@pytest.mark.parametrize(("fusion", "interaction"), REFUSED)
def test_combinations_that_are_refused(fusion, interaction):
    with pytest.raises(ValueError, match=f"'{interaction}' brings its own head: leave fusion at 'concat'"):
        build(fusion, interaction)


HEADS = [(*pair, []) for pair in COMBINATIONS] + [(*pair, [6]) for pair in COMBINATIONS if pair[1] != "centralnet"]


@pytest.mark.parametrize(("fusion", "interaction", "hidden"), HEADS)
@two_and_three
def test_forward_and_backward(fusion, interaction, modalities, hidden):
    model, batch = build(fusion, interaction, modalities, head_hidden_sizes=hidden), tiny_images(modalities)
    output = model(**batch, labels=LABELS)
    assert output.logits.shape == (4, 3) and output.keep_mask.shape == (4, len(modalities))
    assert list(output.unimodal_logits) == list(output.features) == list(modalities)
    for logits in output.unimodal_logits.values():
        assert logits.shape == (4, 3) and not logits.requires_grad and torch.isfinite(logits).all()
    output.loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@every_combination
@two_and_three
def test_save_and_load_give_equal_outputs(fusion, interaction, modalities, tmp_path):
    model, batch = build(fusion, interaction, modalities), tiny_images(modalities)
    model(**batch)  # moves the running statistics
    check_reload(model, batch, tmp_path)


@every_combination
@two_and_three
def test_training_with_opm_and_ogm_moves_every_parameter(fusion, interaction, modalities, training_args):
    model = build(fusion, interaction, modalities)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    args = training_args(modulations={"opm": {}, "ogm": {"alpha": 0.8}}, max_steps=4, logging_steps=1)
    history = train(model, args, modalities).state.log_history[:4]
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, start[name])] == []
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    for entry in history:
        ratios = {m: entry[f"balance/ratio_{m}"] for m in modalities}
        assert {m: entry[f"ogm/coefficient_{m}"] < 1 for m in modalities} == {m: r > 1 for m, r in ratios.items()}
        assert max(ratios.values()) > 1
    assert all(history[0][f"opm/drop_probability_{m}"] == 0 for m in modalities)
    for before, after in itertools.pairwise(history):
        for m in modalities:
            assert (after[f"opm/drop_probability_{m}"] >= 0.5) == (before[f"balance/ratio_{m}"] > 1)


@every_combination
def test_ogm_scales_encoder_parameters_and_no_others(fusion, interaction, training_args):
    """One step of SGD moves a parameter in proportion to its gradient."""

    def step(modulations):
        model = build(fusion, interaction)
        start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        args = training_args(modulations=modulations, max_steps=1, logging_steps=1, max_grad_norm=0)
        logs = train(model, args, ("audio", "visual")).state.log_history[0]
        return {name: parameter.detach() - start[name] for name, parameter in model.named_parameters()}, logs

    (plain, _), (ogm, logs) = step({}), step({"ogm": {"alpha": 0.8}})
    coefficients = {m: logs[f"ogm/coefficient_{m}"] for m in ("audio", "visual")}
    assert min(coefficients.values()) < 1
    for name, moved in ogm.items():
        part, modality, *_ = name.split(".")
        expected = coefficients[modality] if part == "encoders" else 1.0
        torch.testing.assert_close(moved, expected * plain[name], atol=1e-6, rtol=1e-4)


def test_a_probe_scores_learns_and_leaves_the_rest_alone(training_args):
    """Product fusion: the ratio is 1 without probes; with them the encoders and the head train as without."""
    modalities = ("audio", "visual")

    def run(prediction):
        model = MultimodalForClassification(tiny_image_config(fusion="product", unimodal_prediction=prediction))
        model.load_state_dict(build("product", None).state_dict(), strict=False)
        args = training_args(modulations={}, max_steps=4, logging_steps=1, max_grad_norm=0)
        return train(model, args, modalities)

    probed = run("probe")
    with pytest.warns(UserWarning, match="purely multiplicative"):
        blind = run("auto")
    for trainer, constant in ((blind, True), (probed, False)):
        ratios = [entry["balance/ratio_audio"] for entry in trainer.state.log_history[:4]]
        assert all((ratio == 1) == constant for ratio in ratios)
    for name, parameter in blind.model.named_parameters():
        assert torch.equal(parameter, probed.model.get_parameter(name)), name
    extra = dict(probed.model.named_parameters()).keys() - dict(blind.model.named_parameters()).keys()
    assert extra == {f"auxiliary_heads.{m}.{kind}" for m in modalities for kind in ("weight", "bias")}
    assert all((probed.model.get_parameter(f"auxiliary_heads.{m}.bias") != 0).any() for m in modalities)


def test_a_probe_sends_no_gradient_into_an_encoder():
    for interaction in (None, *INTERACTIONS):
        torch.manual_seed(0)
        config = tiny_image_config(
            interaction=interaction, interaction_options=OPTIONS.get(interaction), unimodal_prediction="probe"
        )
        model, batch = MultimodalForClassification(config), tiny_images()
        output = model(**batch, labels=LABELS)
        for name, logits in output.auxiliary_logits.items():
            assert torch.equal(output.unimodal_logits[name], logits)
            logits.sum().backward()
        reached = {name for name, p in model.named_parameters() if p.grad is not None}
        assert {name.split(".")[0] for name in reached} == {"auxiliary_heads"}
        joint = torch.nn.functional.cross_entropy(output.logits, LABELS)
        probes = sum(torch.nn.functional.cross_entropy(logits, LABELS) for logits in output.auxiliary_logits.values())
        torch.testing.assert_close(output.loss, joint + probes)


@pytest.mark.parametrize("interaction", [None, "centralnet"])
def test_an_auxiliary_loss_reaches_its_own_encoder_only(interaction):
    torch.manual_seed(0)
    config = tiny_image_config(
        interaction=interaction, interaction_options=OPTIONS.get(interaction), auxiliary_loss_weight=2.0
    )
    model, batch = MultimodalForClassification(config), tiny_images()
    mask = torch.tensor([[True, True], [False, True], [True, True], [True, False]])
    output = model(**batch, labels=LABELS, modality_mask=mask)
    expected = torch.nn.functional.cross_entropy(output.logits, LABELS)
    for column, logits in enumerate(output.auxiliary_logits.values()):
        present = mask[:, column]
        expected = expected + 2 * torch.nn.functional.cross_entropy(logits[present], LABELS[present])
    torch.testing.assert_close(output.loss, expected)
    output.auxiliary_logits["audio"].sum().backward()
    reached = {
        name.split(".")[:2] == ["encoders", "audio"] for name, p in model.named_parameters() if p.grad is not None
    }
    reached_parts = {".".join(n.split(".")[:2]) for n, p in model.named_parameters() if p.grad is not None}
    assert reached and reached_parts == {"encoders.audio", "auxiliary_heads.audio"}
