"""PEFT adapters of the library's own models: what is saved loads to equal logits, or is refused by name."""

from __future__ import annotations

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model, inject_adapter_in_model
from test_unwrapping import PATHS, PlainModel
from tiny import tiny_dataset, tiny_model
from torch import nn
from transformers import CLIPConfig, CLIPModel

from hf_bml import MultimodalBalancedTrainer, MultimodalForClassification, balance
from hf_bml.hub.card import render_card
from hf_bml.hub.card_metadata import CardOptions
from hf_bml.modulation import OGM, Gradients, Step
from hf_bml.modulation.ogm import gradient_coefficients
from hf_bml.training.card_facts import facts_of_trainer

LORA = {"target_modules": r"encoders\.audio\.projection", "modules_to_save": ["encoders.visual", "head"]}


@pytest.fixture
def base(tmp_path):
    """Folder of a saved model."""
    tiny_model().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapted(base, config):
    return get_peft_model(MultimodalForClassification.from_pretrained(base), config)


def logits(model):
    columns = tiny_dataset()
    with torch.no_grad():
        return model.eval()(audio=columns["audio"][:], visual=columns["visual"][:]).logits


@pytest.mark.parametrize(
    "config",
    [LoraConfig(**LORA), IA3Config(target_modules=["projection"], feedforward_modules=[], modules_to_save=["head"])],
    ids=["lora", "ia3"],
)
def test_an_adapter_of_the_whole_model(base, tmp_path, training_args, config):
    """It is trained with OPM and OGM, saved, resumed bitwise, and loaded as its card says."""

    def trainer(loads_best=False):
        torch.manual_seed(0)
        best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
        every = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
        methods = {"opm": {}, "ogm": {"noise": "entry_std"}}
        args = training_args(modulations=methods, max_steps=4, **every, **(best if loads_best else {}))
        return MultimodalBalancedTrainer(
            adapted(base, config), args, train_dataset=tiny_dataset(), eval_dataset=tiny_dataset()
        )

    straight, resumed = trainer(), trainer()
    straight.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    for (name, one), other in zip(straight.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert "ogm/coefficient_audio" in straight.state.log_history[0]
    straight.save_model(tmp_path / "saved")
    loaded = PeftModel.from_pretrained(MultimodalForClassification.from_pretrained(base), tmp_path / "saved")
    expected = logits(straight.model)
    assert torch.equal(logits(loaded), expected)
    assert not torch.equal(logits(MultimodalForClassification.from_pretrained(base)), expected)
    facts = facts_of_trainer(straight)
    card = render_card(facts, CardOptions(source=str(tmp_path / "saved"))).text
    names = {}
    exec(card.split("```python\n")[1].split("```")[0].replace("PATH", str(base)), names)
    assert torch.equal(logits(names["model"]), expected)
    best = trainer(loads_best=True)  # here the worst: the first
    best.train()
    [loss] = [log["eval_loss"] for log in best.state.log_history if log["step"] == 2 and "eval_loss" in log]
    assert best.evaluate()["eval_loss"] == loss != straight.evaluate()["eval_loss"]


def test_a_pushed_adapter_loads(base, own_hub, training_args):
    """The base is a folder here, of which the push warns."""
    args = training_args(hub_model_id="user/adapter", max_steps=1)
    trainer = MultimodalBalancedTrainer(adapted(base, LoraConfig(**LORA)), args, train_dataset=tiny_dataset())
    trainer.train()
    with pytest.warns(UserWarning, match="adapter_config.json names a place on this machine"):
        trainer.push_to_hub()
    for name, content in own_hub.repositories["model", "user/adapter"][-1].items():
        (base.parent / name).write_bytes(content)
    loaded = PeftModel.from_pretrained(MultimodalForClassification.from_pretrained(base), base.parent)
    assert torch.equal(logits(loaded), logits(trainer.model))


def test_ogm_scales_the_trained_parameters_of_an_encoder(base):
    """Those of its adapter, or of its trained copy in modules_to_save; nothing else has a gradient."""
    model = adapted(base, LoraConfig(**LORA, init_lora_weights=False))
    model(**tiny_dataset()[:4]).loss.backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    state = Step(("audio", "visual"), ratios=torch.tensor([2.0, 0.5]))
    parameters = {name: list(encoder.parameters()) for name, encoder in model.encoders.items()}
    OGM(alpha=0.8).modulate_gradients(Gradients(parameters), state)
    coefficient = gradient_coefficients(state.ratios, 0.8)[0]
    kinds = {name: next((kind for kind in ("lora", "visual", "head") if kind in name), None) for name in before}
    assert set(kinds.values()) == {"lora", "visual", "head"}
    after = dict(model.named_parameters())
    for name, gradient in before.items():
        torch.testing.assert_close(after[name].grad, gradient * (coefficient if kinds[name] == "lora" else 1))


def test_a_merged_adapter_is_a_model_as_any_other(base, tmp_path):
    model = adapted(base, LoraConfig(**LORA, init_lora_weights=False))
    expected = logits(model)
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(MultimodalForClassification.from_pretrained(tmp_path / "merged")), expected)


def inside_an_encoder(base):
    model = MultimodalForClassification.from_pretrained(base)
    model.encoders["audio"] = get_peft_model(model.encoders["audio"], LoraConfig(target_modules=["projection"]))
    return model


def injected(base):
    """As `model.add_adapter` of transformers does."""
    model = MultimodalForClassification.from_pretrained(base)
    return inject_adapter_in_model(LoraConfig(target_modules=["projection"]), model)


def compiled_inside(base):
    model = MultimodalForClassification.from_pretrained(base)
    model.encoders["audio"] = torch.compile(model.encoders["audio"], backend="eager")
    return model


def unsaved_head(base):
    model = adapted(base, LoraConfig(target_modules=["projection"]))
    model.get_base_model().head.requires_grad_(True)
    return model


def moving_statistics(base):
    model = PlainModel()
    model.see[1] = nn.BatchNorm1d(8, affine=False)
    return balance(get_peft_model(model, LoraConfig(target_modules=["see.0"])), PATHS, num_labels=3)


def two_adapters(base):
    model = adapted(base, LoraConfig(**LORA))
    model.add_adapter("other", LoraConfig(**LORA))
    return model


def balanced_clip(config):
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision, text = {**small, "image_size": 16, "patch_size": 8}, {**small, "vocab_size": 50}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    paths = {"image": "vision_model", "text": "text_model"}
    return balance(get_peft_model(clip, config), paths, logits="logits_per_image", num_labels=4)


ONE_STACK = {"num_layers": 1, "num_attention_heads": 1, "num_transformer_submodules": 1}
LORA_OF_PLAIN = LoraConfig(target_modules=["see.0"])
REFUSED = {
    "inside an encoder": (
        inside_an_encoder,
        r"'encoders.audio' of MultimodalForClassification .* get_peft_model\(mode",
    ),
    "injected": (injected, r"'encoders.audio.projection' of .* has a PEFT adapter, .*target_modules=r'"),
    "compiled inside": (
        compiled_inside,
        r"'encoders.audio' was made by torch.compile.*model.encoders.audio.compile\(\)",
    ),
    "around balance": (
        lambda base: get_peft_model(balance(PlainModel(), PATHS, num_labels=3), LORA_OF_PLAIN),
        r"balance\(get_peft_model\(model, config\), ...\), with the same paths",
    ),
    "base not saved": (
        lambda base: get_peft_model(tiny_model(), LoraConfig(**LORA)),
        r"First model.save_pretrained\('base'\), then model = MultimodalForClassification.from_pretrained",
    ),
    "base not saved, balanced": (
        lambda base: balanced_clip(LoraConfig(target_modules=["q_proj"])),
        r"= CLIPModel.from_pretrained",
    ),
    "head not saved": (unsaved_head, r"changes 'base_model.model.head.*modules_to_save"),
    "statistics not saved": (moving_statistics, r"changes 'base_model.model.see.1.running_mean'.*modules_to_save"),
    "prompt tuning": (
        lambda base: balanced_clip(
            PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=2, token_dim=16, **ONE_STACK)
        ),
        "PROMPT_TUNING puts learned tokens.* Use LoRA",
    ),
    "two adapters": (two_adapters, r"one PEFT adapter named 'default', found \['default', 'other'\]"),
    "mixed": (
        lambda base: balance(get_peft_model(PlainModel(), LORA_OF_PLAIN, mixed=True), PATHS, num_labels=3),
        "PeftMixedModel cannot be saved",
    ),
    "compiled": (
        lambda base: torch.compile(tiny_model(), backend="eager"),
        "expected the model itself.*torch_compile",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_lose_weights_is_refused_when_the_trainer_is_built(base, training_args, name):
    build, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        MultimodalBalancedTrainer(build(base), training_args(), train_dataset=tiny_dataset())


@pytest.mark.parametrize("build", [inside_an_encoder, injected, compiled_inside])
def test_a_folder_with_weights_under_other_names_is_refused(base, tmp_path, build):
    build(base).save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"hold 'encoders\..*', which MultimodalForClassification does not have"):
        MultimodalForClassification.from_pretrained(tmp_path / "saved")
