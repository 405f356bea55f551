"""`hf-bml push RUN_DIR --repo-id OWNER/NAME`: a finished run to the Hub, with its card."""

from __future__ import annotations

import sys
from pathlib import Path

from ..hub.push import PushError
from ..hub.run_folder import push_run
from ..study.command_lines import card_parser
from ..study.errors import command


@command("push", PushError)
def main(arguments: list[str]) -> None:
    """Pushes a run and says where; a push that fails is one line, too."""
    parser = card_parser(
        prog="hf-bml push",
        description="Pushes a run's model, processor, card and curves. The token is that of HF_TOKEN or `hf auth "
        "login`. The repository is made if needed. The run's folder stays as it is.",
    )
    parser.add_argument("--repo-id", required=True, help="OWNER/NAME, or NAME for your own")
    parser.add_argument("--private", action="store_true", default=None, help="if the repository is made here")
    parser.add_argument("--revision", help="branch, which is made if needed (default: main)")
    parser.add_argument("--checkpoints", action="store_true", help="with all checkpoints and their optimizer states")
    parser.add_argument(
        "--with-code",
        action="store_true",
        default=True,
        help="which is the default: trust_remote_code loads the model where hf_bml is not installed",
    )
    parser.add_argument("--without-code", dest="with_code", action="store_false", help="leave the code out")
    parser.add_argument("--card", type=Path, help="a card of your own instead of the run's")
    parser.add_argument("--message", default="Upload model", help="of the commit (default: %(default)s)")
    commit = push_run(**vars(parser.parse_args(arguments)))
    print(f"pushed to {commit.repo_url}, commit {commit.oid}")


if __name__ == "__main__":
    sys.exit(main())
