"""From a user's own file to the model, and the processor's way to the Hub and back."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import huggingface_hub
import pytest
import torch
from media_samples import write_clip
from transformers import AutoModel, AutoProcessor

from hf_bml import MultimodalConfig, MultimodalForClassification, MultimodalProcessor

PROCESSORS = {
    "audio": {"type": "log_spectrogram"},
    "visual": {"type": "video", "num_frames": 3, "size": 32, "augment": "crop_flip"},
}
ENCODERS = {
    "audio": {"type": "conv", "in_channels": 1, "channels": [4, 8]},
    "visual": {"type": "conv", "in_channels": 3, "channels": [4, 8]},
}


def model(*modalities):
    torch.manual_seed(0)
    config = MultimodalConfig(modalities={name: ENCODERS[name] for name in modalities}, num_labels=4)
    return MultimodalForClassification(config).eval()


@pytest.fixture
def saved(tmp_path):
    """Folder of a model with its processor."""
    model("audio", "visual").save_pretrained(tmp_path / "model")
    MultimodalProcessor(PROCESSORS).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.parametrize(
    "name", ["bento.mp4", "flipping_a_pancake.mkv", "grid_s1_bbaf2n.mpg", "mmaction2_test.avi", "nasa_13013.mp4"]
)
def test_a_users_own_video(saved, require_data_file, name):
    video = require_data_file(f"clips/{name}")
    processor = AutoProcessor.from_pretrained(saved)
    trained = AutoModel.from_pretrained(saved)
    batch = processor.prepare(audio=video, visual=video)
    assert batch["audio"].shape == (1, 1, 257, 299) and batch["visual"].shape == (1, 3, 3, 32, 32)
    with torch.no_grad():
        output = trained(**batch)
        assert output.logits.shape == (1, 4) and output.logits.isfinite().all()
        torch.testing.assert_close(trained(**processor.prepare(audio=str(video), visual=video)).logits, output.logits)


def test_absent_modalities(saved, require_data_file, tmp_path):
    video = require_data_file("clips/mmaction2_demo_noaudio.mp4")
    trained = AutoModel.from_pretrained(saved)
    strict = AutoProcessor.from_pretrained(saved)
    lenient = MultimodalProcessor(PROCESSORS, on_error="mask")
    outputs = []
    for batch in (strict.prepare(visual=video), lenient.prepare(audio=video, visual=video)):
        assert batch["audio"] is None and "modality_mask" not in batch
        output = trained(**batch)
        assert output.modality_mask.tolist() == [[False, True]]
        outputs.append(output.logits)
    torch.testing.assert_close(*outputs)
    given = trained(**strict.prepare(audio=write_clip(tmp_path / "a.mp4"), visual=video)).logits
    assert not torch.allclose(given, outputs[0])
    with pytest.raises(ValueError, match=r"modality 'audio': .*noaudio\.mp4: expected an audio stream"):
        strict.prepare(audio=video, visual=video)
    with pytest.raises(ValueError, match="at least one of the modalities"):
        lenient.prepare(audio=video)
    with pytest.raises(ValueError, match=r"Expected modalities among \['audio', 'visual'\], found \['image'\]"):
        strict.prepare(image=video)


def test_the_order_of_a_processors_modalities_does_not_matter(saved, require_data_file):
    video = require_data_file("clips/mmaction2_demo_noaudio.mp4")
    trained = AutoModel.from_pretrained(saved)
    turned = MultimodalProcessor(dict(reversed(PROCESSORS.items())))
    expected = trained(**MultimodalProcessor(PROCESSORS).prepare(visual=video)).logits
    torch.testing.assert_close(trained(**turned.prepare(visual=video)).logits, expected)


def test_text_image_and_features(tokenizer_path, tmp_path):
    from PIL import Image

    Image.new("RGB", (20, 30)).save(tmp_path / "photo.png")
    processor = MultimodalProcessor(
        {
            "text": {"type": "tokens", "tokenizer": tokenizer_path},
            "visual": {"type": "frames", "size": 16},
            "sensor": {"type": "features"},
        }
    )
    batch = processor.prepare(text="the cat", visual=tmp_path / "photo.png", sensor=[[1.0, 2.0], [3.0, 4.0]])
    assert batch["text"]["input_ids"].tolist() == [[2, 3]] and batch["text"]["attention_mask"].tolist() == [[1, 1]]
    assert batch["visual"].shape == (1, 3, 16, 16)
    assert batch["sensor"]["values"].shape == (1, 2, 2) and batch["sensor"]["mask"].all()
    assert "modality_mask" not in batch


def test_a_config_without_class_name_is_found_by_the_models_type(saved):
    path = f"{saved}/processor_config.json"
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    del config["processor_class"]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)
    assert isinstance(AutoProcessor.from_pretrained(saved), MultimodalProcessor)


class Hub(BaseHTTPRequestHandler):
    """Three endpoints of the Hub: create a repository, announce files, commit them."""

    files: dict = {}  # noqa: RUF012

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/api/repos/create":
            answer = {"url": f"http://{self.headers['Host']}/user/model", "name": "user/model", "id": "user/model"}
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            answer = {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
        else:
            entries = [json.loads(line) for line in body.splitlines()]
            for entry in entries:
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"http://{self.headers['Host']}/user/model/commit/abc"
            answer = {"commitUrl": url, "commitOid": "abc", "success": True}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        """Quiet."""


def test_push_to_hub(monkeypatch, tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        processor = MultimodalProcessor(PROCESSORS, on_error="mask")
        assert "commit/abc" in processor.push_to_hub("user/model", token="none")
    finally:
        server.shutdown()
    (tmp_path / "processor_config.json").write_bytes(Hub.files["processor_config.json"])
    assert MultimodalProcessor.from_pretrained(tmp_path).to_dict() == processor.to_dict()
