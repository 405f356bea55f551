from __future__ import annotations

import pytest
import torch
from tiny import SIZES, tiny_config, tiny_image_config, tiny_images, tiny_model
from tiny_questions import tiny_question_model, tiny_questions
from tiny_segments import tiny_segment_model, tiny_segments
from torch import nn
from transformers import AutoConfig, AutoModel

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.batch import repeat_present, restore_buffers


def inputs(modalities=("audio", "visual"), batch=4):
    torch.manual_seed(1)
    return {name: torch.randn(batch, SIZES[name]) for name in modalities}


@pytest.mark.parametrize("modalities", [("audio",), ("audio", "visual"), ("audio", "visual", "text")])
def test_output_shapes(modalities):
    output = tiny_model(modalities)(**inputs(modalities), labels=torch.tensor([0, 1, 2, 0]))
    assert output.logits.shape == (4, 3)
    assert list(output.unimodal_logits) == list(output.features) == list(modalities)
    assert all(not logits.requires_grad for logits in output.unimodal_logits.values())
    assert output.keep_mask.shape == (4, len(modalities)) and output.keep_mask.all()
    torch.testing.assert_close(sum(output.unimodal_logits.values()), output.logits)
    expected = torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 2, 0]))
    assert torch.equal(output.loss, expected)


@pytest.mark.parametrize("fusion", ["concat", "sum"])
@pytest.mark.parametrize("hidden", [[], [6]])
def test_save_and_load_give_equal_outputs(tmp_path, fusion, hidden):
    model = tiny_model(("visual", "audio", "text"), fusion=fusion, head_hidden_sizes=hidden).eval()
    model.save_pretrained(tmp_path)
    batch = inputs(("audio", "visual", "text"))
    expected = model(**batch)
    for again in (MultimodalForClassification.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(again) is MultimodalForClassification
        output = again.eval()(**batch)
        assert torch.equal(output.logits, expected.logits)
        for name in batch:
            assert torch.equal(output.unimodal_logits[name], expected.unimodal_logits[name])
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, MultimodalConfig)
    assert config.modalities == model.config.modalities
    assert list(config.modalities) == ["visual", "audio", "text"]  # though config.json is sorted
    assert (tmp_path / "model.safetensors").is_file()


def test_timm_model_round_trip_including_batch_norm(tmp_path):
    config = MultimodalConfig(
        modalities={
            "audio": {"type": "timm", "architecture": "resnet18", "in_channels": 1},
            "visual": {"type": "conv", "in_channels": 3},
        },
        num_labels=4,
    )
    model = MultimodalForClassification(config)
    batch = {"audio": torch.randn(4, 1, 33, 40), "visual": torch.randn(4, 2, 3, 16, 16)}
    model(**batch)  # moves the running statistics
    model.eval().save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert torch.equal(model(**batch).logits, again(**batch).logits)


def test_the_statistics_of_a_frozen_encoder_stay():
    torch.manual_seed(0)
    model = MultimodalForClassification(tiny_image_config())
    model.encoders["audio"].requires_grad_(False)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()(**tiny_images())
    model.eval().train()(**tiny_images())
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]) == name.startswith("encoders.audio."), name


def test_modality_order_follows_the_config_not_the_call():
    model = tiny_model(("visual", "audio")).eval()
    batch = inputs()
    forward = model(audio=batch["audio"], visual=batch["visual"])
    backward = model(visual=batch["visual"], audio=batch["audio"])
    assert list(forward.features) == ["visual", "audio"]
    assert torch.equal(forward.logits, backward.logits)


def test_absent_samples_have_zero_features_and_mask():
    model = tiny_model().eval()
    batch = inputs()
    mask = torch.tensor([[True, True], [False, True], [True, False], [True, True]])
    output = model(**batch, modality_mask=mask)
    assert (output.features["audio"][1] == 0).all() and (output.features["visual"][2] == 0).all()
    assert torch.equal(output.keep_mask, mask)
    garbage = {**batch, "audio": batch["audio"].clone()}
    garbage["audio"][1] = float("nan")
    assert torch.equal(model(**garbage, modality_mask=mask).logits, output.logits)


@pytest.mark.parametrize("fusion", ["concat", "sum", "bounded", "cosine", "shared"])
def test_the_share_of_an_absent_modality(fusion):
    options = {"shared_prediction": "sum"} if fusion == "shared" else {}
    model = tiny_model(fusion=fusion, **options).eval()
    for parameter in model.head.parameters():
        parameter.data.normal_()
    output = model(**inputs(), modality_mask=torch.tensor([[True, False]] * 4))
    shares = model.shares_when_absent()
    torch.testing.assert_close(output.unimodal_logits["visual"], shares["visual"].expand(4, -1))
    torch.testing.assert_close(output.logits, output.unimodal_logits["audio"] + shares["visual"])


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "gated"},
        {"head_hidden_sizes": [3]},
        {"unimodal_prediction": "probe"},
        {"interaction": "cross_attention"},
    ],
)
def test_no_shares_without_an_exact_split(options):
    assert tiny_model(**options).shares_when_absent() is None


def test_a_modality_of_none_equals_an_all_false_mask():
    model = tiny_model().eval()
    batch = inputs()
    mask = torch.tensor([[True, False]] * 4)
    output = model(audio=batch["audio"], visual=None)
    assert torch.equal(output.logits, model(**batch, modality_mask=mask).logits)
    assert torch.equal(output.keep_mask, mask)


class DropAudio:
    """Stands in for the trainer's modulations."""

    def keep_modalities(self, view):
        self.modality_mask = view.modality_mask
        return torch.tensor([[False, True]]).expand(len(view.unimodal_logits["audio"]), -1)

    def modulate_features(self, features, keep_mask):
        self.features = features
        return features

    def forward_losses(self, features):
        return {}


def test_modulation_decides_what_the_head_sees():
    model, modulation = tiny_model(), DropAudio()
    labels = torch.tensor([0, 1, 2, 0])
    output = model(**inputs(), labels=labels, modulation=modulation)
    plain = model(**inputs(), labels=labels)
    assert modulation.modality_mask is None
    assert (modulation.features["audio"] == 0).all()
    assert torch.equal(output.features["audio"], plain.features["audio"])  # before modulation
    for name in plain.unimodal_logits:
        assert torch.equal(output.unimodal_logits[name], plain.unimodal_logits[name])  # of undropped features
    torch.testing.assert_close(output.logits, model(audio=None, visual=inputs()["visual"]).logits)
    assert output.keep_mask.tolist() == [[False, True]] * 4
    output.loss.backward()
    assert all((p.grad == 0).all() for p in model.encoders["audio"].parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_unimodal_logits_are_float32_under_autocast(dtype):
    model = tiny_model()
    with torch.autocast("cpu", dtype=dtype):
        output = model(**inputs())
    assert output.logits.dtype == dtype
    assert all(logits.dtype == torch.float32 for logits in output.unimodal_logits.values())


def test_float64_stays_float64():
    output = tiny_model(dtype=torch.float64)(**{name: value.double() for name, value in inputs().items()})
    assert output.unimodal_logits["audio"].dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"audoi": torch.zeros(4, 5)}, "Unknown modality 'audoi'. Did you mean 'audio'"),
        ({"audio": torch.zeros(4, 5)}, r"found no input for \['visual'\]"),
        ({"audio": None, "visual": None}, "At least one"),
        (
            {"audio": torch.zeros(4, 5), "visual": torch.zeros(4, 7), "modality_mask": torch.ones(4, 3)},
            r"\(4, 2\), found \(4, 3\)",
        ),
        ({"audio": {"valves": torch.zeros(4, 5)}, "visual": torch.zeros(4, 7)}, "Modality 'audio'"),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tiny_model()(**call)


def test_a_model_needs_a_modality():
    with pytest.raises(ValueError, match="modalities is empty"):
        MultimodalForClassification(MultimodalConfig())


CONV = {"a": {"type": "conv"}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": "conv"}, "modalities must be a dict .* found 'conv'"),
        ({"modalities": {"audio": "conv"}}, "modality 'audio': expected a dict .* found 'conv'"),
        ({"modalities": {"audio": None}}, "modality 'audio': expected a dict .* found None"),
        ({"modalities": {"audio": {"type": ["conv"]}}}, "modality 'audio': Unknown encoder type"),
        ({"modalities": CONV, "modality_order": ["b"]}, "modality_order must hold"),
        ({"modalities": CONV, "modality_order": 8}, "modality_order must hold .* found 8"),
        ({"modalities": CONV, "fusion": "conact"}, "Unknown fusion 'conact'. Did you mean 'concat'"),
        ({"modalities": CONV, "fusion": None}, "Unknown fusion None. Known: .*'concat'"),
        ({"modalities": CONV, "head_hidden_sizes": 8}, "head_hidden_sizes must be a list .* found 8"),
        ({"modalities": CONV, "head_hidden_sizes": 0}, "head_hidden_sizes must be a list .* found 0"),
        ({"modalities": CONV, "head_hidden_sizes": ["a"]}, r"head_hidden_sizes must be a list .* found \['a'\]"),
        ({"modalities": CONV, "head_hidden_sizes": [0]}, r"head_hidden_sizes must be a list .* found \[0\]"),
        ({"modalities": CONV, "head_dropout": 1.0}, r"head_dropout must be in \[0, 1\)"),
        ({"modalities": CONV, "head_dropout": "half"}, r"head_dropout must be in \[0, 1\), found 'half'"),
        ({"modalities": CONV, "bias_split": {"b": 1.0}}, r"bias_split must name every modality \['a'\]"),
        ({"modalities": CONV, "bias_split": {"a": "x"}}, "bias_split must name .* a number each, found {'a': 'x'}"),
        ({"modalities": CONV, "bias_split": 1.0}, "bias_split must name .* found 1.0"),
        ({"modalities": CONV, "bias_split": {"a": 1.0}, "fusion": "sum"}, "linear concat head"),
    ],
)
def test_bad_configs(options, message):
    with pytest.raises(ValueError, match=message):
        MultimodalConfig(**options)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *[(name, "ModuleDict") for name in ("keys", "values", "items", "type", "train", "training", "forward")],
        *[(name, "identifier") for name in ("a.b", "my-audio", "", "class", 1)],
        *[(name, "forward uses") for name in ("labels", "modality_mask", "modulation", "self")],
    ],
)
def test_names_that_no_modality_can_have(name, reason):
    with pytest.raises(ValueError, match=f"{name!r} cannot be the name of a modality: .*{reason}.* Rename it"):
        MultimodalConfig(modalities={name: {"type": "conv"}})


@pytest.mark.parametrize("name", ["audio", "my_audio", "rgb2", "type_", "vidéo"])
def test_names_that_a_modality_can_have(name):
    config = MultimodalConfig(modalities={name: {"type": "conv", "channels": [2]}})
    output = MultimodalForClassification(config)(**{name: torch.zeros(2, 1, 4, 4)})
    assert list(output.features) == [name]


@pytest.mark.parametrize(
    ("present", "rows"),
    [
        ([1, 1, 1, 1, 1], [0, 1, 2, 3, 4]),
        ([0, 1, 0, 0, 1], [1, 1, 4, 1, 4]),
        ([0, 0, 1, 0, 0], [2, 2, 2, 2, 2]),
        ([0, 0, 0, 0, 0], [0, 1, 2, 3, 4]),
    ],
)
def test_repeat_present(present, rows):
    values, mask = torch.arange(5.0).unsqueeze(1) * 10, torch.tensor(present).bool()
    expected = values[rows]
    assert torch.equal(repeat_present(values, mask), expected)
    inputs = {"values": values, "mask": values > 10, "scale": torch.ones(2), "flag": True, "nothing": None}
    repeated = repeat_present(inputs, mask)
    assert torch.equal(repeated["values"], expected) and torch.equal(repeated["mask"], (values > 10)[rows])
    assert all(repeated[name] is inputs[name] for name in ("scale", "flag", "nothing"))
    assert repeat_present(None, mask) is None


@pytest.mark.parametrize("as_dict", [False, True])
def test_absent_samples_do_not_reach_batch_norm_in_training(as_dict):
    def run(audio, visual, mask, labels):
        torch.manual_seed(0)
        config = MultimodalConfig(
            modalities={
                "audio": {"type": "conv", "in_channels": 1, "channels": [3, 5]},
                "visual": {"type": "sequence", "input_size": 2, "hidden_size": 4, "num_heads": 1, "num_layers": 0},
            },
            num_labels=3,
        )
        model = MultimodalForClassification(config).double().train()
        output = model(audio={"values": audio} if as_dict else audio, visual=visual, modality_mask=mask, labels=labels)
        output.features["audio"].pow(2).sum().backward()
        norms = [m for m in model.encoders["audio"].modules() if isinstance(m, nn.BatchNorm2d)]
        return output.features["audio"], norms, [p.grad for p in model.encoders["audio"].parameters()]

    torch.manual_seed(1)
    present = torch.tensor([False, True, True, False, False, True, True, False])
    audio, visual = torch.randn(8, 1, 8, 8).double() + 2, torch.randn(8, 2).double()
    audio[~present] = 0
    mask, labels = torch.stack([present, torch.ones(8).bool()], 1), torch.arange(8) % 3
    features, norms, gradients = run(audio, visual, mask, labels)
    only_features, only_norms, only_gradients = run(audio[present], visual[present], mask[present], labels[present])
    torch.testing.assert_close(features[present], only_features)
    assert (features[~present] == 0).all()
    for ours, theirs in zip(norms, only_norms, strict=True):
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=0.02, atol=0)  # unbiased: n / (n - 1)
    for ours, theirs in zip(gradients, only_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_batch_that_lacks_a_modality_trains_and_evaluation_replaces_nothing(monkeypatch):
    batch, mask = inputs(), torch.tensor([[False, True]] * 4)
    model = tiny_model()
    output = model(**batch, modality_mask=mask, labels=torch.tensor([0, 1, 2, 0]))
    output.loss.backward()
    assert all((p.grad == 0).all() for p in model.encoders["audio"].parameters())
    monkeypatch.setattr("hf_bml.models.batch.repeat_present", None)
    assert torch.equal(model.eval()(**batch, modality_mask=mask).logits, output.logits)


def test_label_names_travel_with_the_config(tmp_path):
    config = tiny_config(num_labels=2, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
    MultimodalForClassification(config).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).id2label == {0: "no", 1: "yes"}


def add_batch_norm(encoder):
    """BatchNorm behind the encoder's first linear layer; returns it and the list of what it gets."""
    linear = next(module for module in encoder.modules() if isinstance(module, nn.Linear))
    norm, seen = nn.BatchNorm1d(linear.out_features), []
    encoder.add_module("batch_norm", norm)

    def normalise(module, arguments, output):
        seen.append(output.detach().flatten(0, -2))
        return norm(output.flatten(0, -2)).view_as(output)

    linear.register_forward_hook(normalise)
    return norm, seen


def segment_case():
    batch, labels = tiny_segments(4)
    return tiny_segment_model("avga"), batch, labels


TASKS = {
    "classification": lambda: (tiny_model(), inputs(), torch.tensor([0, 1, 2, 0])),
    "segments": segment_case,
    "questions": lambda: (tiny_question_model(), tiny_questions(), torch.tensor([0, 1, 2, 3])),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_without_a_modality_leaves_its_running_statistics_alone(task):
    """They start as 0, 1 and 0; a batch with one present sample counts, with momentum 0.1."""
    model, batch, labels = TASKS[task]()
    model.train()
    norm, seen = add_batch_norm(model.encoders["audio"])
    other, _ = add_batch_norm(model.encoders["visual"])
    column = list(model.encoders).index("audio")
    mask = torch.ones(len(labels), len(model.encoders), dtype=torch.bool)
    mask[:, column] = False
    for _ in range(3):
        model(**batch, modality_mask=mask, labels=labels).loss.backward()
    assert (norm.running_mean == 0).all() and (norm.running_var == 1).all() and norm.num_batches_tracked == 0
    assert other.num_batches_tracked == 3 and (other.running_var != 1).any()
    mask[0, column] = True
    seen.clear()
    model(**batch, modality_mask=mask, labels=labels).loss.backward()
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * seen[0].mean(0))


def test_restoring_buffers_is_one_graph_and_passes_gradients():
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, values, stays):
            before = [(buffer, buffer.clone(), stays) for buffer in self.buffers()]
            normalised = self.norm(values)
            restore_buffers(before)
            return normalised

    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    for model in (Normalised(), torch.compile(Normalised(), backend="aot_eager", fullgraph=True)):
        for stays, mean in ((False, [0.0, 0.0]), (True, [0.2, 0.4]), (False, [0.2, 0.4])):
            model(values, torch.tensor(stays)).pow(3).sum().backward()
            torch.testing.assert_close(model.norm.running_mean, torch.tensor(mean))
        assert model.norm.num_batches_tracked == 1


def test_buffers_are_copied_in_training_with_a_mask_only(monkeypatch):
    copied = []
    monkeypatch.setattr("hf_bml.models.pretrained.buffers_before", lambda *_: copied.append(True) or [])
    model, mask = tiny_model(), torch.ones(4, 2, dtype=torch.bool)
    for training, given in ((True, {}), (False, {"modality_mask": mask})):
        model.train(training)(**inputs(), **given)
    assert copied == []
    model.train()(**inputs(), modality_mask=mask)
    assert copied == [True]
