"""Small methods that use what the interface offers beyond dropping, scaling and weighing, and variants."""

from __future__ import annotations

from typing import ClassVar

import torch

from hf_bml.modulation import EpochPlan, Gradients, InfoReg, Modulation, MultiLoss, Needs
from hf_bml.modulation.step import JOINT, UNIMODAL


class UnimodalLoss(Modulation):
    """Adds the loss of every modality's own prediction, made by the joint head."""

    name = "unimodal_loss"
    phase = "add_losses"

    def needs(self, modalities):
        return Needs(unimodal_graph=True)

    def forward_losses(self, features, batch, step):
        return {name: batch.loss(logits, batch.present(name)) for name, logits in batch.unimodal_graph.items()}


class TwoGradients(UnimodalLoss):
    """Turns the unimodal gradient of an encoder around where it points against the joint one."""

    name = "two_gradients"
    phase = "combine_gradients"

    def needs(self, modalities):
        return Needs(
            gradients=True,
            separate_encoders=True,
            whole_model=True,
            unimodal_graph=True,
            separate_gradients=(UNIMODAL,),
            head_gradients=True,
        )

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step) -> None:
        joint, unimodal = gradients.of(JOINT), gradients.of(UNIMODAL)
        for name in step.modalities:
            agreement = sum((a * b).sum() for a, b in zip(joint[name], unimodal[name], strict=True)).sign()
            for parameter, a, b in zip(gradients.parameters[name], joint[name], unimodal[name], strict=True):
                if parameter.grad is not None:  # as where a whole batch lacks the modality
                    parameter.grad.copy_(a + agreement * b)
        if len(step.modalities) > 1:
            self.means.add({f"{self.name}/head": torch.stack([g.norm() for g in joint["head"]]).norm()})


class DetachedHead(Modulation):
    """Encoders learn from their own losses through a frozen head, the head from the joint loss alone."""

    name = "detached_head"
    phase = "features"
    alpha = 2.0

    def needs(self, modalities):
        return Needs(fuse=True, features_only=True)

    def modulate_features(self, features, batch, keep_mask, step):
        return {name: feature.detach() for name, feature in features.items()}

    def forward_losses(self, features, batch, step):
        losses = {}
        for name, feature in batch.features.items():
            logits = batch.fuse({name: feature}, parameters="detached")
            losses[name] = self.alpha * batch.loss(logits, batch.present(name))
        return losses


class OneATurn(Modulation):
    """Trains one encoder a turn, on each batch as many turns as there are modalities."""

    name = "one_a_turn"
    phase = "freeze"

    def needs(self, modalities):
        return Needs(gradients=True, separate_encoders=True, steps_per_batch=len(modalities))

    def modulate_gradients(self, gradients, step):
        for turn, name in enumerate(step.modalities):
            if turn != step.turn:
                for parameter in gradients.parameters[name]:
                    parameter.grad = None


class HardTwice(Modulation):
    """Reads the half of the samples that are predicted worst twice, once with one modality, and the rest never."""

    name = "hard_twice"
    phase = "data"

    def attach(self, run):
        self.run = run

    def plan_epoch(self, epoch):
        found = self.run.collect("train", ["logits", "labels", "rows"])
        scores = self.run.task.score(found["logits"], found["labels"])
        scores = scores if scores.dim() == 1 else scores.mean(1)
        count = len(scores)
        hard = found["rows"][scores.argsort()[: (count + 1) // 2]]
        keep = torch.ones(count, len(self.means.modalities), dtype=torch.bool)
        keep[len(hard) :, 1:] = False
        return EpochPlan(torch.cat([hard, hard])[:count], keep)


class OwnHeads(MultiLoss):
    """Multi-loss with a classifier per modality."""

    name = "own_heads"
    example_options: ClassVar = {"heads": "own"}


class RegulatesAtOnce(InfoReg):
    """InfoReg with the traces of two epochs behind it, so that a short training meets the regulation."""

    def forget(self):
        super().forget()
        self._traces = [torch.tensor(1.0), torch.tensor(1.0)]


METHODS = (UnimodalLoss, TwoGradients, DetachedHead, OneATurn, HardTwice, OwnHeads)
PROOF_METHODS = {method.name: method for method in METHODS}
