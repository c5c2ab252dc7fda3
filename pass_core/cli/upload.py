"""`train --push`: offers to upload a look-ahead file, and uploads it once somebody has agreed."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from pass_core.cli.console import amount, note, progress_display, stdout_console
from pass_core.cli.interrupt import interrupt_cancels
from pass_core.progress import CancelToken
from pass_core.training.config import TrainingError


@dataclass(frozen=True, slots=True)
class Upload:
    """Where a file goes, and whether that was agreed to when the command was typed."""

    repo: str
    yes: bool

    @classmethod
    def checked(cls, repo: str, *, yes: bool) -> Upload:
        """Before a long training: the name, the login, and that somebody can be asked.

        Raises:
            ModelNotFound, ModelGated: as `check_push`.
            TrainingError: nobody can be asked, and --yes was not given.
        """
        from pass_core.models.lookahead_push import check_push

        if not yes and not sys.stdin.isatty():
            raise TrainingError("--push asks before it uploads, and there is no terminal to ask on. Add --yes.")
        return cls(check_push(repo), yes)

    def offer(self, path: Path) -> None:
        """Show what would be uploaded, ask, and upload.

        Raises:
            ModelError: nothing was uploaded. Cancelled.
        """
        from pass_core.lookahead.card import model_card
        from pass_core.lookahead.format import load_lookahead
        from pass_core.models.lookahead_push import push_lookahead

        console = stdout_console()
        card = model_card(load_lookahead(path), f"hf:{self.repo}/{path.name}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = amount(path.stat().st_size, "B")
        console.print(f"{path} ({size}, SHA-256 {digest[:16]}…), with this card:", markup=False)
        console.print("".join(f"  {line}\n" for line in card.splitlines()), markup=False)
        if not self.yes:
            asked = f"A new repository is public. Type {self.repo} to upload, anything else to keep the file here"
            if typer.prompt(asked, default="", show_default=False).strip() != self.repo:
                note(f"Nothing was uploaded. The file is {path}.")
                return
        cancel = CancelToken()
        with interrupt_cancels(cancel), progress_display() as progress:
            url = push_lookahead(self.repo, path, card, progress, cancel)
        console.print(f"Uploaded: {url}. Load it with --embeddings hf:{self.repo}/{path.name}.", markup=False)
