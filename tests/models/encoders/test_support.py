"""What each encoder can do for big models; the table in recipes/BIG_ENCODERS.md says the same."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import TINY_BERT, check_export, export_arguments
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models import ENCODERS
from hf_bml.models.precision import in_precision

DOCUMENT = Path(__file__).parents[3] / "recipes" / "BIG_ENCODERS.md"
BERT = {**TINY_BERT, "num_hidden_layers": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
RESNET = {
    "architecture": "resnet10t",
    "model_args": {"channels": [8, 8, 8, 8], "stem_width": 4, "zero_init_last": False},
}
VIT = {
    "architecture": "vit_tiny_patch16_224",
    "model_args": {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2},
}
SEQUENCE = {"type": "sequence", "input_size": 5, "hidden_size": 16, "num_heads": 2, "dropout": 0.0}
TOKENS = {"input_ids": None, "attention_mask": None}
ROWS = {  # a tiny one of each row, its input, and what LoRA can adapt in it
    "transformers": ({"type": "transformers", "config": BERT}, TOKENS, "query"),
    "timm, transformer": ({"type": "timm", **VIT}, (3, 16, 16), "qkv"),
    "timm, CNN": ({"type": "timm", **RESNET}, (3, 32, 32), "conv2"),
    "sequence": (SEQUENCE, {"values": (4, 5), "mask": None}, "linear1"),
    "multi_window": ({"type": "multi_window", "num_windows": 2, **RESNET}, (2, 32, 32), "conv2"),
    "conv": ({"type": "conv", "in_channels": 3}, (3, 16, 16), r"layers\.2\.0"),
    "xvector": ({"type": "xvector", "num_bins": 4, "hidden_size": 6, "pooled_size": 5}, (1, 4, 16), r"segment\.0"),
    "mlp": ({"type": "mlp", "input_size": 3, "hidden_sizes": [6]}, (3,), r"layers\.0\.0"),
    "lstm": ({"type": "lstm", "vocab_size": 50, "embedding_size": 8, "hidden_size": 8}, TOKENS, "embedding"),
}
WITHOUT = {(name, "checkpointing") for name in ("conv", "xvector", "mlp", "lstm")}


def sample(what, batch):
    if isinstance(what, dict):
        return {name: sample(name if shape is None else shape, batch) for name, shape in what.items()}
    if what == "input_ids":
        return torch.randint(1, 50, (batch, 5))
    if isinstance(what, str):
        mask = torch.ones(batch, 5 if what == "attention_mask" else 4, dtype=torch.long)
        mask[0, -1] = 0
        return mask if what == "attention_mask" else mask.bool()
    return torch.randn(batch, *what)


def inputs(row, batch=4):
    torch.manual_seed(0)
    return {"x": sample(ROWS[row][1], batch), "other": torch.randn(batch, 3), "labels": torch.arange(batch) % 3}


def model_of(options, seed=0):
    torch.manual_seed(seed)
    encoders = {"x": copy.deepcopy(options), "other": {"type": "mlp", "input_size": 3, "hidden_sizes": [4]}}
    return MultimodalForClassification(MultimodalConfig(modalities=encoders, num_labels=3))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a row's model, which is made once."""
    folder = tmp_path_factory.mktemp("rows")

    def find(row):
        place = folder / row.split(",")[0] / row[-3:]
        if not place.exists():
            model_of(ROWS[row][0]).save_pretrained(place)
        return place

    return find


def check_half(row, folder):
    """Weights in half precision take inputs in float32, and learn."""
    for dtype in (torch.bfloat16, torch.float16):
        model = MultimodalForClassification.from_pretrained(folder, dtype=dtype).train()
        assert {p.dtype for p in model.parameters()} == {dtype}
        if dtype == torch.float16:
            continue  # not every operation has it on the CPU
        output = model(**inputs(row))
        assert output.logits.dtype == dtype
        output.loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def saved_bytes(model, batch):
    """What a forward keeps for the backward besides the weights; both passes are run."""
    weights, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, []

    def note(tensor):
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(**in_precision(batch, model.dtype)).loss
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    loss.backward()
    return sum(size for place, size in sizes.items() if place not in weights)


def check_checkpointing(row, folder):
    """Less is kept; gradients and BatchNorm's statistics are the same."""
    plain = MultimodalForClassification.from_pretrained(folder).train().double()
    again = copy.deepcopy(plain)
    if (row, "checkpointing") in WITHOUT:
        with pytest.raises(ValueError, match=f"can be computed again, found .*'x': '{row}'.*gradient_accumulation"):
            again.gradient_checkpointing_enable()
        return
    with pytest.warns(UserWarning, match="no effect on the encoders {'other': 'mlp'}"):
        again.gradient_checkpointing_enable()
    assert saved_bytes(again, inputs(row)) < 0.95 * saved_bytes(plain, inputs(row))
    check_same(plain, again)
    again.gradient_checkpointing_disable()
    assert saved_bytes(again, inputs(row)) == saved_bytes(plain, inputs(row))


def check_same(plain, again):
    """Gradients to 1e-6, which in float64 rounding does not reach."""
    for (name, mine), theirs in zip(plain.named_parameters(), again.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(theirs.grad, mine.grad, atol=1e-6, rtol=0, msg=name)
    for (name, mine), theirs in zip(plain.named_buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(theirs, mine, atol=1e-6, rtol=0, msg=name)


def check_compile(row, folder):
    model = MultimodalForClassification.from_pretrained(folder).eval()
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    torch.testing.assert_close(compiled(**inputs(row)).logits, model(**inputs(row)).logits)


def without_labels(row):
    return {name: value for name, value in inputs(row).items() if name != "labels"}


def check_exported(row, folder):
    check_export(MultimodalForClassification.from_pretrained(folder), without_labels(row))


def check_peft(row, folder):
    """LoRA in the encoder learns, and what is saved of it fits the model again."""
    model = MultimodalForClassification.from_pretrained(folder)
    config = LoraConfig(r=2, target_modules=rf"encoders\.x\..*{ROWS[row][2]}", init_lora_weights=False)
    adapted = get_peft_model(model, config).train()
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trained and all("encoders.x." in name for name in trained)
    if (row, "checkpointing") not in WITHOUT:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted.gradient_checkpointing_enable()
    adapted(**inputs(row)).loss.backward()
    assert all(p.grad.any() for p in adapted.parameters() if p.requires_grad)
    place = folder / "adapter"
    adapted.save_pretrained(place)
    again = PeftModel.from_pretrained(MultimodalForClassification.from_pretrained(folder), place).eval()
    statistics = dict(again.named_buffers())
    for name, buffer in adapted.named_buffers():
        buffer.copy_(statistics[name])  # the adapter is saved without BatchNorm's, which the trainer keeps frozen
    torch.testing.assert_close(again(**inputs(row)).logits, adapted.eval()(**inputs(row)).logits)


COLUMNS = {  # of the table
    "bf16, fp16": check_half,
    "checkpointing": check_checkpointing,
    "`torch.compile`": check_compile,
    "export, ONNX": check_exported,
    "PEFT": check_peft,
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", ROWS)
def test_every_cell(row, column, saved):
    COLUMNS[column](row, saved(row))


def test_the_table_of_the_document():
    lines = DOCUMENT.read_text().splitlines()
    start = lines.index(" | ".join(["| encoder", *COLUMNS]) + " |") + 2
    written = [
        " | ".join([f"| {row}", *("no" if (row, each) in WITHOUT else "yes" for each in COLUMNS)]) + " |"
        for row in ROWS
    ]
    assert lines[start : lines.index("", start)] == written
    assert {row.split(",")[0] for row in ROWS} == set(ENCODERS)


@pytest.mark.parametrize("row", ["transformers", "sequence"])
def test_twelve_layers_keep_a_fifth(row):
    options = copy.deepcopy(ROWS[row][0])
    if row == "transformers":
        options["config"]["num_hidden_layers"] = 12
    else:
        options["num_layers"] = 12
    plain = model_of(options).train().double()
    again = copy.deepcopy(plain)
    with pytest.warns(UserWarning, match="no effect"):
        again.gradient_checkpointing_enable()
    assert saved_bytes(again, inputs(row)) < 0.2 * saved_bytes(plain, inputs(row))
    check_same(plain, again)
    with pytest.warns(UserWarning, match="no effect"):
        again.gradient_checkpointing_enable({"use_reentrant": False}, every_n_layers=3)
    assert 0.5 < saved_bytes(again, inputs(row)) / saved_bytes(plain, inputs(row)) < 0.9


def test_a_cnn_that_runs_stage_by_stage():
    cnn = {"type": "timm", **RESNET}
    config = MultimodalConfig(
        modalities={"x": cnn, "other": cnn}, num_labels=3, interaction="mmtm", interaction_options={"stages": 2}
    )
    torch.manual_seed(0)
    plain = MultimodalForClassification(config).train().double()
    again = copy.deepcopy(plain)
    again.gradient_checkpointing_enable()
    batch = {**inputs("timm, CNN"), "other": torch.randn(4, 3, 32, 32)}
    assert saved_bytes(again, batch) < saved_bytes(plain, batch)
    check_same(plain, again)


def test_a_modality_that_a_batch_lacks_keeps_its_statistics():
    """Also where layers are computed again in the backward pass."""
    model = model_of(ROWS["timm, CNN"][0]).train()
    with pytest.warns(UserWarning, match="no effect"):
        model.gradient_checkpointing_enable()
    before = copy.deepcopy(dict(model.encoders["x"].named_buffers()))
    mask = torch.tensor([[False, True]] * 4)
    model(**inputs("timm, CNN"), modality_mask=mask).loss.backward()
    assert all(torch.equal(value, before[name]) for name, value in model.encoders["x"].named_buffers())


def test_onnx_with_any_number_of_samples():
    pytest.importorskip("onnxscript", reason="torch.onnx needs onnxscript")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime to run what was exported")
    model = model_of(ROWS["transformers"][0]).eval()
    arguments, larger = export_arguments(model, without_labels("transformers"))
    program = torch.onnx.export(model, (), **arguments, dynamo=True, verbose=False)
    torch.testing.assert_close(program(**larger)[0], model(**larger).logits, atol=1e-5, rtol=1e-4)


def test_layers_of_ones_own(monkeypatch):
    """An encoder of one's own says by itself what can be computed again; by default, its transformers models."""
    from hf_bml.models import Encoder
    from hf_bml.models.encoders.mlp import MLPEncoderConfig

    class Own(Encoder):
        config_class = MLPEncoderConfig

        def __init__(self, config):
            super().__init__()
            self.output_size = config.hidden_sizes[-1]
            self.layer, self.turned_on = nn.Linear(config.input_size, self.output_size), []

        @property
        def can_checkpoint(self):
            return True

        def checkpoint(self, enable, function, every_n_layers):
            self.turned_on.append((enable, every_n_layers))

    monkeypatch.setitem(ENCODERS, "own", Own)
    model = model_of({"type": "own", "input_size": 3, "hidden_sizes": [4]})
    with pytest.warns(UserWarning, match="{'other': 'mlp'}"):
        model.gradient_checkpointing_enable(every_n_layers=2)
    assert model.encoders["x"].turned_on == [(True, 2)]
