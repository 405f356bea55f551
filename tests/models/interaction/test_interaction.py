"""What every interaction promises: an absent modality contributes nothing, and scoring leaves no trace."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import TINY_BERT, KeepOnly, check_reload, scrambled, tiny_config, tiny_image_config, tiny_images, tiny_model

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models import INTERACTIONS
from hf_bml.models.interaction import Interaction

OPTIONS = {
    "centralnet": {"stages": 3},
    "mmtm": {"stages": 2},
    "cross_attention": {"hidden_size": 8, "num_heads": 2, "num_layers": 2},
}
MODALITIES = [("audio", "visual"), ("visual", "audio", "flow")]
every_interaction = pytest.mark.parametrize("interaction", [None, *INTERACTIONS])
two_and_three = pytest.mark.parametrize("modalities", MODALITIES, ids=len)


def build(interaction, modalities, **options):
    torch.manual_seed(0)
    config = tiny_image_config(
        modalities, interaction=interaction, interaction_options=OPTIONS.get(interaction), **options
    )
    return scrambled(MultimodalForClassification(config)).eval()


def some_dropped(modalities):
    """Row 0 keeps everything, row i drops modality i - 1."""
    keep = torch.ones(len(modalities) + 1, len(modalities), dtype=torch.bool)
    keep[1:].fill_diagonal_(False)
    return keep


@every_interaction
@two_and_three
def test_a_dropped_modality_is_not_seen_and_learns_nothing(interaction, modalities):
    model, keep = build(interaction, modalities), some_dropped(modalities)
    batch = {name: value.requires_grad_() for name, value in tiny_images(modalities, len(keep)).items()}
    labels = torch.arange(len(keep)) % 3
    output = model(**batch, labels=labels, modulation=KeepOnly(keep))
    assert torch.equal(output.keep_mask, keep)
    output.loss.backward()
    for column, (name, values) in enumerate(batch.items()):
        moved = values.grad.flatten(1).abs().amax(1) > 0
        assert torch.equal(moved, keep[:, column]), name
        other = torch.where(keep[:, column].view(-1, *[1] * (values.dim() - 1)), values, torch.randn_like(values))
        changed = model(**{**batch, name: other}, modulation=KeepOnly(keep))
        assert torch.equal(changed.logits, output.logits), name
        everywhere = model(**{**batch, name: torch.randn_like(values)}, modulation=KeepOnly(keep))
        assert torch.equal((everywhere.logits != output.logits).any(1), keep[:, column]), name


@every_interaction
@two_and_three
def test_a_unimodal_prediction_depends_on_that_modality_alone(interaction, modalities):
    model, batch = build(interaction, modalities), tiny_images(modalities)
    output = model(**batch)
    for name in modalities:
        others = {other: value if other == name else torch.randn_like(value) for other, value in batch.items()}
        assert torch.equal(model(**others).unimodal_logits[name], output.unimodal_logits[name])
        assert torch.equal(model(**others).features[name], output.features[name])
        own = {**batch, name: torch.randn_like(batch[name])}
        assert (model(**own).unimodal_logits[name] != output.unimodal_logits[name]).any(1).all()


@every_interaction
@two_and_three
def test_with_one_modality_kept_the_head_sees_what_it_computes_alone(interaction, modalities):
    model, batch = build(interaction, modalities, unimodal_prediction="zero_out"), tiny_images(modalities)
    scored = model(**batch)
    for column, name in enumerate(modalities):
        keep = torch.zeros(4, len(modalities), dtype=torch.bool)
        keep[:, column] = True
        joint = model(**batch, modulation=KeepOnly(keep))
        torch.testing.assert_close(joint.logits, scored.unimodal_logits[name])
        started = {m: model.interaction.start(model.encoders[m], batch[m]) for m in modalities}
        seen = model.interaction(model.encoders, started, keep)
        torch.testing.assert_close(seen[name], scored.features[name])
        assert all((feature == 0).all() for other, feature in seen.items() if other != name)


@every_interaction
@two_and_three
def test_a_modality_of_none_equals_an_all_false_mask(interaction, modalities):
    model, batch = build(interaction, modalities), tiny_images(modalities)
    for column, name in enumerate(modalities):
        mask = torch.ones(4, len(modalities), dtype=torch.bool)
        mask[:, column] = False
        absent, masked = model(**{**batch, name: None}), model(**batch, modality_mask=mask)
        torch.testing.assert_close(absent.logits, masked.logits)
        assert torch.equal(absent.keep_mask, mask) and (absent.features[name] == 0).all()
        for other in modalities:
            torch.testing.assert_close(absent.unimodal_logits[other], masked.unimodal_logits[other])
        dropped = model(**batch, modulation=KeepOnly(mask))
        assert torch.equal(dropped.logits, masked.logits)


@every_interaction
@two_and_three
@pytest.mark.parametrize("training", [True, False])
def test_scoring_touches_no_statistics_and_no_mode(interaction, modalities, training):
    model, batch = build(interaction, modalities).train(training), tiny_images(modalities)
    joint = copy.deepcopy(model)
    joint.head(
        joint.interaction(
            joint.encoders, {m: joint.interaction.start(joint.encoders[m], batch[m]) for m in modalities}
        )
    )
    before = copy.deepcopy(model.state_dict())
    model(**batch)
    assert all(module.training == training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, joint.state_dict()[name]), name
        if name.endswith("running_mean"):
            assert torch.equal(value, before[name]) != training


@every_interaction
@two_and_three
def test_samples_do_not_meet_in_evaluation(interaction, modalities):
    model, batch = build(interaction, modalities), tiny_images(modalities)
    keep = (
        some_dropped(modalities)[:4].expand(4, -1) if len(modalities) == 3 else some_dropped(modalities)[[0, 1, 2, 1]]
    )
    whole = model(**batch, modulation=KeepOnly(keep))
    for row in range(4):
        single = model(**{m: v[[row]] for m, v in batch.items()}, modulation=KeepOnly(keep[[row]]))
        torch.testing.assert_close(single.logits[0], whole.logits[row])
        for name in modalities:
            torch.testing.assert_close(single.unimodal_logits[name][0], whole.unimodal_logits[name][row])


@every_interaction
def test_padding_frames_of_clips_are_not_seen(interaction):
    model, batch = build(interaction, ("audio", "visual")), tiny_images()
    padded = {"values": batch["visual"].clone(), "mask": torch.tensor([[True, True, False]] * 4)}
    padded["values"][:, 2] = 100.0
    with_padding = model(audio=batch["audio"], visual=padded)
    trimmed = model(audio=batch["audio"], visual=batch["visual"][:, :2])
    torch.testing.assert_close(with_padding.logits, trimmed.logits)
    torch.testing.assert_close(with_padding.unimodal_logits["visual"], trimmed.unimodal_logits["visual"])


@every_interaction
def test_a_single_frame_is_an_image(interaction):
    model, batch = build(interaction, ("audio", "visual")), tiny_images()
    clip = model(audio=batch["audio"], visual=batch["visual"][:, :1])
    image = model(audio=batch["audio"], visual=batch["visual"][:, 0])
    torch.testing.assert_close(clip.logits, image.logits)


@every_interaction
@pytest.mark.parametrize("training", [True, False])
def test_dtypes(interaction, training):
    model, batch = build(interaction, ("audio", "visual")).train(training), tiny_images()
    labels = torch.tensor([0, 1, 2, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch, labels=labels)
    assert output.logits.dtype == torch.bfloat16 and output.loss.dtype == torch.float32
    assert all(logits.dtype == torch.float32 for logits in output.unimodal_logits.values())
    output.loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    output = model.double()(**{name: value.double() for name, value in batch.items()}, labels=labels)
    assert output.logits.dtype == output.unimodal_logits["audio"].dtype == output.loss.dtype == torch.float64


@every_interaction
def test_autocast_changes_little(interaction):
    model, batch = build(interaction, ("audio", "visual")), tiny_images()
    exact = model(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch)
    scale = exact.logits.abs().max().item()
    torch.testing.assert_close(output.logits.float(), exact.logits, atol=0.05 * scale, rtol=0)
    for name in batch:
        torch.testing.assert_close(
            output.unimodal_logits[name], exact.unimodal_logits[name], atol=0.05 * scale, rtol=0
        )


PAIRS = [("conv", "resnet18"), ("resnet18", "efficientnet_b0"), ("mobilenetv3_small_050", "convnext_atto")]


def encoder_options(architecture, channels):
    if architecture == "conv":
        return {"type": "conv", "in_channels": channels, "channels": [4, 6, 8, 10]}
    return {"type": "timm", "architecture": architecture, "in_channels": channels}


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
@pytest.mark.parametrize("interaction", ["centralnet", "mmtm"])
def test_pairs_of_cnns(interaction, pair, tmp_path):
    torch.manual_seed(0)
    config = MultimodalConfig(
        modalities={"audio": encoder_options(pair[0], 1), "visual": encoder_options(pair[1], 3)},
        num_labels=3,
        interaction=interaction,
    )
    model = MultimodalForClassification(config)
    batch = {"audio": torch.randn(3, 1, 33, 40), "visual": torch.randn(3, 2, 3, 32, 32)}
    output = model(**batch, labels=torch.tensor([0, 1, 2]))
    output.loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    check_reload(model, batch, tmp_path)


@pytest.mark.parametrize(
    ("visual", "message"),
    [
        (
            {"type": "timm", "architecture": "vit_tiny_patch16_224"},
            "'vit_tiny_patch16_224' does not run stage by stage",
        ),
        ({"type": "transformers", "config": TINY_BERT}, "type 'transformers' does not run stage by stage"),
        ({"type": "conv", "channels": [4]}, r"stages is \d, but the encoder of 'visual' has only 1"),
    ],
)
@pytest.mark.parametrize("interaction", ["centralnet", "mmtm"])
def test_encoders_that_an_interaction_cannot_use(interaction, visual, message):
    config = MultimodalConfig(
        modalities={"audio": {"type": "conv"}, "visual": visual}, num_labels=2, interaction=interaction
    )
    with pytest.raises(ValueError, match=message):
        MultimodalForClassification(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interaction": "mmt"}, "interaction must be one of .* found 'mmt'. Did you mean 'mmtm'"),
        ({"interaction": ["mmtm"]}, "interaction must be one of"),
        ({"interaction_options": {"stages": 2}}, r"interaction_options \{'stages': 2\} need an `interaction`"),
        ({"interaction": "mmtm", "interaction_options": 3}, "interaction_options must be a dict, found 3"),
        (
            {"interaction": "mmtm", "interaction_options": {"stage": 2}},
            "interaction 'mmtm' has no option 'stage'. Did you mean 'stages'",
        ),
        (
            {"interaction": "mmtm", "interaction_options": {"ratio": 0}},
            "interaction 'mmtm': ratio must be an integer of at least 1, found 0",
        ),
        ({"interaction": "mmtm", "interaction_options": {"gate_scale": 0}}, "gate_scale must be a number above 0"),
        ({"interaction": "mmtm", "interaction_options": {"stages": 0}}, "stages must be .* at least 1, found 0"),
        ({"interaction": "centralnet", "interaction_options": {"stages": "4"}}, "stages must be .* found '4'"),
        ({"interaction": "centralnet", "interaction_options": {"stages": 1}}, "stages must be .* at least 2, found 1"),
        (
            {"interaction": "cross_attention", "interaction_options": {"hidden_size": 9, "num_heads": 2}},
            "hidden_size 9 must be a multiple of num_heads 2",
        ),
        ({"interaction": "cross_attention", "interaction_options": {"dropout": 1}}, r"dropout must be in \[0, 1\)"),
        ({"interaction": "cross_attention", "interaction_options": {"feedforward_size": 0}}, "feedforward_size must"),
        ({"interaction": "mmtm", "auxiliary_loss_weight": 1.0}, "no other one has touched.*'mmtm'.*probe"),
        ({"interaction": "cross_attention", "auxiliary_loss_weight": 0}, "no other one has touched"),
        ({"interaction": "centralnet", "fusion": "sum"}, "'centralnet' brings its own head.*fusion='sum'"),
        ({"interaction": "centralnet", "head_hidden_sizes": [4]}, r"brings its own head.*head_hidden_sizes=\[4\]"),
        ({"interaction": "centralnet", "bias_split": {"audio": 1, "visual": 0}}, "brings its own head"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_image_config(**options)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_a_single_modality_has_nobody_to_interact_with(interaction):
    with pytest.raises(ValueError, match=rf"'{interaction}' joins two or more modalities, found only \['audio'\]"):
        tiny_image_config(("audio",), interaction=interaction)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_the_config_holds_every_option_and_travels(interaction, tmp_path):
    config = tiny_image_config(interaction=interaction, interaction_options=OPTIONS[interaction])
    assert config.interaction_options.items() > OPTIONS[interaction].items() or interaction == "centralnet"
    config.save_pretrained(tmp_path)
    again = MultimodalConfig.from_pretrained(tmp_path)
    assert (
        again.interaction_config
        == config.interaction_config
        == INTERACTIONS[interaction].options_class(**config.interaction_options)
    )


def test_late_fusion_is_the_interaction_without_parameters():
    model = tiny_model()
    assert type(model.interaction) is Interaction and not list(model.interaction.parameters())
    assert tiny_config().interaction_config is None
