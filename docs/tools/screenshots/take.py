"""Takes the pictures of the Generate page in this folder: python docs/tools/screenshots/take.py [NAME ...]."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SIZE = ["--size", "1280x800"]
RUN = ["--run", "--exit-after-run", "--max-new-tokens", "160"]
PICTURES: dict[str, list[str]] = {
    "generate-before": [*SIZE],
    "generate-during": [*SIZE, *RUN, "--screenshot-after", "70"],
    "generate-after": [*SIZE, *RUN],
    "generate-hover": [*SIZE, *RUN, "--hover", "38", "--ghosts"],
    "generate-two-call": [*SIZE, *RUN, "--strategy", "pass-two-call", "--ghosts"],
}


def main() -> int:
    wanted = sys.argv[1:] or list(PICTURES)
    for name in wanted:
        for theme in ("light", "dark"):
            picture = ROOT / "docs" / "screenshots" / f"{name}-{theme}.png"
            command = [sys.executable, "main.py", "--theme", theme, "--screenshot", str(picture), *PICTURES[name]]
            done = subprocess.run(command, cwd=ROOT, check=False)
            print(f"{picture.name}: {'ok' if done.returncode == 0 else f'exit code {done.returncode}'}", flush=True)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
