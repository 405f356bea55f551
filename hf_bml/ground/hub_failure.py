"""What to say of a model, a tokenizer or a data set that could not be loaded, such as from the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator

OFFLINE = "offline mode is on (HF_HUB_OFFLINE)"
REASONS = {  # by the name of an error of huggingface_hub or requests; their texts are paragraphs
    "OfflineModeIsEnabled": OFFLINE,
    "GatedRepoError": "its owner must grant you access",
    "RepositoryNotFoundError": "there is none of this name, or it is private",
    "DatasetNotFoundError": "there is none of this name, or it is private",
    "HFValidationError": "there is no such folder",
    "RevisionNotFoundError": "it has no such revision",
    "EntryNotFoundError": "it lacks the file that was asked for",
    "LocalEntryNotFoundError": "the Hub cannot be reached, and the cache does not hold it",
    "ConnectionError": "the Hub cannot be reached",
    "ConnectError": "the Hub cannot be reached",
}


def not_loaded(what: str, source: str, error: BaseException) -> str:
    """A sentence for people: which thing, why, and what to do.

    Args:
        what: such as "the tokenizer".
        source: the id or path that was given.
        error: that of the library, whose causes tell why.

    Example:
        >>> not_loaded("the model", "nobody/nothing", OSError("not cached. Look it up."))
        "the model 'nobody/nothing' cannot be loaded, from a folder or from the Hub: not cached. Correct the name or \
path; check the network, and `hf auth login` for what is private."
    """
    return (
        f"{what} {source!r} cannot be loaded, from a folder or from the Hub: {reason_of(error)}. Correct the name or "
        "path; check the network, and `hf auth login` for what is private."
    )


def reason_of(error: BaseException) -> str:
    """Why something could not be loaded: the first of its causes in words, else the error's first sentence."""
    known = [REASONS[type(each).__name__] for each in causes(error) if type(each).__name__ in REASONS]
    return known[-1] if known else re.split(r"\. |\n", str(error))[0].rstrip(".")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
