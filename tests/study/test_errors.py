from __future__ import annotations

import os

import datasets
import pytest

from hf_bml.study.errors import BAD_INPUT, NOBODY_READS, OneLineErrors, command, one_line, print_error, quiet_libraries

WORKER = """Caught ValueError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "worker.py", line 1, in _worker_loop
ValueError: modality 'audio': expected finite values
"""


def test_texts_of_several_lines_become_one():
    assert one_line(ValueError("a\n  b\n")) == "a b"
    assert one_line(ValueError(WORKER)) == "modality 'audio': expected finite values"


@pytest.mark.parametrize(("rank", "printed"), [("0", "prog: text\n"), ("1", "")])
def test_only_the_main_process_prints(monkeypatch, capsys, rank, printed):
    monkeypatch.setenv("RANK", rank)
    print_error("prog", ValueError("text"))
    assert capsys.readouterr().err == printed


def test_parser_raises():
    parser = OneLineErrors(prog="prog")
    parser.add_argument("--number", type=int)
    with pytest.raises(ValueError, match=r"invalid int value: 'x'\. See prog --help\."):
        parser.parse_args(["--number", "x"])


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_log_file_gets_no_bars_of_datasets(monkeypatch, is_terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    datasets.enable_progress_bars()
    try:
        quiet_libraries()
        assert datasets.are_progress_bars_disabled() != is_terminal
    finally:
        datasets.disable_progress_bars()  # as in all tests


@pytest.mark.parametrize("is_text_only", [True, False])
def test_a_reader_that_leaves_ends_a_command_without_a_word(monkeypatch, capfd, is_text_only):
    class Closed:
        def write(self, text):
            raise BrokenPipeError

        def fileno(self):
            return unread

    with open(os.devnull, "w") as some:
        unread = some.fileno()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", Closed())
            assert command("listing", is_text_only=is_text_only)(lambda arguments: "text")([]) == NOBODY_READS
    assert capfd.readouterr() == ("", "")


def test_another_broken_pipe_is_an_error(capsys):
    def broken(arguments):
        raise BrokenPipeError(32, "Broken pipe", "worker")

    assert command("listing")(broken)([]) == BAD_INPUT
    assert "hf-bml listing: " in capsys.readouterr().err
