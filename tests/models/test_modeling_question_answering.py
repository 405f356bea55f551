from __future__ import annotations

import copy

import pytest
import torch
from tiny import TINY_BERT, KeepOnly, scrambled, unreached
from tiny_questions import ARCHITECTURES, MODALITIES, tiny_question_config, tiny_question_model, tiny_questions
from transformers import AutoConfig, AutoModel

from hf_bml import MultimodalForQuestionAnswering, QuestionAnsweringConfig

LABELS = torch.tensor([0, 1, 2, 3])
both = pytest.mark.parametrize("architecture", ARCHITECTURES)
some = pytest.mark.parametrize("modalities", [("text",), ("text", "audio"), MODALITIES, ("audio", "text", "visual")])


def model_and_batch(architecture, modalities=MODALITIES, **options):
    model = scrambled(tiny_question_model(architecture, modalities, **options)).eval()
    return model, tiny_questions(modalities)


@both
@some
def test_shapes_and_dtypes(architecture, modalities):
    model, batch = model_and_batch(architecture, modalities)
    output = model(**batch, labels=LABELS, question_type=LABELS)
    assert output.logits.shape == (4, 4) and output.loss.shape == ()
    assert output.keep_mask.shape == (4, len(modalities)) and output.keep_mask.all() and output.modality_mask is None
    assert list(output.unimodal_logits) == list(output.features) == list(modalities)
    for name in modalities:
        assert output.unimodal_logits[name].shape == (4, 4) and not output.unimodal_logits[name].requires_grad
        assert output.features[name].shape == (4, model.encoders[name].token_size)
    assert torch.equal(output.question_type, LABELS)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, LABELS))


@both
@some
def test_the_gradient_reaches_every_parameter(architecture, modalities):
    model, batch = model_and_batch(architecture, modalities)
    model.train()(**batch, labels=LABELS).loss.backward()
    idle = set()
    if architecture == "avsd":  # a softmax does not see what is added to all of its inputs
        idle = {f"architecture.unary.{name}.reduce.bias" for name in modalities}
        if len(modalities) == 2:  # an LSTM that runs over one other modality takes a single step, from zeros
            idle.add("architecture.lstm.weight_hh_l0")
    assert set(unreached(model)) == idle


@both
def test_a_unimodal_prediction_is_what_is_left_when_the_others_are_dropped(architecture):
    model, batch = model_and_batch(architecture)
    scored = model(**batch).unimodal_logits
    for column, name in enumerate(MODALITIES):
        keep = torch.zeros(4, 3, dtype=torch.bool)
        keep[:, column] = True
        torch.testing.assert_close(model(**batch, modulation=KeepOnly(keep)).logits, scored[name])
        others = tiny_questions(seed=5)
        torch.testing.assert_close(model(**{**others, name: batch[name]}).unimodal_logits[name], scored[name])


@both
def test_dropping_is_per_sample_and_stops_the_gradient(architecture):
    model, batch = model_and_batch(architecture)
    batch["audio"].requires_grad_()
    keep = torch.tensor([[True, False, True], [True, True, True], [False, False, True], [True, True, False]])
    output = model(**batch, modulation=KeepOnly(keep))
    output.logits.sum().backward()
    assert torch.equal(batch["audio"].grad.flatten(1).any(1), keep[:, 1])
    changed = model(**{**batch, "audio": torch.randn(4, 3, 5)}, modulation=KeepOnly(keep))
    assert torch.equal((changed.logits != output.logits).any(1), keep[:, 1])
    assert torch.equal(output.keep_mask, keep)


@both
def test_absent_modalities(architecture):
    """A modality of None equals an all-False mask, and what is there instead does not matter."""
    model, batch = model_and_batch(architecture)
    for column, name in enumerate(MODALITIES):
        mask = torch.ones(4, 3, dtype=torch.bool)
        mask[:, column] = False
        absent, masked = model(**{**batch, name: None}), model(**batch, modality_mask=mask)
        torch.testing.assert_close(absent.logits, masked.logits)
        other = model(**{**batch, name: tiny_questions(seed=3)[name]}, modality_mask=mask)
        torch.testing.assert_close(other.logits, masked.logits)
        assert torch.equal(absent.keep_mask, mask) and (absent.features[name] == 0).all()
        assert torch.isfinite(absent.unimodal_logits[name]).all()
        for m in set(MODALITIES) - {name}:
            torch.testing.assert_close(absent.unimodal_logits[m], masked.unimodal_logits[m])


@both
def test_absent_everywhere_trains_without_nan(architecture):
    model, batch = model_and_batch(architecture)
    mask = torch.tensor([[True, False, False], [False, True, False], [False, False, True], [True, True, True]])
    output = model.train()(**batch, labels=LABELS, modality_mask=mask)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@both
def test_padding_is_not_seen(architecture):
    model, batch = model_and_batch(architecture)
    expected = model(**batch)
    longer = {
        "input_ids": torch.nn.functional.pad(batch["text"]["input_ids"], (0, 3), value=7),
        "attention_mask": torch.nn.functional.pad(batch["text"]["attention_mask"], (0, 3)),
    }
    audio = {
        "values": torch.cat([batch["audio"], torch.full((4, 2, 5), 9.0)], 1),
        "mask": torch.arange(5).expand(4, 5) < 3,
    }
    output = model(**{**batch, "text": longer, "audio": audio})
    torch.testing.assert_close(output.logits, expected.logits)
    for name in MODALITIES:
        torch.testing.assert_close(output.unimodal_logits[name], expected.unimodal_logits[name])


@both
def test_padded_frames_are_not_seen(architecture):
    """Clips of one frame, by themselves and in a batch with longer ones."""
    model, batch = model_and_batch(architecture)
    expected = model(**{**batch, "visual": batch["visual"][:, :1]})
    padded = torch.cat([batch["visual"][:, :1], torch.full((4, 1, 3, 7), 9.0)], 1)
    output = model(**{**batch, "visual": {"values": padded, "mask": torch.tensor([[True, False]] * 4)}})
    torch.testing.assert_close(output.logits, expected.logits)
    for name in MODALITIES:
        torch.testing.assert_close(output.unimodal_logits[name], expected.unimodal_logits[name])
    assert not torch.allclose(output.logits, model(**{**batch, "visual": padded}).logits)


@both
def test_samples_do_not_meet(architecture):
    model, batch = model_and_batch(architecture)
    whole = model(**batch)
    for row in range(4):
        text = {key: value[[row]] for key, value in batch["text"].items()}
        single = model(text=text, audio=batch["audio"][[row]], visual=batch["visual"][[row]])
        torch.testing.assert_close(single.logits[0], whole.logits[row])


@both
def test_scoring_leaves_no_trace(architecture):
    model, batch = model_and_batch(architecture)
    model.train()
    before = copy.deepcopy(model.state_dict())
    model(**batch)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@both
def test_precision(architecture):
    model, batch = model_and_batch(architecture)
    exact = model(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch, labels=LABELS)
    scale = exact.logits.abs().max().item()
    torch.testing.assert_close(output.logits.float(), exact.logits, atol=0.05 * scale, rtol=0)
    assert all(logits.dtype == torch.float32 for logits in output.unimodal_logits.values())
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    double = {**batch, "audio": batch["audio"].double(), "visual": batch["visual"].double()}
    output = model.double()(**double, labels=LABELS)
    assert output.logits.dtype == output.unimodal_logits["text"].dtype == output.loss.dtype == torch.float64


@both
def test_float16(architecture):
    """With padded questions, which are zero behind their last word, and questions that lack a modality."""
    model = tiny_question_model(architecture).eval()
    batch, mask = tiny_questions(), torch.tensor([[True] * 3, [True, False, True], [True, True, False], [True] * 3])
    expected = model(**batch, modality_mask=mask)
    half = {**batch, "audio": batch["audio"].half(), "visual": batch["visual"].half()}
    output = model.half()(**half, labels=LABELS, modality_mask=mask)
    assert output.logits.dtype == torch.float16 and torch.isfinite(output.loss)
    torch.testing.assert_close(output.logits.float(), expected.logits, atol=0.01, rtol=0)
    for name in MODALITIES:
        torch.testing.assert_close(output.unimodal_logits[name], expected.unimodal_logits[name], atol=0.01, rtol=0)


@both
def test_save_load_and_auto_classes(architecture, tmp_path):
    model, batch = model_and_batch(architecture, auxiliary_loss_weight=0.5)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert type(again) is MultimodalForQuestionAnswering
    assert list(again.encoders) == list(MODALITIES) and again.config.question == "text"
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is QuestionAnsweringConfig and config.architecture_options == model.config.architecture_options
    expected, loaded = model(**batch), again(**batch)
    torch.testing.assert_close(loaded.logits, expected.logits)
    for name in MODALITIES:
        torch.testing.assert_close(loaded.unimodal_logits[name], expected.unimodal_logits[name])
        torch.testing.assert_close(loaded.auxiliary_logits[name], expected.auxiliary_logits[name])


@both
def test_a_transformers_model_reads_the_question(architecture):
    config = tiny_question_config(architecture)
    modalities = {"audio": config.modalities["audio"], "words": {"type": "transformers", "config": TINY_BERT}}
    options = {key: value for key, value in config.architecture_options.items() if key != "utilities"}
    model = MultimodalForQuestionAnswering(
        QuestionAnsweringConfig(
            modalities=modalities, architecture=architecture, architecture_options=options, num_labels=4
        )
    )
    assert model.config.question == "words" and model.architecture.question == "words"
    batch = tiny_questions()
    assert model(words=batch["text"], audio=batch["audio"]).logits.shape == (4, 4)


def test_auxiliary_losses_are_added_in_training():
    model, batch = model_and_batch("avsd", auxiliary_loss_weight=2.0)
    evaluated = model(**batch, labels=LABELS)
    trained = model.train()(**batch, labels=LABELS)
    own = sum(torch.nn.functional.cross_entropy(logits, LABELS) for logits in trained.auxiliary_logits.values())
    torch.testing.assert_close(trained.loss, evaluated.loss + 2 * own)


def test_frames_are_attended_one_by_one():
    """Exchanging two positions within a frame changes nothing; moving a position to another frame does."""
    config = tiny_question_config("avsd")
    config.modalities["visual"] = {"type": "sequence", "input_size": 7, "hidden_size": 6, "num_layers": 0}
    config.modalities["visual"] |= {"num_heads": 2, "positions": False}
    model = scrambled(MultimodalForQuestionAnswering(config)).eval()
    batch = tiny_questions()
    expected = model(**batch).logits
    within = batch["visual"][:, :, [1, 0, 2]]
    torch.testing.assert_close(model(**{**batch, "visual": within}).logits, expected)
    across = batch["visual"].flatten(1, 2)[:, [3, 1, 2, 0, 4, 5]].unflatten(1, (2, 3))
    assert (model(**{**batch, "visual": across}).logits != expected).any(1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "avsdn"}, "architecture must be one of .* found 'avsdn'. Did you mean 'avsd'"),
        ({"architecture_options": {"hiden_size": 2}}, "'avsd' has no option 'hiden_size'. Did you mean 'hidden_size'"),
        ({"architecture_options": {"utilities": {"visual": 0}}}, "utilities of 'visual' must be .* found 0"),
        ({"architecture_options": {"dropout": 1.0}}, r"architecture 'avsd': dropout must be in \[0, 1\)"),
        ({"architecture": "panoavqa", "architecture_options": {"hidden_size": 6}}, "multiple of num_heads 4"),
        ({"question": "txt"}, "question must be one of .* found 'txt'. Did you mean 'text'"),
        ({"auxiliary_loss_weight": -1}, "auxiliary_loss_weight must be a number of at least 0, found -1"),
    ],
)
def test_bad_configs(options, message):
    modalities = {"text": {"type": "lstm", "vocab_size": 5}}
    with pytest.raises(ValueError, match=message):
        QuestionAnsweringConfig(modalities=modalities, num_labels=2, **options)


def test_bad_models():
    audio = {"type": "sequence", "input_size": 5, "hidden_size": 8}
    with pytest.raises(ValueError, match=r"None of the modalities \['audio'\] takes token ids"):
        MultimodalForQuestionAnswering(QuestionAnsweringConfig(modalities={"audio": audio}, num_labels=2))
    with pytest.raises(ValueError, match=r"utilities are for the modalities \[\], found \['text'\]"):
        MultimodalForQuestionAnswering(
            QuestionAnsweringConfig(
                modalities={"text": {"type": "lstm", "vocab_size": 5}},
                architecture_options={"utilities": {"text": 2}},
                num_labels=2,
            )
        )


def test_bad_inputs():
    model, batch = model_and_batch("avsd")
    message = r"Modality 'visual': with utilities=2, expected \(frames, positions, dim\) of at most 2 frames, found "
    with pytest.raises(ValueError, match=message + "4 frames. Give it as many frames, or change `utilities`"):
        model(**{**batch, "visual": batch["visual"].repeat(1, 2, 1, 1)})
    with pytest.raises(ValueError, match=message + "a sequence of 6 without frames"):
        model(**{**batch, "visual": batch["visual"].flatten(1, 2)})
    with pytest.raises(ValueError, match=r"Modality 'text': expected token ids \(batch, length\), found \(4, 3, 5\)"):
        model(**{**batch, "text": batch["audio"]})
    with pytest.raises(ValueError, match="Unknown modality 'vision'"):
        model(**batch, vision=batch["visual"])
