"""Small trainings of methods that learn from models of one modality each."""

from __future__ import annotations

from tiny_images import tiny_image_dataset, tiny_image_model

from hf_bml import MultimodalBalancedTrainer

NAMES = ("audio", "visual")


def save_teachers(folder, student=None, **options):
    """Saves a model of each modality and says where; their encoders are those of `student` if it is given."""
    folders = {}
    for name in NAMES:
        teacher = tiny_image_model((name,), seed=1, **options)
        if student is not None:
            teacher.encoders[name].load_state_dict(student.encoders[name].state_dict())
        folders[name] = str(folder / name)
        teacher.save_pretrained(folders[name])
    return folders


def taught_trainer(model, args, folders):
    args.trained_alone = folders
    return MultimodalBalancedTrainer(model, args, train_dataset=tiny_image_dataset())


def loaded(trainer):
    """The teachers of the only method."""
    [method] = trainer.modulation
    return method._teachers._models
