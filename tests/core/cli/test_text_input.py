"""What the command line does with odd arguments, pipes and files: a text, or one plain sentence."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pass_core.cli.main import main
from tests import tiny

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on disk."""
    return tiny.save(tiny.tiny_llama(tokenizer=True, context=512), tmp_path_factory.mktemp("text") / "tiny")


def pass_core(
    *arguments: str | bytes | Path, stdin: bytes = b"", shell: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """A command; in a process of its own where something follows it in a shell, or the environment is another."""
    if not shell and not environment:
        return in_this_process([os.fsdecode(a) for a in arguments], stdin)
    command: list[str | bytes | Path] = [sys.executable, "-m", "pass_core", *arguments]
    if shell:
        command = ["/bin/sh", "-c", '"$@" ' + shell, "sh", *command]
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        cwd=REPOSITORY,
        check=False,
    )


def in_this_process(arguments: list[str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    """The same as a process sees it: argument bytes as surrogates, streams with buffers below them."""
    out, err = io.BytesIO(), io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        patch.setattr("sys.stdout", io.TextIOWrapper(out, write_through=True))
        patch.setattr("sys.stderr", io.TextIOWrapper(err, write_through=True))
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        code = int(ended.value.code or 0)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def generate(folder: Path, *more: str | bytes, **options: object) -> subprocess.CompletedProcess[bytes]:
    fixed = ("--model", folder, "--device", "cpu", "--dtype", "float32", "--max-new-tokens", "4", "-q")
    return pass_core("generate", *fixed, *more, **options)  # type: ignore[arg-type]


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one sentence of a refusal."""
    said = done.stderr.decode().strip()
    assert done.returncode == 1, said
    assert said.startswith("Error: ")
    assert "Traceback" not in said
    assert "Unexpected" not in said
    assert "\n" not in said
    return said


def text(done: subprocess.CompletedProcess[bytes]) -> str:
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_bytes_that_are_no_utf8_count_as_replacement_characters_wherever_they_come_from(folder: Path) -> None:
    expected = text(generate(folder, "--prompt", "a\ufffdb"))
    assert text(generate(folder, "--prompt", b"a\xffb")) == expected
    assert text(generate(folder, "--prompt", b"a\xffb", "--stop", b"\xff\xfe", LC_ALL="C")) == expected
    assert text(generate(folder, stdin=b"a\xffb")) == expected
    assert text(generate(folder, stdin="a\ufffdb".encode("utf-16"))) == expected


def test_the_c_locale_changes_nothing(folder: Path) -> None:
    ours = text(generate(folder, "--prompt", "café 😀"))
    assert text(generate(folder, "--prompt", "café 😀", LC_ALL="C")) == ours
    assert (
        text(generate(folder, stdin="café 😀".encode(), LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"))
        == ours
    )


def test_piped_binary_is_refused(folder: Path) -> None:
    assert "no text" in complaint(generate(folder, stdin=b"\x7fELF\0\0\0"))


@pytest.mark.parametrize("arguments", [("--prompt", ""), ("--prompt", "", "--chat"), ("--prompt", "-")])
def test_an_empty_prompt_is_an_error(folder: Path, arguments: tuple[str, ...]) -> None:
    assert "prompt is empty" in complaint(generate(folder, *arguments))


def test_seeds_are_taken_modulo_two_to_the_64(folder: Path) -> None:
    for strategy in ("pass", "transformers-prompt-lookup"):
        one, other, negative, most = (
            text(generate(folder, "--prompt", "Hello", "--strategy", strategy, f"--seed={seed}"))
            for seed in (5, 5 + 2**64, -1, 2**64 - 1)
        )
        assert one == other
        assert negative == most


def test_there_is_one_cpu(folder: Path) -> None:
    assert "There is no cpu:7" in complaint(generate(folder, "--prompt", "Hello", "--device", "cpu:7"))
    assert text(generate(folder, "--prompt", "Hello", "--device", "cpu:0"))


def test_a_reader_that_leaves_is_no_error_worth_a_word(folder: Path) -> None:
    done = generate(folder, "--prompt", "Hello", "--json", shell="| head -c 1 >/dev/null")
    assert done.stderr == b""


def test_closed_and_full_outputs(folder: Path) -> None:
    closed = generate(folder, "--prompt", "Hello", shell=">&-")
    assert (closed.returncode, closed.stderr) == (0, b"")
    if Path("/dev/full").exists():
        assert "No space left" in complaint(generate(folder, "--prompt", "Hello", shell=">/dev/full"))


def test_the_version() -> None:
    for option in ("--version", "-V"):
        said = text(pass_core(option)).split()
        assert said[:2] == ["PASS", "Playground"]
        assert said[2][0].isdigit()


MISSING_MODEL = ("--model", "/nowhere/no-such-model")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("generate", "--prompt", "x", "--embeddings", "no.safetensors"), "There is no file no.safetensors"),
        (("bench", "--embeddings", "no.safetensors"), "There is no file no.safetensors"),
        (("bench", "--quick", "--json", "/proc/no/out.json"), "cannot be written"),
        (("bench", "--quick", "--figure", "/proc/no/out.svg"), "cannot be written"),
        (("verify", "--embeddings", "no.safetensors"), "There is no file no.safetensors"),
        (("verify", "--json", "/proc/no/out.json"), "cannot be written"),
        (("humaneval", "--csv", "/proc/no/out.csv"), "cannot be written"),
        (("train", "--out", "/proc/no/out.safetensors"), "cannot be written"),
        (("train", "--out", "{tmp}/out.safetensors", "--data", "/nowhere/texts"), "no file, folder or data set"),
        (("train", "--out", "{tmp}/out.safetensors", "--init", "no.safetensors"), "There is no file no.safetensors"),
    ],
)
def test_files_are_looked_at_before_the_model(command: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """The model does not exist either: whatever is complained of was looked at first."""
    filled = [part.replace("{tmp}", str(tmp_path)) for part in command]
    assert said in complaint(pass_core(*filled, *MISSING_MODEL))
    assert list(tmp_path.iterdir()) == []


def test_the_verdict_is_shown_although_it_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    """The folder vanishes between the look before the work and the write after it."""
    target = tmp_path / "gone" / "out.json"
    target.parent.mkdir()
    code = (
        "import sys, shutil\n"
        "from pass_core.cli import verify\n"
        "from pass_core.cli.main import main\n"
        "run = verify._run\n"
        "def then_break(*given):\n"
        "    result = run(*given)\n"
        f"    shutil.rmtree({str(target.parent)!r}); open({str(target.parent)!r}, 'w').close()\n"
        "    return result\n"
        "verify._run = then_break\n"
        "main(sys.argv[1:])\n"
    )
    fixed = ["verify", "--quick", "--proofs", "greedy", "--prompts", "1", "--tokens", "4", "--json", str(target)]
    done = subprocess.run(
        [sys.executable, "-c", code, *fixed, "--model", str(folder), "--device", "cpu", "-q"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr.decode()
    assert "✓" in done.stdout.decode()
    assert len(done.stdout.decode().strip().splitlines()[-1]) > 20  # the verdict
