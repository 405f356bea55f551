"""A Hub on this machine, as far as huggingface_hub, datasets and transformers talk to it: repositories in memory.

    with FakeHub() as hub:
        hub.add("dataset", "user/clips", {"data/train-00000.parquet": data})
        subprocess.run([sys.executable, "-c", code], env=hub.environment(tmp_path))

Only what belongs to USER can be written, private repositories are only read with the token, and branches are made, not
deleted. It answers "regular" for files below 1 MB that are no parquet, "lfs" for others, and never speaks xet. What it
proves is that our calls fit the protocol, not what the real server allows.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

USER = "user"
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
API = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/(\w[\w-]*)(?:/([^/]+))?(?:/(.*))?)?$")
RESOLVE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
LFS = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch$")
LFS_SIZE = 1_000_000
COMMITTED = {"size": len, "oid": lambda data: hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}


class FakeHub:
    """Serves until the `with` block ends.

    Attributes:
        repositories: `{(kind, id): [files of each commit, oldest first]}`, files as `{path: bytes}`; kind is "model",
            "dataset" or "space".
        branches: `{(kind, id): {branch: position of its newest commit}}`.
        private: `(kind, id)` of those that only the token's owner sees.
        messages: The messages of all commits.
        requests: Every request, as "METHOD /path".
        failures: `(method, part of the path, status)` of requests to refuse, each once; status None drops the
            connection. A fourth element True: each time.
        token: What a client must send to write.
    """

    token = "hf_fake"

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], list[dict[str, bytes]]] = {}
        self.branches: dict[tuple[str, str], dict[str, int]] = {}
        self.private: set[tuple[str, str]] = set()
        self.messages: list[str] = []
        self.large_files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.failures: list[tuple] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, kind: str, repo_id: str, files: dict[str, bytes]) -> str:
        """Commits files to a repository, which is made if needed; returns the commit."""
        self.make(kind, repo_id)
        return self.append(kind, repo_id, "main", {**self.files(kind, repo_id), **files})

    def make(self, kind: str, repo_id: str) -> bool:
        """Makes an empty repository; returns whether there was one."""
        exists = (kind, repo_id) in self.repositories
        self.repositories.setdefault((kind, repo_id), [{}])
        self.branches.setdefault((kind, repo_id), {"main": 0})
        return exists

    def append(self, kind: str, repo_id: str, branch: str, files: dict[str, bytes]) -> str:
        """Adds a commit to a branch and returns its name."""
        commits = self.repositories[kind, repo_id]
        commits.append(files)
        self.branches[kind, repo_id][branch] = len(commits) - 1
        return self.commit_name(kind, repo_id, len(commits) - 1)

    def files(self, kind: str, repo_id: str, branch: str = "main") -> dict[str, bytes]:
        """Files of the newest commit of a branch."""
        return self.repositories[kind, repo_id][self.branches[kind, repo_id][branch]]

    def commit_name(self, kind: str, repo_id: str, position: int) -> str:
        """Forty hexadecimal digits, as git names commits."""
        return hashlib.sha1(f"{kind} {repo_id} {position}".encode()).hexdigest()

    def environment(self, home: Path) -> dict[str, str]:
        """Environment of a process that takes this for the Hub; its caches are below `home`."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_HUB_", "HF_DATASETS_"))}
        return {
            **kept,
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


class Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.handle_request()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def handle_request(self) -> None:
        """Finds the endpoint."""
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.query = parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        for failure in self.hub.failures:
            method, part, status, *always = failure
            if method == self.command and part in path:
                if not always:
                    self.hub.failures.remove(failure)
                if status is None:
                    self.close_connection = True
                    return
                return self.answer({"error": "refused by the test"}, status)
        writes = self.command != "GET" and self.command != "HEAD" and "paths-info" not in path
        self.is_owner = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if writes and not path.startswith("/lfs/") and not self.is_owner:
            return self.answer({"error": "expected a token"}, 401)
        if path.startswith("/api/repos/"):
            return self.change_repository(path.rpartition("/")[2])
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if path == "/api/whoami-v2":
            return self.answer({"name": USER, "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})
        if path.startswith("/lfs/") and self.command == "PUT":
            self.hub.large_files[path.removeprefix("/lfs/")] = self.body
            return self.answer({})
        if match := LFS.match(path):
            return self.lfs_batch()
        if match := RESOLVE.match(path):
            return self.resolve(KINDS[match[1] or "models"], *match.groups()[1:])
        if match := API.match(path):
            return self.repository(KINDS[match[1]], match[2], match[3] or "", match[4] or "main", match[5] or "")
        self.answer({"error": f"no endpoint {path}"}, 404)

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Sends JSON or bytes."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def change_repository(self, action: str) -> None:
        """Makes or deletes one."""
        request = json.loads(self.body)
        kind = request.get("type") or "model"
        repo_id = (
            request["name"] if "/" in request["name"] else f"{request.get('organization') or USER}/{request['name']}"
        )
        prefix = "" if kind == "model" else f"{kind}s/"
        if not repo_id.startswith(f"{USER}/"):
            return self.answer({"error": f"no right to create or delete {repo_id}"}, 403)
        if action == "delete":
            self.hub.repositories.pop((kind, repo_id), None)
            return self.answer({})
        exists = self.hub.make(kind, repo_id)
        if not exists and (request.get("private") or request.get("visibility") == "private"):
            self.hub.private.add((kind, repo_id))
        self.answer({"url": f"{self.hub.endpoint}/{prefix}{repo_id}", "name": repo_id}, 409 if exists else 200)

    def lfs_batch(self) -> None:
        """Where to put large files."""
        objects = [
            {**entry, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{entry['oid']}"}}}
            for entry in json.loads(self.body)["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects})

    def snapshot(self, kind: str, repo_id: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a revision; answers 404 itself."""
        commits = self.hub.repositories.get((kind, repo_id), [])
        branches = self.hub.branches.get((kind, repo_id), {})
        if (kind, repo_id) in self.hub.private and not self.is_owner:
            commits = []
        names = [self.hub.commit_name(kind, repo_id, position) for position in range(len(commits))]
        if commits and revision in (*names, *branches):
            position = branches[revision] if revision in branches else names.index(revision)
            return names[position], commits[position]
        code = "RevisionNotFound" if commits else "RepoNotFound"
        self.answer({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code})
        return None

    def repository(self, kind: str, repo_id: str, action: str, revision: str, path: str) -> None:
        """What is below /api/<kind>s/<id>."""
        if action == "branch":
            return self.make_branch(kind, repo_id, revision)
        found = self.snapshot(kind, repo_id, revision)
        if found is None:
            return None
        commit, files = found
        if action in ("", "revision"):
            siblings = [{"rfilename": name} for name in sorted(files)]
            return self.answer(
                {"id": repo_id, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
            )
        if action == "refs":
            branches = [
                {
                    "name": name,
                    "ref": f"refs/heads/{name}",
                    "targetCommit": self.hub.commit_name(kind, repo_id, position),
                }
                for name, position in self.hub.branches[kind, repo_id].items()
            ]
            return self.answer({"branches": branches, "tags": [], "converts": []})
        if action == "tree":
            entries = self.entries(files, path, self.query.get("recursive", ["false"])[0].lower() == "true")
            if path and not entries:
                return self.answer({"error": "no folder"}, 404, {"X-Error-Code": "EntryNotFound"})
            return self.answer(entries)
        if action == "paths-info":
            wanted = json.loads(self.body)["paths"] if self.body[:1] == b"{" else parse_qs(self.body.decode())["paths"]
            entries = [
                entry for parent in {"", *map(os.path.dirname, wanted)} for entry in self.entries(files, parent)
            ]
            return self.answer([entry for entry in entries if entry["path"] in wanted])
        if action == "preupload":
            return self.answer({"files": [self.upload_mode(entry) for entry in json.loads(self.body)["files"]]})
        if action == "commit":
            return self.commit(kind, repo_id, revision, files)
        return self.answer({"error": f"no endpoint {action}"}, 404)

    def entries(self, files: dict[str, bytes], folder: str, recursive: bool = False) -> list[dict[str, Any]]:
        """Files and folders below a folder."""
        prefix = f"{folder}/" if folder else ""
        found: dict[str, dict[str, Any]] = {}
        for name, data in sorted(files.items()):
            if not name.startswith(prefix):
                continue
            parts = name.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                parent = prefix + "/".join(parts[:depth])
                found[parent] = {"type": "directory", "path": parent, "oid": "0" * 40, "size": 0}
            if recursive or len(parts) == 1:
                found[name] = {"type": "file", "path": name, **{key: made(data) for key, made in COMMITTED.items()}}
        return list(found.values())

    def upload_mode(self, entry: dict[str, Any]) -> dict[str, Any]:
        """How a file is to be sent."""
        large = entry["path"].endswith(".parquet") or entry["size"] > LFS_SIZE
        mode = "lfs" if large else "regular"
        return {"path": entry["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def make_branch(self, kind: str, repo_id: str, branch: str) -> None:
        """A branch that begins at main."""
        branches = self.hub.branches.get((kind, repo_id))
        if branches is None:
            return self.answer({"error": "no repository"}, 404, {"X-Error-Code": "RepoNotFound"})
        exists = branch in branches
        branches.setdefault(branch, branches["main"])
        return self.answer({}, 409 if exists else 200)

    def commit(self, kind: str, repo_id: str, branch: str, files: dict[str, bytes]) -> None:
        """One commit, as lines of JSON."""
        if not repo_id.startswith(f"{USER}/"):
            return self.answer({"error": f"no right to write to {repo_id}"}, 403)
        files = dict(files)
        for operation in map(json.loads, self.body.splitlines()):
            value = operation["value"]
            if operation["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
            elif operation["key"] == "deletedFile":
                files.pop(value["path"])
            elif operation["key"] == "deletedFolder":
                files = {name: data for name, data in files.items() if not name.startswith(value["path"])}
        commit = self.hub.append(kind, repo_id, branch, files)
        prefix = "" if kind == "model" else f"{kind}s/"
        url = f"{self.hub.endpoint}/{prefix}{repo_id}/commit/{commit}"
        return self.answer({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def resolve(self, kind: str, repo_id: str, revision: str, name: str) -> None:
        """One file, or a range of its bytes."""
        found = self.snapshot(kind, repo_id, revision)
        if found is None:
            return None
        commit, files = found
        if name not in files:
            return self.answer({"error": "no file"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        data = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{COMMITTED["oid"](data)}"', "Accept-Ranges": "bytes"}
        bounds = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if bounds is None:
            return self.answer(data, headers=headers)
        start, end = int(bounds[1]), min(int(bounds[2] or len(data) - 1), len(data) - 1)
        if start >= len(data):
            return self.answer(b"", 416, {**headers, "Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        return self.answer(data[start : end + 1], 206, headers)
