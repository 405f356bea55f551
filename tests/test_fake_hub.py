"""The fake Hub speaks the protocol: what huggingface_hub and datasets send and ask for arrives."""

from __future__ import annotations

import json
import subprocess
import sys

CLIENT = """
import json, pathlib, sys
import huggingface_hub as hub
from datasets import Dataset, load_dataset

api = hub.HfApi()
facts = {"whoami": api.whoami()["name"]}
facts["url"] = str(api.create_repo("model"))
api.create_repo("model", exist_ok=True)
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
(folder / "config.json").write_text("{}")
(folder / "model.safetensors").write_bytes(bytes(2_000_000))
first = api.upload_folder(repo_id="user/model", folder_path=folder).oid
second = api.upload_file(repo_id="user/model", path_or_fileobj=b"new", path_in_repo="sub/notes.txt").oid
facts["files"] = api.list_repo_files("user/model")
facts["old_files"] = api.list_repo_files("user/model", revision=first)
facts["notes"] = pathlib.Path(hub.hf_hub_download("user/model", "sub/notes.txt", revision=second)).read_text()
facts["size"] = pathlib.Path(hub.hf_hub_download("user/model", "model.safetensors")).stat().st_size
facts["absent"] = api.file_exists("user/model", "absent.txt")
facts["no_repo"] = api.repo_exists("user/absent")
Dataset.from_dict({"text": ["a", "b"]}).push_to_hub("user/texts")
facts["texts"] = load_dataset("user/texts", split="train")["text"][:]
facts["streamed"] = [row["text"] for row in load_dataset("user/texts", split="train", streaming=True)]
api.create_repo("fragile")
for name in ("refused", "dropped", "stored"):
    try:
        api.upload_file(repo_id="user/fragile", path_or_fileobj=b"x", path_in_repo="x.txt")
    except Exception as error:
        facts[name] = getattr(getattr(error, "response", None), "status_code", type(error).__name__)
print(json.dumps(facts))
"""


def test_models_and_datasets_go_there_and_back(fake_hub, tmp_path):
    fake_hub.failures += [("POST", "/api/models/user/fragile/commit", status) for status in (500, None)]
    process = subprocess.run(
        [sys.executable, "-c", CLIENT, str(tmp_path / "folder")],
        env=fake_hub.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert json.loads(process.stdout.splitlines()[-1]) == {
        "whoami": "user",
        "url": f"{fake_hub.endpoint}/user/model",
        "files": ["config.json", "model.safetensors", "sub/notes.txt"],
        "old_files": ["config.json", "model.safetensors"],
        "notes": "new",
        "size": 2_000_000,
        "absent": False,
        "no_repo": False,
        "texts": ["a", "b"],
        "streamed": ["a", "b"],
        "refused": 500,
        "dropped": "RemoteProtocolError",
    }
    assert fake_hub.files("model", "user/model")["sub/notes.txt"] == b"new"
    assert len(fake_hub.large_files) == 2  # the weights and the parquet file
    assert fake_hub.files("model", "user/fragile") == {"x.txt": b"x"}


def test_nothing_is_written_without_the_token(fake_hub, tmp_path):
    environment = {**fake_hub.environment(tmp_path), "HF_TOKEN": "hf_other"}
    code = "import huggingface_hub; huggingface_hub.HfApi().create_repo('model')"
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1 and "401" in process.stderr
    assert not fake_hub.repositories
