# %% [markdown]
# # From raw clips to a verdict
#
# A tour in ten cells; open it in VS Code or Jupyter, or run it: `python recipes/tour.py` (a minute on 2 cores). It
# trains on `digits`, which comes with the package: spoken and handwritten digits, built to show the effect of
# balancing, and so evidence for nothing. Everything lands in the folder `tour`.

# %% 1. Raw clips: a sound and a picture per row
from __future__ import annotations

import json
from pathlib import Path

from transformers import pipeline

import hf_bml
from hf_bml.cli import main
from hf_bml.data import load_multimodal_dataset

EPOCHS = 12
raw = load_multimodal_dataset("digits")
print(raw)

# %% 2. What a clip is
clip = raw["test"][0]
print({name: type(value).__name__ for name, value in clip.items()}, "class", clip["labels"])

# %% 3. What the encoders see: a log spectrogram and an image, each a tensor
sound = {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.3, "window_length": 128, "overlap": 64}
image = {"type": "frames", "size": 8, "num_channels": 1}
processor = hf_bml.MultimodalProcessor({"audio": sound, "visual": image})
prepared = processor.prepare(audio=clip["audio"], visual=clip["visual"])
print({name: tuple(value.shape) for name, value in prepared.items()})

# %% 4. A model: an encoder per modality, and a head that says what each modality predicts by itself
conv = {"type": "conv", "in_channels": 1, "channels": [16, 32, 64]}
model = hf_bml.MultimodalForClassification(
    hf_bml.MultimodalConfig(modalities={"audio": conv, "visual": conv}, num_labels=10)
)
output = model.eval()(**prepared)
print(tuple(output.logits.shape), {name: tuple(own.shape) for name, own in output.unimodal_logits.items()})

# %% 5. Plain joint training. A recipe has data, processors and model of the cells above in 20 lines of YAML.
runs = {"plain": "none", "balanced": "balanced"}
common = ["--num_train_epochs", str(EPOCHS), "--disable_tqdm", "true"]
main(["recipes", "show", "digits/concat"])
main(["train", "digits/concat", *common, "--output_dir", "tour/plain"])

# %% 6. The same with balancing: each modality's own loss, and modalities that are dropped at random
main(["train", "digits/concat", *common, "--modulations", "balanced", "--output_dir", "tour/balanced"])

# %% 7. The discrepancy ratios: how far a modality is ahead of the other one in training; 1 is balance
for name in runs:
    history = json.loads(Path("tour", name, "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    print(name, [round(entry["balance/ratio_audio"], 2) for entry in history if "balance/ratio_audio" in entry])

# %% 8. Predict with a modality missing
for name in runs:
    classifier = pipeline("multimodal-classification", model=f"tour/{name}")
    print(name, classifier({"visual": clip["visual"]}, top_k=2))

# %% 9. What is left when a modality is noisy or missing
main(["robustness", "tour/plain", "tour/balanced"])

# %% 10. The verdict, with every figure: open tour/report/report.html
main(["report", "tour/plain", "tour/balanced", "--output", "tour/report"])
