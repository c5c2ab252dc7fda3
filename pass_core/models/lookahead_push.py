"""Uploading a look-ahead file to the Hugging Face hub, with a model card written from its metadata.

Run as `python -m pass_core.models.lookahead_push REPO FILE CARD`. A README.md of somebody else's words stays: the card
then lies beside the file, as FILE.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pass_core.lookahead.card import MARK
from pass_core.models import children, hub
from pass_core.models.errors import ModelGated, ModelNotFound
from pass_core.models.hub_names import PREFIX, parse_hub_name
from pass_core.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from huggingface_hub import HfApi

README = "README.md"
_LARGEST_CARD = 1_000_000  # bytes


def check_push(repo: str) -> str:
    """What can be found out before a long training: the repository's name without “hf:”.

    Raises:
        ModelNotFound: the name is none.
        ModelGated: nobody is logged in.
    """
    from huggingface_hub import get_token

    named = parse_hub_name(repo if repo.startswith(PREFIX) else PREFIX + repo)
    if named.file:
        raise ModelNotFound(f"“{repo[:200]}” names a file. Give --push the repository alone: {named.repo}.")
    if not get_token():
        raise ModelGated("Nobody is logged in to the hub. Log in with “hf auth login”, then give --push again.")
    return named.repo


def push_lookahead(
    repo: str, path: Path, card: str, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> str:
    """Upload a file and its card in one commit; the repository is made where it is missing (public).

    Returns:
        the commit's address.

    Raises:
        Cancelled; ModelGated, ModelNotFound, ModelOffline, ModelError: nothing was uploaded.
    """
    return str(children.run_job("pass_core.models.lookahead_push", [repo, str(path), card], progress, cancel))


# --- the child's side ------------------------------------------------------------------------------------------------


def _push(repo: str, path: Path, card: str) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    children.say(stage=f"Uploading {path.name} to {repo}", done=0, total=None, unit="B")
    api = HfApi()
    api.create_repo(repo, exist_ok=True)
    operations = [
        CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=str(path)),
        CommitOperationAdd(path_in_repo=_place(api, repo, path), path_or_fileobj=card.encode()),
    ]
    done = api.create_commit(repo, operations, commit_message=f"Look-ahead embeddings: {path.name}")
    return str(done.commit_url)


def _place(api: HfApi, repo: str, path: Path) -> str:
    """The name that the card gets in the repository."""
    from huggingface_hub import hf_hub_download

    sizes = {s.rfilename: s.size or 0 for s in api.model_info(repo, files_metadata=True).siblings or []}
    if README not in sizes:
        return README
    ours = False
    if sizes[README] <= _LARGEST_CARD:
        ours = MARK in Path(hf_hub_download(repo, README)).read_text(encoding="utf-8", errors="replace")
    return README if ours else f"{path.stem}.md"


def _main(repo: str, path: str, card: str) -> None:
    children.leave_with_parent()
    try:
        url = _push(repo, Path(path), card)
    except Exception as error:
        hub.fail(error, repo, "push it later: the file is on this machine")
    children.say(result=url)


if __name__ == "__main__":
    _main(*sys.argv[1:4])
