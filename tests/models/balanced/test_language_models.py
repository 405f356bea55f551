"""`balance()` on language models that see or hear: LLaVA, Qwen2-VL and Whisper, randomly initialised."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from hf_bml import MultimodalBalancedTrainer, balance
from hf_bml.ground.language_model import LanguageModeling
from hf_bml.metrics import language_model_metrics
from hf_bml.modulation import OGM, Gradients, Step
from hf_bml.modulation.ogm import gradient_coefficients
from hf_bml.testing import check
from hf_bml.testing.samples import KINDS
from hf_bml.testing.training import Setting, subject_of, train
from hf_bml.training.data_checks import checked_batch

IMAGE, START, END = 49, 47, 48  # tokens
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
LANGUAGE = {**SMALL, "vocab_size": 50, "num_key_value_heads": 2}
VISION = {"image_size": 16, "patch_size": 8, **SMALL, "num_hidden_layers": 2}
LLAVA_PATHS = {
    "image": ["model.vision_tower", "model.multi_modal_projector"],
    "text": "model.language_model.embed_tokens",
}
PLACEHOLDERS = {"image": IMAGE}


def llava():
    torch.manual_seed(0)
    config = LlavaConfig(
        text_config=LlamaConfig(**LANGUAGE),
        vision_config=CLIPVisionConfig(**VISION, projection_dim=8),
        image_token_id=IMAGE,
    )
    return LlavaForConditionalGeneration(config)


def llava_batch(samples=4):
    """Four image tokens, a question of three tokens, an answer of one or two, and padding."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 40, (samples, 9), generator=generator)
    ids[:, :4] = IMAGE
    labels = torch.full_like(ids, -100)
    labels[:, 7] = ids[:, 7]
    labels[::2, 8] = ids[::2, 8]
    return {
        "input_ids": ids,
        "pixel_values": torch.randn(samples, 3, 16, 16, generator=generator),
        "attention_mask": torch.ones_like(ids).index_fill(0, torch.arange(1, samples, 2), 1),
        "labels": labels,
    }


def qwen():
    torch.manual_seed(0)
    config = Qwen2VLConfig(
        text_config={**LANGUAGE, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4},
        image_token_id=IMAGE,
        vision_start_token_id=START,
        vision_end_token_id=END,
    )
    return Qwen2VLForConditionalGeneration(config)


def qwen_batch():
    """Images of one, two and no token, so that what the tower returns has no row per sample."""
    generator = torch.Generator().manual_seed(1)
    grid = torch.tensor([[1, 2, 2], [1, 2, 4]])
    ids = torch.randint(1, 40, (3, 8), generator=generator)
    ids[0, :3] = torch.tensor([START, IMAGE, END])
    ids[1, :4] = torch.tensor([START, IMAGE, IMAGE, END])
    labels = torch.where(torch.arange(8) > 5, ids, -100)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == IMAGE).int(),
        "pixel_values": torch.randn(int(grid.prod(1).sum()), 3 * 2 * 4 * 4, generator=generator),
        "image_grid_thw": grid,
        "labels": labels,
    }


def whisper():
    torch.manual_seed(0)
    sizes = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("layers", 1), ("ffn_dim", 32))}
    config = WhisperConfig(
        vocab_size=50,
        d_model=16,
        num_mel_bins=8,
        max_source_positions=10,
        max_target_positions=12,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        dropout=0.0,
        **sizes,
    )
    return WhisperForConditionalGeneration(config)


def whisper_batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, 50, (4, 5), generator=generator)
    labels[1, 3:] = -100
    return {"input_features": torch.randn(4, 8, 20, generator=generator), "labels": labels}


MODELS = {
    "llava": (llava, llava_batch, LLAVA_PATHS, {"task": "causal_lm", "answer_tokens": 2}),
    "qwen2-vl": (
        qwen,
        qwen_batch,
        {"image": "model.visual", "text": "model.language_model.embed_tokens"},
        {"task": "causal_lm", "placeholders": PLACEHOLDERS},
    ),
    "whisper": (
        whisper,
        whisper_batch,
        {"audio": "model.encoder", "text": "model.decoder.embed_tokens"},
        {"task": "seq2seq_lm"},
    ),
}


def wrapped(name):
    build, batch, paths, options = MODELS[name]
    return balance(build(), paths, **options), batch()


def zeroing(model, path, where=None):
    """Lets a module return zeros, where `where (batch,)` is True."""

    def hook(module, args, output):
        keep = 0.0 if where is None else (~where).view(-1, *[1] * (output.dim() - 1)).to(output)
        return output * keep

    return model.get_submodule(path).register_forward_hook(hook)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_the_model_s_own(name):
    model, batch = wrapped(name)
    with torch.no_grad():
        expected = model.model.eval()(**batch)
        found = model.eval()(**batch)
    torch.testing.assert_close(found.loss, expected.loss)
    task = model.task
    torch.testing.assert_close(task.loss(found.logits, batch["labels"]), expected.loss)
    targets = task.targets(batch["labels"])
    aligned = expected.logits[:, : -task.shift or None] if task.longest is None else None
    if aligned is not None:
        torch.testing.assert_close(found.logits, aligned)
    assert found.logits.shape == (*targets.shape, 50)


@pytest.mark.parametrize("name", MODELS)
def test_a_modality_is_scored_by_the_mean_probability_of_the_answer(name):
    """That of the model itself with zeros in the places of the other modality."""
    model, batch = wrapped(name)
    found = model.eval()(**batch)
    scores = model.task.score(found.unimodal_logits["text"], batch["labels"])
    other = "audio" if name == "whisper" else "image"
    with torch.no_grad():
        if name == "llava":
            handle = zeroing(model.model, "model.multi_modal_projector")
        elif name == "qwen2-vl":
            handle = zeroing(model.model, "model.visual.merger")
        else:
            handle = model.model.get_submodule("model.encoder").layer_norm.register_forward_hook(
                lambda module, args, output: 0 * output
            )
        logits = model.model.eval()(**batch).logits
        handle.remove()
    shift = model.task.shift
    expected = []
    for row, labels in zip(logits.softmax(-1), batch["labels"], strict=True):
        places = [place for place, label in enumerate(labels) if label != -100]
        expected.append(torch.stack([row[place - shift, labels[place]] for place in places]).mean())
    torch.testing.assert_close(scores, torch.stack(expected))
    assert list(found.unimodal_logits) == [other, "text"]


def test_images_of_several_sizes_and_none():
    """Zeros are put into a sample's own rows; a sample without an image lacks the modality."""
    model, batch = wrapped("qwen2-vl")
    model.train()
    output = model(**batch, modality_mask=torch.tensor([[True, True], [False, True], [True, True]]))
    assert output.modality_mask.tolist() == [[True, True], [False, True], [False, True]]

    def hook(module, args, output):
        return output * torch.tensor([1.0, 0.0, 0.0]).unsqueeze(1)  # a row of the first sample, two of the second

    handle = model.model.model.visual.merger.register_forward_hook(hook)
    expected = model.model(**batch)
    handle.remove()
    torch.testing.assert_close(output.logits, expected.logits[:, :-1])
    text_only = {key: value[2:] for key, value in batch.items() if not key.startswith(("pixel", "image"))}
    with pytest.raises(ValueError, match=r"No sample of this batch has 'image'"):
        model(**text_only)


def rows_of(batch):
    return Dataset.from_dict({name: value.numpy() for name, value in batch.items()}).with_format("torch")


@pytest.mark.parametrize("name", ["llava", "whisper"])
def test_training_and_evaluation(name, training_args):
    """Every parameter that gets a gradient in the plain model moves; the evaluation keeps tokens, not logits."""
    model, batch = wrapped(name)
    start = {key: value.clone() for key, value in model.model.state_dict().items()}
    plain = MODELS[name][0]()
    plain(**batch).loss.backward()
    args = training_args(modulations={"opm": {}, "ogm": {}}, per_device_train_batch_size=2, max_steps=3)
    data = rows_of(batch)
    trainer = MultimodalBalancedTrainer(
        model, args, train_dataset=data, eval_dataset=data, compute_metrics=language_model_metrics
    )
    trainer.train()
    moved = {key for key, value in model.model.named_parameters() if not torch.equal(value, start[key])}
    assert moved == {key for key, value in plain.named_parameters() if value.grad is not None and value.grad.any()}
    predicted = trainer.predict(data)
    tokens, alone, _, logs = predicted.predictions
    assert tokens.shape == alone["text"].shape == logs["text"].shape == batch["labels"].shape
    metrics = predicted.metrics
    with torch.no_grad():
        expected = model.model.eval()(**batch)
    best = expected.logits.argmax(-1)
    best = best.roll(1, 1) if name == "llava" else best
    labelled = batch["labels"] != -100
    right = (best == batch["labels"])[labelled]
    assert metrics["test_token_accuracy"] == pytest.approx(right.float().mean().item())
    output = model(**batch)
    for modality, logits in output.unimodal_logits.items():
        expected = model.task.loss(logits, batch["labels"]).item()
        assert metrics[f"test_loss_{modality}"] == pytest.approx(expected, rel=1e-5)
    history = [entry for entry in trainer.state.log_history if "balance/score_text" in entry]
    assert all(0 < entry["balance/score_text"] < 1 for entry in history) and history


@pytest.mark.parametrize("name", ["opm", "ogm", "multi_loss", "mod_drop"])
def test_micro_batches_weigh_by_their_tokens(name):
    """Answers are of one to three tokens, and each token counts alike, however the batch is cut."""
    subject = subject_of(name, {})
    whole, cut = (train(subject, Setting("language model", micro_batches=count)) for count in (1, 4))
    for key, value in whole.weights.items():
        torch.testing.assert_close(cut.weights[key], value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["reconboost", "pmr"])
def test_methods_that_compare_classes_are_refused(name):
    with pytest.raises(ValueError, match=rf"\['{name}'\] are defined for one class out of several"):
        train(subject_of(name, {"prototypes": "online"} if name == "pmr" else {}), Setting("language model", steps=1))
    assert check(name, "language model") is not None


def test_weights_that_a_language_model_s_own_loss_does_not_see():
    model = KINDS["language model"].model(("text", "visual"), {})
    batch = KINDS["language model"].data(("text", "visual"), 8, torch.float64)[:8]
    with pytest.raises(ValueError, match="the loss of PlainLanguageModel is its own and does not see it"):
        model(**batch, sample_weight=torch.ones(8))


@pytest.mark.parametrize("labels", [torch.zeros(4, 9), torch.zeros(4, dtype=torch.int64)])
def test_labels_that_are_no_tokens(labels):
    with pytest.raises(ValueError, match=r"Training data: labels must be tokens in \[0, 50\).*is language modeling"):
        checked_batch([], lambda rows: {"labels": labels}, 50, "Training", LanguageModeling(1))


def test_a_step_waits_for_nothing():
    model = KINDS["language model"].model(("text", "visual"), {}).train()
    batch = KINDS["language model"].data(("text", "visual"), 8, torch.float64)[:8]
    model(**batch)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        model(**batch).loss.backward()
    names = {event.key for event in record.key_averages()}
    assert not names & {"aten::_local_scalar_dense", "aten::nonzero"}


def test_a_part_of_a_batch_is_scored_as_it_is_alone():
    data = KINDS["language model"].data(("text", "visual"), 8, torch.float64)[:8]
    whole = KINDS["language model"].model(("text", "visual"), {}).train()
    options = {"num_labels": 11, "task": "causal_lm", "score_fraction": 0.5}
    part = balance(whole.model, {"text": "embed", "visual": "see"}, **options).train()
    expected, found = whole(**data), part(**data)
    rows = found.scored_rows
    assert rows.tolist() == [0, 2, 4, 6]
    scores = part.task.score(found.unimodal_logits["visual"], data["labels"][rows])
    torch.testing.assert_close(scores, whole.task.score(expected.unimodal_logits["visual"], data["labels"])[rows])
    torch.testing.assert_close(found.loss, expected.loss)


def test_the_last_labelled_tokens():
    task = LanguageModeling(shift=1, longest=3)
    labels = torch.tensor([[5, -100, 6, 7], [-100, -100, -100, -100]])
    assert task.targets(labels).tolist() == [[-100, 6, 7], [-100, -100, -100]]
    logits = torch.zeros(2, 4, 9)
    logits[0, 2, 7] = logits[0, 1, 6] = 3.0
    kept = task.predicting(logits, labels)
    assert task.correct(kept, labels).tolist() == [True, False]
    assert task.score(kept, labels)[1] == 0 and task.losses(kept, labels)[1] == 0
    assert task.labelled(labels).tolist() == task.counts(labels).tolist() == [True, False]
    assert task.fits(labels, 7).tolist() == [False, True] and task.fits(labels.float(), 7) is None
    weights = torch.tensor([2.0, 9.0])
    torch.testing.assert_close(task.loss(kept, labels, None, weights), 2 * task.loss(kept, labels))
    assert task.by_place(kept.argmax(-1), labels)[0].tolist()[2:] == [6, 7]


def test_ogm_under_lora_scales_the_tower_s_adapters_alone(tmp_path):
    llava().save_pretrained(tmp_path)
    base = LlavaForConditionalGeneration.from_pretrained(tmp_path)
    config = LoraConfig(target_modules=r".*(vision_tower.*|language_model.*)\.(q_proj|v_proj)")
    model = balance(get_peft_model(base, config), LLAVA_PATHS, task="causal_lm")
    model.train()(**llava_batch()).loss.backward()
    groups = model.parameter_groups(with_head=False)
    scaled = {
        name for name, p in model.named_parameters() if p.grad is not None and any(p is q for q in groups["image"])
    }
    assert scaled and all("vision_tower" in name and ".lora_" in name for name in scaled)
    assert not any(p.requires_grad for p in groups["text"])
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    ogm = OGM(alpha=1.0)
    ogm.bind(("image", "text"))
    scores, ratios = torch.tensor([2.0, 1.0]), torch.tensor([2.0, 0.5])
    ogm.modulate_gradients(Gradients(groups), Step(("image", "text"), scores=scores, ratios=ratios))
    coefficient = gradient_coefficients(ratios, 1.0)[0]
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, before[name] * (coefficient if name in scaled else 1.0))
    with pytest.warns(UserWarning, match=r"ogm has no gradient to change in the 'text' encoder.*use OPM"):
        ogm.warn_if_idle(model.encoders, 1, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "causal"}, "Unknown task 'causal'.*causal_lm"),
        ({"answer_tokens": 3}, r"answer_tokens must be .* of a language model, found 3 with task='classification'"),
        ({"task": "causal_lm", "answer_tokens": 0}, r"at least 1"),
        ({"task": "causal_lm", "placeholders": PLACEHOLDERS, "score_fraction": 0.5}, "with placeholders a sample may"),
        ({"task": "causal_lm", "placeholders": {"images": 3}}, r"placeholders names \['images'\]"),
    ],
)
def test_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        balance(llava(), LLAVA_PATHS, **options)


def test_other_models_are_refused_at_once():
    paths = {
        name: [path.removeprefix("model.") for path in [*paths]]
        for name, paths in LLAVA_PATHS.items()
        if name == "image"
    }
    with pytest.raises(ValueError, match=r"takes no `labels`.*LlavaForConditionalGeneration"):
        balance(llava().model, paths, task="causal_lm")
    with pytest.raises(ValueError, match=r"tokens of `input_ids`, which the forward of WhisperFor.* does not take"):
        balance(whisper(), MODELS["whisper"][2], task="seq2seq_lm", placeholders={"audio": 3})
    with pytest.raises(ValueError, match=r"task='causal_lm' or 'seq2seq_lm' if it predicts tokens"):
        balance(llava(), LLAVA_PATHS, num_labels=50)(**llava_batch())


class Rows(torch.utils.data.Dataset):
    """Not checked before its batches are."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, row):
        return self.data[row]


def changed(**columns):
    return rows_of({**llava_batch(), **columns})


@pytest.mark.parametrize(
    ("options", "columns", "message"),
    [
        ({}, {"labels": torch.full((4, 9), 60)}, r"train_dataset: labels must be tokens in \[0, 50\), or -100 .* 60"),
        ({}, {"labels": torch.full((4, 9), 3)}, r"train_dataset: row 0 has 9 labelled tokens.*answer_tokens=2"),
        ({}, {"labels": torch.full((4, 9), -100)}, r"every label of row 0 is -100.*max_length"),
        ({"label_smoothing_factor": 0.1}, {}, r"smooths one class out of several, but the model's task is language"),
    ],
)
def test_refused_in_training(training_args, options, columns, message):
    model = balance(llava(), LLAVA_PATHS, **MODELS["llava"][3])
    with pytest.raises(ValueError, match=message):
        MultimodalBalancedTrainer(model, training_args(**options), train_dataset=changed(**columns))
    if columns:
        trainer = MultimodalBalancedTrainer(model, training_args(), train_dataset=Rows(changed(**columns)))
        with pytest.raises(ValueError, match=message.replace("train_dataset", "Training data")):
            trainer.train()
