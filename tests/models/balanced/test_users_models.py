"""`balance()` and the trainer on models as users write and wrap them: each trains, or gets one clear error."""

from __future__ import annotations

import functools
from collections import UserDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import VisualBertConfig, VisualBertForVisualReasoning
from transformers.utils import ModelOutput

from hf_bml import MultimodalBalancedTrainer, balance

PATHS = {"image": "see", "text": "read"}
LABELS = torch.tensor([0, 1, 2, 0])


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.see, self.read, self.head = nn.Linear(4, 8), nn.Linear(3, 8), nn.Linear(8, 3)

    def predict(self, image, text):
        return self.head(self.see(image) + self.read(text))

    def forward(self, image, text):
        return {"logits": self.predict(image, text)}


def inputs():
    generator = torch.Generator().manual_seed(1)
    return {"image": torch.randn(4, 4, generator=generator), "text": torch.randn(4, 3, generator=generator)}


def expected_logits():
    return Model().predict(**inputs())


def wrap(model, **options):
    return balance(model, PATHS, num_labels=3, **options)


def dataset():
    rows = {name: value.numpy() for name, value in inputs().items()}
    return Dataset.from_dict({**rows, "labels": LABELS}).with_format("torch")


def evaluated(model, args):
    return MultimodalBalancedTrainer(model, args, eval_dataset=dataset()).evaluate()["eval_loss"]


# What the forward takes


class Anything(Model):
    def forward(self, *args, **kwargs):
        return {"logits": self.predict(*args, **kwargs)}


class Decorated(Model):
    @functools.wraps(Model.forward)
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


class Hooked(Model):
    """As accelerate's hooks leave a model: its forward, and that of an encoder, is another function."""

    def __init__(self):
        super().__init__()
        add_hook_to_module(self, ModelHook())
        add_hook_to_module(self.see, ModelHook())


class KeywordOnly(Model):
    def forward(self, image, *, text=None):
        return super().forward(image, text)


def adapted():
    return get_peft_model(Model(), LoraConfig(target_modules=["see"]))


def test_paths_inside_a_peft_model():
    """With or without what PEFT puts in front."""
    full = balance(adapted(), {name: f"base_model.model.{path}" for name, path in PATHS.items()}, num_labels=3)
    torch.testing.assert_close(full(**inputs()).unimodal_logits, wrap(adapted())(**inputs()).unimodal_logits)


@pytest.mark.parametrize(
    ("build", "columns", "required"),
    [
        (Anything, [], []),
        (Decorated, ["image", "text"], ["image", "text"]),
        (Hooked, ["image", "text"], ["image", "text"]),
        (KeywordOnly, ["image", "text"], ["image"]),
        (adapted, ["image", "text"], ["image", "text"]),
    ],
)
def test_columns_are_what_the_forward_names(training_args, build, columns, required):
    model = wrap(build())
    assert (model.input_columns, model.required_columns) == (columns, required)
    args = training_args(modulations={"opm": {}, "ogm": {}}, per_device_train_batch_size=4, max_steps=2)
    trainer = MultimodalBalancedTrainer(model, args, train_dataset=dataset())
    trainer.train()
    assert not torch.equal(trainer.model(**inputs()).logits, expected_logits())
    if not columns:
        args.remove_unused_columns = True
        with pytest.raises(ValueError, match=r"remove_unused_columns: true .* its forward takes any"):
            trainer.train()


class PositionOnly(Model):
    def forward(self, image, /, text):
        return super().forward(image, text)


class OtherLabel(Model):
    def forward(self, image, text, label=None):
        return super().forward(image, text)


class OwnMask(Model):
    def forward(self, image, text, modality_mask=None):
        return super().forward(image, text)


class Nested(Model):
    def __init__(self):
        super().__init__()
        self.see = nn.Sequential(self.see)
        self.first = self.see[0]


class Shared(Model):
    def __init__(self):
        super().__init__()
        self.again = self.see


def scripted_encoder():
    model = Model()
    model.see = torch.jit.script(model.see)
    return model


@pytest.mark.parametrize(
    ("build", "paths", "message"),
    [
        (PositionOnly, PATHS, "PositionOnly takes 'image' by position only.*`/`"),
        (OtherLabel, PATHS, "takes 'label', but a batch has `labels`"),
        (OwnMask, PATHS, "takes 'modality_mask', which balance.. keeps for itself"),
        (Nested, {"image": "see", "text": "see.0"}, "'see.0' of 'text' lies inside 'see' of 'image'"),
        (Nested, {"image": "see", "text": "first"}, "'first' of 'text' lies inside 'see' of 'image'"),
        (Shared, {"image": "see", "text": "again"}, "'see' of 'image' and 'again' of 'text' are one module.*Identity"),
        (lambda: nn.DataParallel(Model()), PATHS, "expected the model itself, found it inside DataParallel"),
        (
            lambda: torch.compile(Model(), backend="eager"),
            PATHS,
            "found it inside OptimizedModule.*torch_compile",
        ),
        (lambda: torch.jit.script(Model()), PATHS, "found the TorchScript model"),
        (scripted_encoder, PATHS, "encoder of 'image', see, is a TorchScript module"),
        (lambda: wrap(Model()), PATHS, "in balance.. already"),
    ],
)
def test_models_that_are_refused_at_once(build, paths, message):
    with pytest.raises(ValueError, match=message):
        balance(build(), paths, num_labels=3)


def test_a_config_that_is_not_of_transformers(training_args):
    model = Model()
    model.config = {"num_labels": 3}
    assert evaluated(wrap(model), training_args()) > 0


# What the forward returns


class Named(NamedTuple):
    loss: torch.Tensor | None
    logits: torch.Tensor


@dataclass
class Record:
    loss: torch.Tensor | None
    logits: torch.Tensor


@dataclass
class Output(ModelOutput):
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class Returning(Model):
    """Returns what `pack` makes of its own loss, twice the cross-entropy, and the logits."""

    def __init__(self, pack):
        super().__init__()
        self.pack = pack

    def forward(self, image, text, labels=None):
        logits = self.predict(image, text)
        return self.pack(None if labels is None else 2 * nn.functional.cross_entropy(logits, labels), logits)


@pytest.mark.parametrize(
    ("pack", "factor"),
    [
        (lambda loss, logits: logits, 1),  # as the tutorials' models, whose labels are for other uses
        (lambda loss, logits: (logits,), 1),
        (lambda loss, logits: [logits, logits.mean(0)], 1),
        (lambda loss, logits: {"loss": None, "logits": logits}, 1),
        (lambda loss, logits: {"logits": logits}, 1),
        (lambda loss, logits: {"loss": loss, "logits": logits}, 2),
        (lambda loss, logits: (logits,) if loss is None else (loss, logits), 2),
        (Named, 2),
        (Record, 2),
        (Output, 2),
        (lambda loss, logits: Output(None if loss is None else loss.reshape(1), logits), 2),
    ],
)
def test_only_a_loss_is_reported_as_loss(training_args, pack, factor):
    """The cross-entropy where the model returns none of its own."""
    expected = factor * nn.functional.cross_entropy(expected_logits(), LABELS).item()
    assert evaluated(wrap(Returning(pack)), training_args()) == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_a_scalar():
    model = wrap(Returning(lambda loss, logits: {"loss": logits.mean(1), "logits": logits}))
    with pytest.raises(ValueError, match=r"a scalar tensor, found shape \(4,\). Return its mean over the batch"):
        model(**inputs(), labels=LABELS)


@pytest.mark.parametrize(
    ("pack", "found"), [(lambda loss, logits: logits, r"\(3,\)"), (lambda loss, logits: (logits,), r"\(4, 3\)")]
)
def test_a_model_with_encoders_of_its_own_that_returns_no_loss(training_args, pack, found):
    model = Returning(pack)
    model.encoders, model.num_labels = nn.ModuleDict({"image": model.see, "text": model.read}), 3
    with pytest.raises(ValueError, match=f"expected a scalar loss from the model, found shape {found}.*balance"):
        evaluated(model, training_args())


@pytest.mark.parametrize("return_dict", [True, False])
def test_a_transformers_model_with_and_without_return_dict(return_dict):
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = VisualBertConfig(**small, vocab_size=20, visual_embedding_dim=6, num_labels=3, return_dict=return_dict)
    parts = "visual_bert.embeddings"
    paths = {"image": f"{parts}.visual_projection", "text": f"{parts}.word_embeddings"}
    inner = VisualBertForVisualReasoning(config).eval()
    batch = {"visual_embeds": torch.randn(4, 2, 6), "input_ids": torch.randint(1, 19, (4, 5)), "labels": LABELS}
    output = balance(inner, paths).eval()(**batch)
    expected = inner(**batch, return_dict=True)
    torch.testing.assert_close((output.loss, output.logits), (expected.loss, expected.logits))


# What the encoders return


@dataclass(frozen=True)
class Feature:
    pooled: torch.Tensor
    rest: dict


class NamedFeature(NamedTuple):
    pooled: torch.Tensor


class Encoder(nn.Module):
    def __init__(self, linear, pack):
        super().__init__()
        self.linear, self.pack = linear, pack

    def forward(self, values):
        return self.pack(self.linear(values))


class Packing(Model):
    """An encoder whose output is packed by `pack` and unpacked by `unpack`."""

    def __init__(self, pack, unpack):
        super().__init__()
        self.see, self.unpack = Encoder(self.see, pack), unpack

    def predict(self, image, text):
        return self.head(self.unpack(self.see(image)) + self.read(text))


def apart(pack, unpack, **options):
    """Outputs of the packing model and of the plain one, in which the text of one sample is missing."""
    mask = torch.tensor([[True, True], [False, True], [True, False], [True, True]])
    return [model(**inputs(), modality_mask=mask) for model in (wrap(Packing(pack, unpack), **options), wrap(Model()))]


@pytest.mark.parametrize(
    ("pack", "unpack", "field"),
    [
        (lambda x: Feature(x, {"deep": [x]}), lambda o: (o.pooled + o.rest["deep"][0]) / 2, "pooled"),
        (NamedFeature, lambda o: o.pooled, "pooled"),
        (lambda x: [x], lambda o: o[0], 0),
        (lambda x: (x, None), lambda o: o[0], 0),
        (lambda x: {"pooled": x}, lambda o: o["pooled"], "pooled"),
        (lambda x: UserDict(pooled=x), lambda o: o["pooled"], "pooled"),
        (lambda x: Output(logits=x), lambda o: o.logits, "logits"),
    ],
)
@pytest.mark.parametrize("is_named", [False, True])
def test_outputs_of_encoders(training_args, pack, unpack, field, is_named):
    found, expected = apart(pack, unpack, features={"image": field} if is_named else None)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.unimodal_logits, expected.unimodal_logits)
    if is_named:  # which modulations of features need
        args = training_args(modulations={"opm": {}, "ogm": {}}, per_device_train_batch_size=4, max_steps=1)
        model = wrap(Packing(pack, unpack), features={"image": field})
        MultimodalBalancedTrainer(model, args, train_dataset=dataset()).train()


def test_a_tuple_whose_feature_is_not_named():
    model = wrap(Packing(lambda x: (x, None), lambda o: o[0]))
    with pytest.raises(ValueError, match=r"found tuple. Name the field \(of a tuple, the index\) in `features`"):
        model(**inputs(), modulation=Keep())


class Opaque:
    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize(
    ("pack", "unpack", "message"),
    [
        (Opaque, lambda o: o.value, "of 'image', see, returns a Opaque, in which no tensor is found.*dataclass"),
        (lambda x: x.detach().numpy(), torch.from_numpy, "returns a ndarray, in which no tensor is found"),
    ],
)
def test_outputs_of_encoders_without_a_tensor(pack, unpack, message):
    with pytest.raises(ValueError, match=message):
        apart(pack, unpack)


# What the forward does


class Reuses(Model):
    """Calls one encoder for each of two images."""

    def predict(self, image, text):
        return self.head(self.see(image) + self.see(-image / 2) + self.read(text))


class Keep:
    def keep_modalities(self, view):
        return view.modality_mask

    def modulate_features(self, features, keep_mask):
        return features

    def forward_losses(self, features):
        return {}


def test_an_encoder_that_is_called_more_often_than_another():
    model = wrap(Reuses())
    assert model(**inputs()).unimodal_logits.keys() == PATHS.keys()
    with pytest.raises(ValueError, match=r"equally often in a forward, found \{'image': 2, 'text': 1\}"):
        model(**inputs(), modulation=Keep())


class InPlace(Model):
    def forward(self, image, text):
        image.sub_(1)
        return super().forward(image, text)


class Popping(Model):
    """Takes the parts of its inputs out of their dict, as processors' outputs often are."""

    def forward(self, image, text):
        return super().forward(image.pop("values"), text)


@pytest.mark.parametrize("build", [InPlace, Popping])
def test_a_model_that_changes_its_inputs_gets_copies(build):
    batch = inputs()
    if build is Popping:
        batch["image"] = {"values": batch["image"]}
    else:
        batch["image"] = batch["image"] + 1
    model, plain = wrap(build()), wrap(Model())
    for _ in range(2):
        found, expected = model(**batch, labels=LABELS), plain(**inputs(), labels=LABELS)
        torch.testing.assert_close((found.loss, found.logits), (expected.loss, expected.logits))
        torch.testing.assert_close(found.unimodal_logits, expected.unimodal_logits)


class WithoutGradient(Model):
    def predict(self, image, text):
        with torch.no_grad():
            seen = self.see(image)
        return self.head(seen + self.read(text))


def test_an_encoder_without_gradient_is_named(recwarn):
    model = wrap(WithoutGradient())
    with pytest.warns(UserWarning, match="encoder of 'image' has trainable parameters, but runs without gradient"):
        model(**inputs())
    recwarn.clear()
    model(**inputs())  # once
    frozen = WithoutGradient()
    frozen.see.requires_grad_(False)
    wrap(frozen)(**inputs())
    assert not recwarn.list


class Tied(Model):
    def __init__(self):
        super().__init__()
        self.see.bias = self.read.bias


def test_encoders_with_a_common_parameter(training_args):
    args = training_args(modulations={"opm": {}}, per_device_train_batch_size=4, max_steps=1)
    MultimodalBalancedTrainer(wrap(Tied()), args, train_dataset=dataset()).train()
    with pytest.raises(ValueError, match="'image' and 'text' share parameters"):
        MultimodalBalancedTrainer(wrap(Tied()), training_args(modulations={"ogm": {}}), train_dataset=dataset())


def test_modules_compiled_in_place():
    model = Model()
    model.see.compile(backend="eager")
    model.compile(backend="eager")
    mask = torch.tensor([[False, True], *[[True, True]] * 3])
    found, expected = (m(**inputs(), modality_mask=mask) for m in (wrap(model), wrap(Model())))
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.unimodal_logits, expected.unimodal_logits)


# Frozen parts


@pytest.mark.parametrize("affine", [True, False])
def test_the_statistics_of_a_frozen_encoder_stay(training_args, affine):
    model = Model()
    model.see = nn.Sequential(model.see, nn.BatchNorm1d(8, affine=affine))
    model.read = nn.Sequential(model.read, nn.BatchNorm1d(8))
    model.see.requires_grad_(False)
    before = {name: value.clone() for name, value in model.see.state_dict().items()}
    args = training_args(modulations={"opm": {}}, per_device_train_batch_size=4, max_steps=2)
    MultimodalBalancedTrainer(wrap(model), args, train_dataset=dataset()).train()
    assert all(torch.equal(value, before[name]) for name, value in model.see.state_dict().items())
    assert model.read[1].num_batches_tracked == 2
