"""What a push makes, and what a failure says."""

from __future__ import annotations

import pytest
from test_staging import MODEL, names, write

from hf_bml.hub.push import PushError, describe_failure, make_repository, push, push_command


def test_a_push_makes_repository_and_branch(own_hub, tmp_path):
    staged = write(tmp_path / "staged", MODEL)
    commit = push(staged, "model", "first", private=True)
    assert commit.repo_url.repo_id == "user/model"
    assert own_hub.files("model", "user/model") == {name: text.encode() for name, text in MODEL.items()}
    assert own_hub.private == {("model", "user/model")} and own_hub.messages == ["first"]
    write(staged, {"config.json": '{"a": 1}'})
    push(staged, "user/model", "second", revision="tried", delete=True)
    assert own_hub.files("model", "user/model", "tried")["config.json"] == b'{"a": 1}'
    assert own_hub.files("model", "user/model")["config.json"] == b"{}"
    assert not staged.exists()


@pytest.mark.parametrize(
    ("repo_id", "failure", "message"),
    [
        ("user/m", ("POST", "/commit/", 500, True), r"refuses to take user/m \(HTTP 500\)"),
        (
            "user/m",
            ("POST", "/repos/create", 401, True),
            r"\(HTTP 401\): log in with `hf auth login`, or set HF_TOKEN",
        ),
        ("user/m", ("POST", "/commit/", 403, True), r"\(HTTP 403\): the token must have the right to write there"),
        ("user/m", ("POST", "/commit/", None, True), r"the connection to the Hub failed while user/m was pushed"),
        ("other/m", None, r"other/m \(HTTP 403\): .*is the name of the repository your own\?"),
        ("not a name", None, r"not a name cannot be pushed: Repo id must"),
    ],
)
def test_failures_are_one_line_and_leave_the_folder(own_hub, tmp_path, repo_id, failure, message):
    own_hub.failures += [failure] if failure else []
    staged = write(tmp_path / "staged", MODEL)
    with pytest.raises(PushError, match=message) as error:
        push(staged, repo_id, "message")
    assert "\n" not in str(error.value) and own_hub.token not in str(error.value)
    assert names(staged) == set(MODEL)


def test_somebody_elses_repository_that_exists(own_hub, tmp_path):
    own_hub.add("model", "other/m", {"config.json": b"{}"})
    with pytest.raises(PushError, match=r"other/m \(HTTP 403\)"):
        push(write(tmp_path / "staged", MODEL), "other/m", "message")
    assert own_hub.files("model", "other/m") == {"config.json": b"{}"}


def test_without_network(tmp_path):
    with pytest.raises(PushError, match=r"m cannot be pushed: .*offline mode"):
        make_repository("m")


def test_other_errors_keep_their_first_line():
    assert describe_failure(RuntimeError("\nCAS error.\nmore"), "a/b") == "a/b cannot be pushed: CAS error."
    assert describe_failure(ValueError(), "a/b") == "a/b cannot be pushed: ValueError."


def test_the_command_can_be_pasted():
    command = push_command("runs/my run", "me/x", True, "v2")
    assert command == "hf-bml push 'runs/my run' --repo-id me/x --private --revision v2"
    assert push_command("run", "me/x", code=False) == "hf-bml push run --repo-id me/x --without-code"
