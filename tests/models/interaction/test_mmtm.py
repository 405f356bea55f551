from __future__ import annotations

import pytest
import torch
from tiny import scrambled, tiny_image_config, tiny_images

from hf_bml import MultimodalForClassification
from hf_bml.models.interaction.mmtm import MMTMModule


@pytest.mark.parametrize(
    ("sizes", "ratio", "units"),
    [((128, 128), 4, 128), ((64, 16), 4, 40), ((10, 11), 4, 10), ((5, 6, 7), 4, 9), ((1, 1), 8, 1)],
)
def test_squeeze_has_two_times_the_channels_over_ratio_units(sizes, ratio, units):
    module = MMTMModule({f"m{i}": size for i, size in enumerate(sizes)}, ratio, 2.0)
    assert module.squeeze.out_features == units
    assert [excite.out_features for excite in module.excite.values()] == list(sizes)


@pytest.mark.parametrize("gate_scale", [1.0, 2.0])
def test_zero_layers_halve_the_maps_or_leave_them_alone(gate_scale):
    """Test value E4."""
    module = MMTMModule({"a": 3, "v": 4}, 4, gate_scale)
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    gates = module({"a": torch.randn(2, 3), "v": torch.randn(2, 4)})
    assert {name: gate.shape for name, gate in gates.items()} == {"a": (2, 3), "v": (2, 4)}
    assert all((gate == gate_scale / 2).all() for gate in gates.values())


def test_gates_by_hand():
    module = MMTMModule({"a": 1, "v": 1}, 4, 2.0)
    with torch.no_grad():
        module.squeeze.weight.copy_(torch.tensor([[1.0, -2.0]]))
        module.squeeze.bias.copy_(torch.tensor([0.5]))
        module.excite["a"].weight.copy_(torch.tensor([[3.0]]))
        module.excite["a"].bias.copy_(torch.tensor([-1.0]))
        module.excite["v"].weight.copy_(torch.tensor([[-1.0]]))
        module.excite["v"].bias.copy_(torch.tensor([2.0]))
    gates = module({"a": torch.tensor([[3.0], [0.0]]), "v": torch.tensor([[1.0], [1.0]])})
    squeezed = torch.tensor([[1.5], [0.0]])  # relu(3 - 2 + 0.5), relu(-2 + 0.5)
    torch.testing.assert_close(gates["a"], 2 / (1 + torch.exp(-(3 * squeezed - 1))))
    torch.testing.assert_close(gates["v"], 2 / (1 + torch.exp(-(2 - squeezed))))


def zeroed(gate_scale, stages=2):
    torch.manual_seed(0)
    options = {"stages": stages, "gate_scale": gate_scale}
    model = MultimodalForClassification(tiny_image_config(interaction="mmtm", interaction_options=options))
    scrambled(model)
    for parameter in model.interaction.parameters():
        torch.nn.init.zeros_(parameter)
    return model.eval()


def test_with_zero_layers_gate_scale_2_is_late_fusion():
    batch, model = tiny_images(), zeroed(2.0)
    for name, encoder in model.encoders.items():
        torch.testing.assert_close(model(**batch).features[name], encoder(batch[name]))
    torch.testing.assert_close(sum(model(**batch).unimodal_logits.values()), model(**batch).logits)


def test_with_zero_layers_gate_scale_1_halves_the_last_maps():
    batch, model = tiny_images(), zeroed(1.0, stages=1)
    for name, encoder in model.encoders.items():
        torch.testing.assert_close(model(**batch).features[name], 0.5 * encoder(batch[name]))


def test_the_joint_path_by_an_independent_loop():
    """Two stages of two and three encoders, gates computed from the average over positions and frames."""
    torch.manual_seed(0)
    config = tiny_image_config(interaction="mmtm", interaction_options={"stages": 2, "ratio": 3})
    model, batch = scrambled(MultimodalForClassification(config)).eval(), tiny_images()
    audio, visual = model.encoders["audio"].layers, model.encoders["visual"].layers
    a, v = audio[:4](batch["audio"]), visual[:6](batch["visual"].flatten(0, 1))  # (4, ...), (4 * 3 frames, ...)
    for module, blocks in zip(model.interaction.transfer_modules, ((audio[4:], visual[6:]), None), strict=True):
        pooled_a, pooled_v = a.mean((2, 3)), v.view(4, 3, *v.shape[1:]).mean((1, 3, 4))
        z = torch.relu(torch.cat([pooled_a, pooled_v], 1) @ module.squeeze.weight.T + module.squeeze.bias)
        gate_a, gate_v = (
            2 * torch.sigmoid(z @ module.excite[m].weight.T + module.excite[m].bias) for m in ("audio", "visual")
        )
        a = a * gate_a[:, :, None, None]
        v = torch.stack([v.view(4, 3, *v.shape[1:])[:, frame] * gate_v[:, :, None, None] for frame in range(3)], 1)
        v = v.flatten(0, 1)
        if blocks is not None:
            a, v = blocks[0](a), blocks[1](v)
    features = torch.cat([a.mean((2, 3)), v.view(4, 3, *v.shape[1:]).mean((1, 3, 4))], 1)
    torch.testing.assert_close(model(**batch).logits, model.head.classifier(features))


def test_a_modality_changes_the_gates_of_the_others_only_if_it_is_kept():
    torch.manual_seed(0)
    config = tiny_image_config(interaction="mmtm", interaction_options={"stages": 2})
    model, batch = scrambled(MultimodalForClassification(config)).eval(), tiny_images()
    started = {m: model.interaction.start(model.encoders[m], batch[m]) for m in batch}
    other = {**started, "audio": model.interaction.start(model.encoders["audio"], torch.randn(4, 1, 16, 12))}
    keep = torch.tensor([[True, True]] * 3 + [[False, True]])
    before = model.interaction(model.encoders, started, keep)["visual"]
    after = model.interaction(model.encoders, other, keep)["visual"]
    assert (before != after).any(1).tolist() == [True, True, True, False]
