from __future__ import annotations

import itertools

import pytest
import torch
from tiny import KeepOnly, scrambled, unreached
from tiny_segments import (
    ARCHITECTURES,
    LABELS,
    POSITIONS,
    SEGMENTS,
    tiny_segment_config,
    tiny_segment_dataset,
    tiny_segment_model,
    tiny_segments,
)
from transformers import AutoConfig, AutoModel

from hf_bml import (
    MODULATIONS,
    MultimodalBalancedTrainer,
    MultimodalDataCollator,
    MultimodalForSegmentClassification,
    SegmentClassificationConfig,
)
from hf_bml.ground.task import cross_entropy
from hf_bml.metrics import segment_classification_metrics

pytestmark = pytest.mark.filterwarnings("ignore:.*scale gradients, but Adam")
NEEDS_OTHER_MODELS = {  # what they say
    "greedy": "gates of MMTM.*Use a MultimodalForClassification",
    "dgl": "act where a modality's gradient enters its encoder",
    "tcmax": "need the head as a function of the features",
    "mla": "found a MultimodalForSegmentClassification",
}
IN_TURNS = {"reconboost"}  # trains a modality at a time


def trainer_of(model, args, **data):
    dataset = tiny_segment_dataset(**data)
    collator = MultimodalDataCollator(list(model.encoders), LABELS, segments=True)
    return MultimodalBalancedTrainer(
        model,
        args,
        data_collator=collator,
        train_dataset=dataset,
        eval_dataset=dataset,
        compute_metrics=segment_classification_metrics,
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_output(architecture):
    inputs, labels = tiny_segments(5)
    output = tiny_segment_model(architecture)(**inputs, labels=labels)
    assert output.logits.shape == (5, SEGMENTS, LABELS)
    assert list(output.unimodal_logits) == ["audio", "visual"]
    for logits in output.unimodal_logits.values():
        assert logits.shape == (5, SEGMENTS, LABELS) and logits.dtype == torch.float32 and not logits.requires_grad
    assert all(feature.shape[:2] == (5, SEGMENTS) for feature in output.features.values())
    assert output.keep_mask.shape == (5, 2) and output.keep_mask.all() and output.modality_mask is None
    torch.testing.assert_close(output.loss, cross_entropy(output.logits, labels))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_reaches_every_parameter(architecture):
    inputs, labels = tiny_segments(16)
    model = tiny_segment_model(architecture)
    model(**inputs, labels=labels).loss.backward()
    assert unreached(model) == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_start_as_published(architecture):
    """Recurrent layers as torch's own, uniform in 1 / sqrt(hidden size), biases too; linear ones Xavier uniform."""
    model = tiny_segment_model(architecture)
    kinds = {torch.nn.LSTM: 0, torch.nn.Linear: 0}
    for module in model.modules():
        if isinstance(module, torch.nn.LSTM):
            bound = module.hidden_size**-0.5
            assert all(0.8 * bound < parameter.abs().max() <= bound for parameter in module.parameters())
            kinds[torch.nn.LSTM] += 1
        elif isinstance(module, torch.nn.Linear):
            assert module.weight.abs().max() <= (6 / sum(module.weight.shape)) ** 0.5
            assert module.bias is None or not module.bias.any()
            kinds[torch.nn.Linear] += 1
    assert all(kinds.values())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_zero_out_at_the_recurrent_layers_in_eval_mode(architecture):
    inputs, _ = tiny_segments(5)
    model = scrambled(tiny_segment_model(architecture)).train()
    output = model(**inputs)
    model.eval()
    for name, logits in output.unimodal_logits.items():
        alone = {other: f if other == name else torch.zeros_like(f) for other, f in output.features.items()}
        torch.testing.assert_close(logits, model.architecture(model.encoders, alone).logits)
    assert not torch.allclose(output.unimodal_logits["audio"], output.unimodal_logits["visual"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_dropped_modality_is_zero_in_the_whole_clip(architecture):
    inputs, _ = tiny_segments(4)
    model = scrambled(tiny_segment_model(architecture)).eval()
    keep = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
    output = model(**inputs, modulation=KeepOnly(keep))
    joint = model(**inputs)
    torch.testing.assert_close(output.logits[[0, 3]], joint.logits[[0, 3]])
    torch.testing.assert_close(output.logits[1], joint.unimodal_logits["audio"][1])
    torch.testing.assert_close(output.logits[2], joint.unimodal_logits["visual"][2])
    assert torch.equal(output.keep_mask, keep)
    for name, feature in output.features.items():
        torch.testing.assert_close(feature, joint.features[name])  # what modulations score stays whole


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("training", [False, True])
def test_what_an_absent_modality_holds_does_not_matter(architecture, training):
    """Neither at its own recurrent layer nor as a guide."""
    inputs, labels = tiny_segments(4)
    model = scrambled(tiny_segment_model(architecture, options={"dropout": 0} if architecture == "psp" else None))
    model.train(training)
    mask = torch.tensor([[True, True], [False, True], [True, False], [True, True]])
    other = {name: values.clone() for name, values in inputs.items()}
    other["audio"][1], other["visual"][2] = 1e3, -1e3
    first, second = (model(**batch, labels=labels, modality_mask=mask) for batch in (inputs, other))
    torch.testing.assert_close(first.logits, second.logits)
    assert not first.features["audio"][1].any() and not first.features["visual"][2].any()
    assert torch.equal(first.keep_mask, mask) and torch.equal(first.modality_mask, mask)
    torch.testing.assert_close(first.logits[1], first.unimodal_logits["visual"][1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float16(architecture):
    """With clips that lack a modality, whose similarities are all zero."""
    inputs, labels = tiny_segments(4)
    mask = torch.tensor([[True, True], [False, True], [True, False], [True, True]])
    model = tiny_segment_model(architecture).eval()
    expected = model(**inputs, modality_mask=mask)
    half = {name: values.half() for name, values in inputs.items()}
    output = model.half()(**half, labels=labels, modality_mask=mask)
    assert output.logits.dtype == torch.float16 and torch.isfinite(output.loss)
    torch.testing.assert_close(output.logits.float(), expected.logits, atol=0.01, rtol=0)
    for name, logits in expected.unimodal_logits.items():
        torch.testing.assert_close(output.unimodal_logits[name], logits, atol=0.01, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("absent", ["audio", "visual"])
def test_a_modality_that_is_none_is_absent_everywhere(architecture, absent):
    inputs, labels = tiny_segments(4)
    model = scrambled(tiny_segment_model(architecture)).eval()
    mask = torch.ones(4, 2, dtype=torch.bool)
    mask[:, list(inputs).index(absent)] = False
    expected = model(**inputs, modality_mask=mask)
    output = model(**{**inputs, absent: None}, labels=labels)
    torch.testing.assert_close(output.logits, expected.logits)
    assert torch.equal(output.modality_mask, mask)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_save_and_load(architecture, tmp_path):
    model = tiny_segment_model(architecture, ("visual", "audio"), options={}).eval()
    inputs = {"visual": torch.randn(2, SEGMENTS, 6), "audio": torch.randn(2, SEGMENTS, POSITIONS, 5)}
    model.save_pretrained(tmp_path)
    expected = model(**inputs)
    for again in (AutoModel.from_pretrained(tmp_path), MultimodalForSegmentClassification.from_pretrained(tmp_path)):
        assert type(again) is MultimodalForSegmentClassification
        assert torch.equal(again.eval()(**inputs).logits, expected.logits)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is SegmentClassificationConfig and list(config.modalities) == ["visual", "audio"]
    assert config.to_dict() == again.config.to_dict() and config.architecture == architecture
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_64_clips_are_learned(architecture):
    inputs, labels = tiny_segments(64, noise=0.5)
    model = tiny_segment_model(architecture)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        optimizer.step()
    accuracy = (model.eval()(**inputs).logits.argmax(-1) == labels).float().mean()
    assert accuracy > 0.95


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "modulations", [{"opm": {}}, {"ogm": {}}, {"opm": {}, "ogm": {"noise": "entry_std"}}], ids="+".join
)
def test_trains_with_the_papers_modulations(architecture, modulations, training_args):
    args = training_args(modulations=modulations, max_steps=20, logging_steps=1, learning_rate=0.3)
    trainer = trainer_of(tiny_segment_model(architecture), args)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert logs[-1]["loss"] < logs[0]["loss"]
    dominant = [entry["balance/ratio_audio"] for entry in logs]
    assert max(dominant) > 1.05  # the sound is the stronger one
    if "opm" in modulations:
        assert max(entry["opm/drop_fraction_audio"] for entry in logs) > 0
    if "ogm" in modulations:
        assert min(entry["ogm/coefficient_audio"] for entry in logs) < 1
    metrics = trainer.evaluate()
    expected = {"accuracy", "event_accuracy", "accuracy_audio", "accuracy_visual", "loss"}
    assert expected <= {key.removeprefix("eval_") for key in metrics}
    assert metrics["eval_accuracy"] > 0.5


@pytest.mark.parametrize(("name", "architecture"), list(zip(MODULATIONS, itertools.cycle(ARCHITECTURES))))
def test_every_modulation_works_or_says_why_not(architecture, name, training_args):
    options = dict(MODULATIONS[name].example_options)
    needs = MODULATIONS[name](**options).needs(())
    args = training_args(modulations={name: options}, max_steps=12, bf16=True)
    if name in NEEDS_OTHER_MODELS:
        with pytest.raises(ValueError, match=NEEDS_OTHER_MODELS[name]):
            trainer_of(tiny_segment_model(architecture), args)
        return
    trainer = trainer_of(tiny_segment_model(architecture, **needs.model_options), args)
    if needs.trained_alone:  # with them: the property suite
        with pytest.raises(ValueError, match="learn from a model of each modality that was trained alone"):
            trainer.train()
        return
    plain = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.train()
    assert any(key.startswith(f"{name}/") for entry in trainer.state.log_history for key in entry)
    for key, value in trainer.model.state_dict().items():
        assert torch.isfinite(value).all() and (name in IN_TURNS or not torch.equal(value, plain[key])), key


@pytest.mark.parametrize("segment_loss", ["soft_margin", "pair_similarity"])
@pytest.mark.parametrize("smoothing", [True, False])
def test_a_published_loss_is_not_replaced_in_silence(segment_loss, smoothing, training_args):
    model = tiny_segment_model("psp", segment_loss=segment_loss)
    args = training_args(label_smoothing_factor=0.1 if smoothing else 0.0)
    options = {} if smoothing else {"compute_loss_func": lambda outputs, labels, num_items_in_batch: 0.0}
    with pytest.raises(ValueError, match=f"has segment_loss: {segment_loss}, but label_smoothing_factor or compute_l"):
        MultimodalBalancedTrainer(model, args, **options)
    MultimodalBalancedTrainer(tiny_segment_model("psp"), args, **options)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_own_classifiers_see_their_own_modality_only(architecture):
    """Not even as a guide; with PSP and AVGA, the picture's positions then weigh by themselves."""
    inputs, _ = tiny_segments(5)
    model = scrambled(tiny_segment_model(architecture, auxiliary_loss_weight=0.0)).eval()
    output = model(**inputs)
    for name in inputs:
        alone = model(**{other: values if other == name else None for other, values in inputs.items()})
        torch.testing.assert_close(output.auxiliary_logits[name], alone.auxiliary_logits[name])
        model.zero_grad()
        model(**inputs).auxiliary_logits[name].sum().backward()
        reached = {key.split(".")[1] for key, parameter in model.named_parameters() if parameter.grad is not None}
        assert reached == {name}  # of encoders and of auxiliary_heads
        recurrent = model.encoders[name].recurrent
        assert unreached(recurrent) == []
    assert tiny_segment_model(architecture)(**inputs).auxiliary_logits is None


def test_own_classifiers_label_the_states_of_the_recurrent_layer():
    inputs, _ = tiny_segments(5)
    model = tiny_segment_model("avsdn", auxiliary_loss_weight=1.0)
    output = model(**inputs)
    states, _ = model.encoders["audio"].recurrent(inputs["audio"])
    torch.testing.assert_close(output.auxiliary_logits["audio"], model.auxiliary_heads["audio"](states))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_auxiliary_losses_of_the_segments(architecture):
    """Clips that lack a modality count in the other's loss only, whatever they hold."""
    inputs, labels = tiny_segments(4)
    options = {"dropout": 0.0} if architecture == "psp" else None
    model = tiny_segment_model(architecture, options=options, auxiliary_loss_weight=0.5)
    mask = torch.tensor([[True, True], [False, True], [True, True], [True, True]])
    joint = model.eval()(**inputs, labels=labels, modality_mask=mask)
    trained = model.train()(**inputs, labels=labels, modality_mask=mask)
    heard = trained.auxiliary_logits["audio"][[0, 2, 3]]
    own = cross_entropy(heard, labels[[0, 2, 3]]) + cross_entropy(trained.auxiliary_logits["visual"], labels)
    torch.testing.assert_close(joint.loss, cross_entropy(joint.logits, labels))
    torch.testing.assert_close(trained.loss, joint.loss + 0.5 * own)
    torch.testing.assert_close(trained.auxiliary_logits["audio"][1, 0], model.auxiliary_heads["audio"].bias)
    without = model(audio=None, visual=inputs["visual"], labels=labels)
    assert without.auxiliary_logits["audio"].shape == (4, SEGMENTS, LABELS) and torch.isfinite(without.loss)


def test_gradient_blending_needs_the_cross_entropy_and_own_classifiers(training_args):
    args = training_args(modulations={"gradient_blending": {}})
    with pytest.raises(ValueError, match="Set auxiliary_loss_weight: 0 in the model's config"):
        trainer_of(tiny_segment_model("psp"), args)
    model = tiny_segment_model("psp", segment_loss="pair_similarity", auxiliary_loss_weight=0.0)
    with pytest.raises(ValueError, match=r"segment_loss: pair_similarity. Set segment_loss: cross_entropy"):
        trainer_of(model, args)


def test_ogm_in_the_graph_is_refused(training_args):
    with pytest.raises(
        ValueError,
        match=r"\['ogm'\] act .* in this MultimodalForSegmentClassification it also .* placement: gradients",
    ):
        trainer_of(tiny_segment_model("avga"), training_args(modulations={"ogm": {"placement": "graph"}}))


def test_samples_that_lack_a_modality_train(training_args):
    rows = tiny_segment_dataset(16)
    model = tiny_segment_model("avga")
    collator = MultimodalDataCollator(["audio", "visual"], LABELS, segments=True)
    collator([rows[0]])

    def collate(samples):
        return collator([{**row, "audio": None} if index % 3 == 0 else row for index, row in enumerate(samples)])

    args = training_args(modulations={"opm": {}, "ogm": {}})
    trainer = MultimodalBalancedTrainer(model, args, data_collator=collate, train_dataset=rows)
    trainer.train()
    assert all(torch.isfinite(p).all() for p in model.parameters())


RAW = {
    "audio": {"type": "conv", "in_channels": 1, "channels": [3, 5]},
    "visual": {"type": "conv", "in_channels": 3, "channels": [3, 4]},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_raw_clips(architecture, tmp_path):
    options = {"positions": 4} if architecture != "avsdn" else {}
    config = SegmentClassificationConfig(
        modalities=RAW, architecture=architecture, architecture_options=options, num_labels=LABELS
    )
    model = MultimodalForSegmentClassification(config)
    clips = {"audio": torch.randn(3, SEGMENTS, 1, 12, 8), "visual": torch.randn(3, SEGMENTS, 3, 8, 8)}
    mask = torch.tensor([[True, True], [False, True], [True, True]])
    output = model(**clips, labels=torch.zeros(3, SEGMENTS, dtype=torch.long), modality_mask=mask)
    output.loss.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing and model.encoders["visual"].input.encoder.layers[0][0].weight.grad.any()
    model.eval().save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert torch.equal(model(**clips).logits, again(**clips).logits)
    first = {name: clip[:, :1] for name, clip in clips.items()}  # an encoder sees each segment by itself
    read = {name: model.encoders[name].input(clip) for name, clip in clips.items()}
    for name, clip in first.items():
        torch.testing.assert_close(model.encoders[name].input(clip)[:, 0], read[name][:, 0])


def test_token_ids_of_every_segment():
    bert = {
        "model_type": "bert",
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 20,
    }
    config = SegmentClassificationConfig(
        modalities={"text": {"type": "transformers", "config": bert}, "audio": {"type": "features", "input_size": 5}},
        architecture="avsdn",
        num_labels=LABELS,
    )
    tokens = {"input_ids": torch.ones(2, SEGMENTS, 6, dtype=torch.long), "attention_mask": torch.ones(2, SEGMENTS, 6)}
    model = MultimodalForSegmentClassification(config)
    assert model(text=tokens, audio=torch.randn(2, SEGMENTS, 5)).logits.shape == (2, SEGMENTS, LABELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": torch.zeros(2, SEGMENTS, 4)}, r"Modality 'audio': expected \(batch, segments, 5\).*\(2, 4, 4\)"),
        ({"audio": torch.zeros(2, 3, 5)}, r"one \(batch, segments\), found \{'audio': \(2, 3\), 'visual': \(2, 4\)"),
        ({"labels": torch.zeros(2, dtype=torch.long)}, r"'labels': \(2,\)\}.*as many segments as there are labels"),
        ({"visual": torch.zeros(2, SEGMENTS, 6)}, "expected 3 positions per segment, found 1"),
        ({"adio": None}, "Unknown modality 'adio'. Did you mean 'audio'"),
        ({"modality_mask": torch.ones(2, 3)}, r"\(batch, modalities\) = \(2, 2\), found \(2, 3\)"),
    ],
)
def test_bad_inputs(changes, message):
    inputs, labels = tiny_segments(2)
    with pytest.raises(ValueError, match=message):
        tiny_segment_model("avga")(**{**inputs, "labels": labels, **changes})


def test_a_raw_clip_that_is_not_cut():
    config = SegmentClassificationConfig(modalities=RAW, architecture="avsdn", num_labels=LABELS)
    with pytest.raises(ValueError, match=r"Modality 'audio'.*"):
        MultimodalForSegmentClassification(config)(audio=torch.randn(3, 12, 8), visual=None)


@pytest.mark.parametrize(
    ("shape", "remedy"), [((2, 5), "Give a feature for every segment"), ((2, SEGMENTS, 4), "Set input_size to")]
)
def test_features_of_another_shape(shape, remedy):
    with pytest.raises(ValueError, match=rf"expected \(batch, segments, 5\).*found .*\. {remedy}"):
        tiny_segment_model("avsdn")(audio=torch.zeros(shape), visual=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "avgaa"}, "architecture must be one of .*'avgaa'. Did you mean 'avga'"),
        ({"architecture_options": [1]}, "architecture_options must be a dict"),
        ({"architecture_options": {"position": 1}}, "has no option 'position'. Did you mean 'positions'"),
        (
            {"modalities": {"a": {"type": "feature"}}},
            "Unknown encoder type 'feature'. Did you mean 'features'. Known:",
        ),
        ({"modalities": {"a": {"type": "features"}}}, "type 'features' needs the option 'input_size'"),
        ({"modalities": {"a": {"type": "features", "input_size": 0}}}, "input_size must be an integer of at least 1"),
        ({"modalities": {"a": {"type": "features", "input_size": 2}}}, "two or more, found"),
        (
            {"modalities": {"a": {"type": "timm", "architecture": "resnet18", "temporal_shift": True}}},
            "modality 'a': temporal_shift exchanges channels between the frames .* every segment by itself. Leave it",
        ),
        ({"auxiliary_loss_weight": -0.5}, "auxiliary_loss_weight must be a number of at least 0, found -0.5"),
    ],
)
def test_bad_configs(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentClassificationConfig(**options)


def test_no_modality():
    with pytest.raises(ValueError, match=r"SegmentClassificationConfig.modalities is empty"):
        MultimodalForSegmentClassification(SegmentClassificationConfig())


def test_scores_count_every_segment_and_only_clips_that_have_the_modality():
    from hf_bml.modulation.discrepancy import discriminative_scores

    inputs, labels = tiny_segments(3)
    mask = torch.tensor([[True, True], [False, True], [True, True]])
    output = tiny_segment_model("avga").eval()(**inputs, modality_mask=mask)
    probabilities = output.unimodal_logits["audio"].softmax(-1)
    expected = sum(probabilities[i, t, labels[i, t]] for i in (0, 2) for t in range(SEGMENTS))
    torch.testing.assert_close(discriminative_scores(output.unimodal_logits, labels, mask)[0], expected)


def test_config_round_trip_keeps_what_was_given():
    config = tiny_segment_config("psp", segment_loss="pair_similarity")
    again = SegmentClassificationConfig.from_dict(config.to_dict())
    assert again.architecture_options == config.architecture_options and again.segment_loss == "pair_similarity"
