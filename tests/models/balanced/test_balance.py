"""`balance()` on architectures of transformers, randomly initialised, and on plain modules."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaModel,
    SiglipConfig,
    SiglipModel,
    ViltConfig,
    ViltModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
)

from hf_bml import MultimodalBalancedTrainer, balance
from hf_bml.metrics import classification_metrics

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGE = {"image_size": 16, "patch_size": 8}
TEXT = {"vocab_size": 50, "max_position_embeddings": 12}


class DualClassifier(nn.Module):
    """A classifier on the pooled outputs of a dual encoder."""

    def __init__(self, encoders: nn.Module, width: int = 16):
        super().__init__()
        self.encoders = encoders
        self.classifier = nn.Linear(2 * width, 3)

    def forward(self, pixel_values, input_ids):
        image = self.encoders.vision_model(pixel_values=pixel_values).pooler_output
        text = self.encoders.text_model(input_ids=input_ids).pooler_output
        return {"logits": self.classifier(torch.cat([image, text], dim=-1))}


class SingleStream(nn.Module):
    """ViLT: the embeddings of words and patches meet in one transformer."""

    def __init__(self):
        super().__init__()
        self.vilt = ViltModel(ViltConfig(**SMALL, **IMAGE, **TEXT, hidden_dropout_prob=0.0, max_image_length=4))
        self.classifier = nn.Linear(16, 3)

    def forward(self, pixel_values, input_ids):
        output = self.vilt(pixel_values=pixel_values, input_ids=input_ids)
        return {"logits": self.classifier(output.pooler_output)}


class LanguageModelWithImages(nn.Module):
    """LLaVA-style: image features are put in front of the token embeddings of a language model."""

    def __init__(self):
        super().__init__()
        from transformers import LlamaModel

        self.vision_tower = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 16))
        self.language_model = LlamaModel(LlamaConfig(**SMALL, vocab_size=50))
        self.score = nn.Linear(16, 3)

    def forward(self, pixel_values, input_ids):
        words = self.language_model.get_input_embeddings()(input_ids)
        embeddings = torch.cat([self.vision_tower(pixel_values).unsqueeze(1), words], dim=1)
        hidden = self.language_model(inputs_embeds=embeddings).last_hidden_state
        return {"logits": self.score(hidden[:, -1])}


class Llava(nn.Module):
    """transformers' own LLaVA, which changes the output of its vision tower."""

    def __init__(self):
        super().__init__()
        text, vision = LlamaConfig(**SMALL, vocab_size=50), CLIPVisionConfig(**SMALL, **IMAGE)
        self.llava = LlavaModel(LlavaConfig(text_config=text, vision_config=vision, image_token_id=49))
        self.score = nn.Linear(16, 3)

    def forward(self, pixel_values, input_ids):
        places = input_ids.new_full((len(input_ids), 4), 49)  # one a patch
        output = self.llava(input_ids=torch.cat([places, input_ids], dim=1), pixel_values=pixel_values)
        return {"logits": self.score(output.last_hidden_state[:, -1])}


class Plain(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.see, self.read, self.join = nn.Linear(4, 8), nn.Linear(3, 8), join
        self.head = nn.Linear(8, 3)

    def forward(self, image, text):
        return self.head(self.join(self.see(image), self.read(text)))


def clip():
    text = {**SMALL, **TEXT, "eos_token_id": 49}
    return CLIPModel(CLIPConfig(text_config=text, vision_config={**SMALL, **IMAGE}, projection_dim=8))


def siglip():
    return SiglipModel(SiglipConfig(text_config={**SMALL, **TEXT}, vision_config={**SMALL, **IMAGE}))


def dual():
    vision = ViTConfig(**SMALL, **IMAGE)
    return VisionTextDualEncoderModel(
        VisionTextDualEncoderConfig.from_vision_text_configs(
            vision,
            BertConfig(**SMALL, **TEXT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
            projection_dim=8,
        )
    )


ARCHITECTURES = {
    "clip": (lambda: DualClassifier(clip()), {"image": "encoders.vision_model", "text": "encoders.text_model"}),
    "siglip": (lambda: DualClassifier(siglip()), {"image": "encoders.vision_model", "text": "encoders.text_model"}),
    "vit+bert": (lambda: DualClassifier(dual()), {"image": "encoders.vision_model", "text": "encoders.text_model"}),
    "vilt": (
        SingleStream,
        {"image": "vilt.embeddings.patch_embeddings", "text": "vilt.embeddings.text_embeddings"},
    ),
    "llava-style": (
        LanguageModelWithImages,
        {"image": "vision_tower", "text": "language_model.embed_tokens"},
    ),
    "llava": (Llava, {"image": "llava.vision_tower", "text": "llava.language_model.embed_tokens"}),
}


def batch(samples=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(samples, 3, 16, 16, generator=generator),
        "input_ids": torch.randint(1, 48, (samples, 6), generator=generator),
    }


def build(name):
    torch.manual_seed(0)
    model, paths = ARCHITECTURES[name]
    return balance(model(), paths, num_labels=3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_modulation_it_predicts_what_the_model_predicts(name):
    model, inputs = build(name).eval(), batch()
    with torch.no_grad():
        output = model(**inputs, labels=torch.tensor([0, 1, 2, 0]))
        expected = model.model(**inputs)["logits"]
    torch.testing.assert_close(output.logits, expected)
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(expected, torch.tensor([0, 1, 2, 0])))
    assert output.keep_mask.all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_unimodal_prediction_depends_on_its_modality_alone(name):
    model = build(name).eval()
    with torch.no_grad():
        base = model(**batch()).unimodal_logits
        other_image = model(**{**batch(), "pixel_values": batch(seed=1)["pixel_values"]}).unimodal_logits
        other_text = model(**{**batch(), "input_ids": batch(seed=1)["input_ids"]}).unimodal_logits
    torch.testing.assert_close(base["text"], other_image["text"])
    torch.testing.assert_close(base["image"], other_text["image"])
    assert not torch.allclose(base["image"], other_image["image"])
    assert not torch.allclose(base["text"], other_text["text"])


class Keep:
    """Stands in for the trainer's modulations: keeps what a fixed mask says."""

    def __init__(self, mask):
        self.mask = mask

    def keep_modalities(self, view):
        return self.mask

    def modulate_features(self, features, keep_mask):
        self.seen = features
        return features

    def forward_losses(self, features):
        return {}


@pytest.mark.parametrize("name", ["clip", "vit+bert", "llava-style", "llava"])
def test_a_dropped_modality_has_no_part_in_prediction_and_gradient(name):
    model, mask = build(name), torch.tensor([[False, True], [True, True], [True, False], [False, True]])
    model(**batch())  # the structure is checked once
    output = model(**batch(), labels=torch.tensor([0, 1, 2, 0]), modulation=Keep(mask))
    assert torch.equal(output.keep_mask, mask)
    alone = model.eval()(**batch()).unimodal_logits
    torch.testing.assert_close(output.logits[[0, 3]], alone["text"][[0, 3]])
    torch.testing.assert_close(output.logits[2], alone["image"][2])
    only_first = model.train()(**batch(), labels=torch.tensor([0, 1, 2, 0]), modulation=Keep(mask))
    model.zero_grad()
    only_first.logits[[0, 3]].sum().backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in model.encoders["image"].parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_trains_with_opm_and_ogm(training_args, name):
    model = build(name)
    inputs = batch(samples=16)
    rows = {key: value.numpy() for key, value in inputs.items()}
    dataset = Dataset.from_dict({**rows, "labels": [i % 3 for i in range(16)]}).with_format("torch")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    args = training_args(modulations={"opm": {}, "ogm": {"noise": "entry_std"}}, max_steps=4, learning_rate=0.05)
    trainer = MultimodalBalancedTrainer(model, args, train_dataset=dataset)
    trainer.train()
    for modality in ("image", "text"):
        assert f"ogm/coefficient_{modality}" in trainer.state.log_history[0]
        for path in model.paths[modality]:
            moved = [key for key in before if key.startswith(f"model.{path}.") and before[key].is_floating_point()]
            assert any(not torch.equal(before[key], model.state_dict()[key]) for key in moved), modality
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_zero_out_by_hand():
    """head(see(image) + read(text)) with one summand zero."""
    torch.manual_seed(0)
    plain = Plain(torch.add)
    model = balance(plain, {"image": "see", "text": "read"}, logits=lambda output: output, num_labels=3)
    image, text = torch.randn(4, 4), torch.randn(4, 3)
    output = model(image=image, text=text)
    torch.testing.assert_close(output.unimodal_logits["image"], plain.head(plain.see(image)).detach())
    torch.testing.assert_close(output.unimodal_logits["text"], plain.head(plain.read(text)).detach())
    mask = torch.tensor([[True, True], [False, True], [True, False], [True, True]])
    masked = model(image=image, text=text, modality_mask=mask)
    torch.testing.assert_close(masked.logits[1], plain.head(plain.read(text))[1])
    torch.testing.assert_close(masked.logits[2], plain.head(plain.see(image))[2])


def test_a_model_that_changes_its_encoders_outputs_in_place():
    torch.manual_seed(0)
    changing, unchanging = plain(torch.Tensor.add_), plain(torch.add)
    image, text = torch.randn(4, 4), torch.randn(4, 3)
    keep = Keep(torch.tensor([[True, True], [False, True], [True, False], [True, True]]))
    for model in (changing, unchanging):
        model(image=image, text=text, labels=torch.tensor([0, 1, 2, 0]), modulation=keep).loss.backward()
    found, expected = (model(image=image, text=text, modulation=keep) for model in (changing, unchanging))
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.unimodal_logits, expected.unimodal_logits)
    for one, other in zip(changing.parameters(), unchanging.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_the_models_own_loss_and_columns_are_used(training_args):
    class WithLoss(Plain):
        def forward(self, image, text, labels=None):
            logits = super().forward(image, text)
            loss = None if labels is None else 2 * nn.functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}

    model = balance(WithLoss(torch.add), {"image": "see", "text": "read"}, num_labels=3)
    labels = torch.tensor([0, 1])
    output = model(image=torch.randn(2, 4), text=torch.randn(2, 3), labels=labels)
    torch.testing.assert_close(output.loss, 2 * nn.functional.cross_entropy(output.logits, labels))
    assert model.input_columns == model.required_columns == ["image", "text"]
    dataset = Dataset.from_dict({"image": torch.randn(4, 4).numpy(), "labels": [0, 1, 2, 0]})
    with pytest.raises(ValueError, match=r"lacks the columns \['text'\]"):
        MultimodalBalancedTrainer(model, training_args(), train_dataset=dataset)


def test_several_modules_are_one_encoder():
    model = Plain(torch.add)
    model.see = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 8))
    wrapped = balance(model, {"image": ["see.0", "see.1"], "text": "read"}, logits=lambda o: o, num_labels=3)
    assert len(list(wrapped.encoders["image"].parameters())) == 4
    image = torch.randn(2, 4)
    output = wrapped(image=image, text=torch.randn(2, 3))
    torch.testing.assert_close(output.unimodal_logits["image"], model.head(model.see(image)).detach())


@pytest.mark.parametrize(
    ("modalities", "options", "message"),
    [
        ({"image": "sea", "text": "read"}, {"num_labels": 3}, "no module 'sea' .* Did you mean 'see'"),
        ({"image": "see", "text": "see"}, {"num_labels": 3}, "are one module"),
        ({"image": "see"}, {}, "pass num_labels"),
        ({}, {"num_labels": 3}, "at least one encoder"),
        ({"image": "see"}, {"num_labels": 3, "features": {"text": "x"}}, "features names"),
        ({"labels": "see"}, {"num_labels": 3}, "cannot be the name of a modality"),
        ({"image": "see"}, {"num_labels": 1}, "at least 2, found 1: .* single class is always 1"),
        ({"image": "see"}, {"num_labels": 0}, "at least 2, found 0"),
    ],
)
def test_errors_at_construction(modalities, options, message):
    with pytest.raises(ValueError, match=message):
        balance(Plain(torch.add), modalities, **options)


@pytest.mark.parametrize(
    ("join", "message"),
    [
        (torch.mul, "purely multiplicative"),
        (lambda see, read: see + 0 * read, "does not change without the output of 'text'"),
        (lambda see, read: see / see.norm(dim=-1, keepdim=True) + read, "NaN or infinity"),
    ],
)
def test_structures_that_have_no_score(join, message):
    model = balance(Plain(join), {"image": "see", "text": "read"}, logits=lambda output: output, num_labels=3)
    with pytest.raises(ValueError, match=message):
        model(image=torch.randn(4, 4), text=torch.randn(4, 3))


class Gated(nn.Module):
    """Flamingo-style: what is read comes in through a gate that is closed at first."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, see, read):
        return see + torch.tanh(self.gate) * read


def zero_head(model):
    nn.init.zeros_(model.head.weight)


def tiny_head(model):
    nn.init.normal_(model.head.weight, std=1e-8)


def closed_gate(model):
    model.join = Gated()


@pytest.mark.parametrize("change", [zero_head, tiny_head, closed_gate])
@pytest.mark.parametrize("training", [True, False])
def test_fresh_weights_that_tell_nothing_are_no_fault(change, training):
    """They stay as they are, bitwise, and are trained."""
    model = plain().train(training)
    change(model.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    image, text = torch.randn(4, 4), torch.randn(4, 3)
    expected = torch.get_rng_state()
    torch.set_rng_state(state)
    output = model(image=torch.randn(4, 4), text=torch.randn(4, 3), labels=torch.tensor([0, 1, 2, 0]))
    assert torch.equal(torch.get_rng_state(), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(output.logits, model.model(image, text))
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.model.head.parameters())


@pytest.mark.parametrize("change", [zero_head, tiny_head])
def test_fresh_weights_hide_no_fault(change):
    torch.manual_seed(0)
    inner = TimeFirst(lambda output: output.mean(0))
    change(inner)
    model = balance(inner, {"sound": "listen", "text": "read"}, num_labels=3)
    with pytest.raises(ValueError, match="in front"):
        model(sound=torch.randn(4, 8, 4), text=torch.randn(4, 3))
    useless = plain(lambda see, read: see + 0 * read)
    change(useless.model)
    with pytest.raises(ValueError, match="does not change without the output of 'text'"):
        useless(image=torch.randn(4, 4), text=torch.randn(4, 3))


def test_what_runs_before_an_encoder_learns_with_a_head_of_zeros():
    torch.manual_seed(0)
    model = balance(Noisy(), {"image": "see", "text": "read"}, logits=lambda output: output, num_labels=3)
    tiny_head(model.model)
    output = model(image=torch.randn(4, 4), text=torch.randn(4, 3), labels=torch.tensor([0, 1, 2, 0]))
    output.loss.backward()
    assert model.model.stem.weight.grad is not None


def test_a_language_model_that_is_fed_images_is_no_encoder_of_text():
    model = balance(LanguageModelWithImages(), {"image": "vision_tower", "text": "language_model"}, num_labels=3)
    with pytest.raises(ValueError, match="'text', language_model, depends on the output of 'image'"):
        model(**batch())


def test_an_encoder_that_is_not_called():
    plain = Plain(torch.add)
    plain.spare = nn.Linear(1, 1)
    model = balance(plain, {"image": "see", "text": "spare"}, logits=lambda output: output, num_labels=3)
    with pytest.raises(ValueError, match="spare, is not called"):
        model(image=torch.randn(4, 4), text=torch.randn(4, 3))


def test_saves_the_wrapped_model(tmp_path):
    torch.manual_seed(0)
    model = balance(clip(), {"image": "vision_model", "text": "text_model"}, logits="logits_per_image", num_labels=4)
    model.save_pretrained(tmp_path)
    loaded = CLIPModel.from_pretrained(tmp_path)
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_modules_that_run_one_after_the_other():
    """The projection gets a field of the vision model's output, which must be there when neither runs again."""

    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.clip, self.classifier = clip(), nn.Linear(16, 3)

        def forward(self, pixel_values, input_ids):
            image = self.clip.visual_projection(self.clip.vision_model(pixel_values=pixel_values).pooler_output)
            text = self.clip.text_projection(self.clip.text_model(input_ids=input_ids).pooler_output)
            return {"logits": self.classifier(torch.cat([image, text], dim=-1))}

    torch.manual_seed(0)
    paths = {
        "image": ["clip.vision_model", "clip.visual_projection"],
        "text": ["clip.text_model", "clip.text_projection"],
    }
    model = balance(Projected(), paths, num_labels=3)
    keep = torch.tensor([[True, False], *[[True, True]] * 3])
    output = model(**batch(), labels=torch.tensor([0, 1, 2, 0]), modulation=Keep(keep))
    inner = model.model
    pooled = inner.clip.vision_model(pixel_values=batch()["pixel_values"]).pooler_output
    image = inner.clip.visual_projection(pooled)
    alone = inner.classifier(torch.cat([image, torch.zeros(4, 8)], dim=-1))
    torch.testing.assert_close(output.unimodal_logits["image"], alone.detach())
    torch.testing.assert_close(output.logits[0], alone[0])
    output.loss.backward()
    for path in (path for owned in paths.values() for path in owned):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in inner.get_submodule(path).parameters()), path


class Noisy(Plain):
    """A fusion with BatchNorm and dropout, and an encoder with BatchNorm."""

    def __init__(self):
        super().__init__(torch.add)
        self.see = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.stem = nn.BatchNorm1d(3)
        self.norm, self.dropout = nn.BatchNorm1d(8, momentum=1.0), nn.Dropout(0.5)

    def forward(self, image, text):
        joint = self.norm(self.see(image) + self.read(self.stem(text)))
        return self.head(self.dropout(joint))


def noisy_step(modulation=None, mask=None):
    torch.manual_seed(0)
    model = balance(Noisy(), {"image": "see", "text": "read"}, logits=lambda output: output, num_labels=3)
    inputs = {"image": torch.randn(4, 4), "text": torch.randn(4, 3)}
    model(**inputs)  # the structure is checked once
    before = {name: buffer.clone() for name, buffer in model.model.named_buffers()}
    torch.manual_seed(1)
    output = model(**inputs, labels=torch.tensor([0, 1, 2, 0]), modulation=modulation, modality_mask=mask)
    output.loss.backward()
    return model.model, inputs, output, before


@pytest.mark.parametrize("drops", [False, True])
def test_a_step_counts_once_and_with_the_features_that_the_fusion_sees(drops):
    keep = torch.tensor([[not drops, True], *[[True, True]] * 3])
    inner, inputs, _, before = noisy_step(Keep(keep))
    for name, buffer in before.items():
        if name.endswith("num_batches_tracked"):
            assert inner.get_buffer(name) == buffer + 1, name
    with torch.no_grad():  # momentum 1: the running mean is that of the last batch
        features = torch.where(keep[:, :1], inner.see(inputs["image"]), 0.0) + inner.read(inner.stem(inputs["text"]))
    torch.testing.assert_close(inner.norm.running_mean, features.mean(0))


def test_a_modulation_that_does_nothing_changes_nothing():
    """Bitwise: the same dropout, statistics and gradients as without a modulation, and with a mask of ones."""
    everything = torch.ones(4, 2, dtype=torch.bool)
    expected, _, output, _ = noisy_step()
    for arguments in ({"modulation": Keep(everything)}, {"mask": everything}):
        inner, _, same, _ = noisy_step(**arguments)
        assert torch.equal(same.logits, output.logits)
        assert all(torch.equal(a, b) for a, b in zip(inner.buffers(), expected.buffers(), strict=True))
        for (name, one), other in zip(inner.named_parameters(), expected.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad), name


def test_what_runs_before_an_encoder_learns():
    inner, *_ = noisy_step(Keep(torch.ones(4, 2, dtype=torch.bool)))
    assert inner.stem.weight.grad.abs().sum() > 0


def plain(join=torch.add, **options):
    torch.manual_seed(0)
    paths = {"image": "see", "text": "read"}
    return balance(Plain(join), paths, logits=lambda output: output, num_labels=3, **options)


class TimeFirst(nn.Module):
    """A recurrent encoder whose output is (time, batch, dim), read out by `pick`."""

    def __init__(self, pick):
        super().__init__()
        self.rnn, self.listen, self.read = nn.RNN(4, 8), nn.Identity(), nn.Linear(3, 8)
        self.pick, self.head = pick, nn.Linear(8, 3)

    def forward(self, sound, text):
        heard = self.listen(self.rnn(sound.transpose(0, 1))[0])
        return {"logits": self.head(self.pick(heard) + self.read(text))}


@pytest.mark.parametrize("pick", [lambda output: output.mean(0), lambda output: output[0], lambda output: output[-1]])
@pytest.mark.parametrize("time", [4, 8])
def test_an_encoder_without_the_batch_in_front_is_refused(pick, time):
    """Time is a multiple of the batch, so the shape alone does not tell."""
    torch.manual_seed(0)
    model = balance(TimeFirst(pick), {"sound": "listen", "text": "read"}, num_labels=3)
    model(sound=torch.randn(1, time, 4), text=torch.randn(1, 3))  # of one sample all rows are its own
    with pytest.raises(ValueError, match=rf"'sound' .* batch of 4.* of listen, of shape \({time}, 4, 8\).* in front"):
        model(sound=torch.randn(4, time, 4), text=torch.randn(4, 3))


def test_batches_of_one_sample_cost_no_check_each():
    model, calls = plain(), []
    inputs = {"image": torch.randn(1, 4), "text": torch.randn(1, 3)}
    model(**inputs)
    model.model.head.register_forward_hook(lambda *_: calls.append(1))
    model(**inputs)
    assert len(calls) == 3  # each modality alone, and what counts


def test_an_output_without_a_row_a_sample_is_refused():
    model = balance(TimeFirst(lambda output: output[0]), {"sound": "listen", "text": "read"}, num_labels=3)
    message = r"'sound', listen: .* row per sample, found shape \(3, 4, 8\) for a batch of 4"
    with pytest.raises(ValueError, match=message):
        model(sound=torch.randn(4, 3, 4), text=torch.randn(4, 3))


class Recurrent(nn.Module):
    """What `pick` makes of all that a recurrent layer returns."""

    def __init__(self, layer, pick=lambda returned: returned[0][:, -1]):
        super().__init__()
        self.rnn, self.read, self.head = layer(4, 8, batch_first=True), nn.Linear(3, 8), nn.Linear(8, 3)
        self.pick = pick

    def forward(self, sound, text):
        return {"logits": self.head(self.pick(self.rnn(sound)) + self.read(text))}


SOUND = {"sound": "rnn", "text": "read"}


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_is_an_encoder_by_its_outputs(layer):
    torch.manual_seed(0)
    inner = Recurrent(layer)
    model = balance(inner, SOUND, features={"sound": 0}, num_labels=3)
    sound, text = torch.randn(4, 5, 4), torch.randn(4, 3)
    keep = Keep(torch.tensor([[False, True], *[[True, True]] * 3]))
    output = model(sound=sound, text=text, labels=torch.tensor([0, 1, 2, 0]), modulation=keep)
    torch.testing.assert_close(output.unimodal_logits["sound"], inner.head(inner.rnn(sound)[0][:, -1]).detach())
    torch.testing.assert_close(output.logits[0], inner.head(inner.read(text[0])))
    torch.testing.assert_close(output.logits[1:], inner(sound, text)["logits"][1:])
    assert keep.seen["sound"].shape == (4, 5, 8)
    output.loss.backward()
    assert inner.rnn.weight_ih_l0.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("pick", "options", "message"),
    [
        (lambda returned: returned[0][:, -1], {}, r"recurrent .* features=\{'sound': 0\}.*\[1\]\[0\]\[-1\]"),
        (lambda returned: returned[1][0][-1], {"features": {"sound": 0}}, "does not change without the output"),
        (lambda returned: returned[0][:, -1] + returned[1][1][-1], {"features": {"sound": 0}}, "other parts of it"),
        (lambda returned: returned[0][:, -1], {"features": {"sound": 1}}, r"tensor at 1, found a tuple of .*'tuple'"),
        (lambda returned: returned[0][:, -1], {"features": {"text": 0}}, "recurrent"),
    ],
)
def test_parts_of_a_recurrent_layer_that_are_refused(pick, options, message):
    torch.manual_seed(0)
    model = balance(Recurrent(nn.LSTM, pick), SOUND, num_labels=3, **options)
    with pytest.raises(ValueError, match=message):
        model(sound=torch.randn(4, 5, 4), text=torch.randn(4, 3))


def test_several_rows_a_sample_are_no_mistake():
    """Frames folded into the batch, sample by sample: (batch * frames, dim)."""

    class Frames(Plain):
        def forward(self, image, text):
            seen = self.see(image.flatten(0, 1)).unflatten(0, image.shape[:2]).mean(1)
            return self.head(seen + self.read(text))

    torch.manual_seed(0)
    inner = Frames(None)
    model = balance(inner, {"image": "see", "text": "read"}, logits=lambda output: output, num_labels=3)
    image, text, mask = torch.randn(4, 2, 4), torch.randn(4, 3), torch.tensor([[False, True], *[[True, True]] * 3])
    output = model(image=image, text=text, modality_mask=mask)
    torch.testing.assert_close(output.logits[0], inner.head(inner.read(text[0])))
    torch.testing.assert_close(output.logits[1:], inner(image, text)[1:])


def test_evaluates_batches_that_lack_modalities(training_args):
    mask = [[True, True], [False, True], [True, False], [True, True]]
    columns = {"image": torch.randn(4, 4).numpy(), "text": torch.randn(4, 3).numpy()}
    dataset = Dataset.from_dict({**columns, "modality_mask": mask, "labels": [0, 1, 2, 0]}).with_format("torch")
    trainer = MultimodalBalancedTrainer(
        plain(), training_args(), eval_dataset=dataset, compute_metrics=classification_metrics
    )
    metrics = trainer.evaluate()
    assert {"eval_accuracy", "eval_accuracy_image", "eval_accuracy_text"} <= metrics.keys()


def test_with_torch_compile_it_trains_as_without(training_args):
    """It runs uncompiled, which a warning says."""
    columns = {"image": torch.randn(8, 4).numpy(), "text": torch.randn(8, 3).numpy()}
    dataset = Dataset.from_dict({**columns, "labels": [i % 3 for i in range(8)]}).with_format("torch")
    trained = []
    for options in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}):
        args = training_args(modulations={"opm": {}, "ogm": {}}, max_steps=3, **options)
        with pytest.warns(UserWarning, match="torch_compile has no effect") if options else nullcontext():
            trainer = MultimodalBalancedTrainer(plain(), args, train_dataset=dataset, eval_dataset=dataset)
        trainer.train()
        trainer.evaluate()
        trained.append(trainer.model.model)
    for name, value in trained[0].state_dict().items():
        assert torch.equal(value, trained[1].state_dict()[name]), name
