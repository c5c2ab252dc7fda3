"""The compiled library: built beside its sources, refused when it is not of them, never compiled by a run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pass_core.runtime.native import build as loader
from pass_core.runtime.native import compiler
from pass_core.runtime.native.build import find, found

CSRC = compiler.SOURCES
needs_compiler = pytest.mark.skipif(compiler.find_compiler() is None, reason="no C++ compiler on this machine")


@pytest.fixture
def small_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real sources without the large one: a library that says what it is, compiled in a moment."""
    folder = tmp_path / "csrc"
    (folder / "processor").mkdir(parents=True)
    for name in ("isa.txt", "version.cpp", "processor/processor.cpp"):
        shutil.copy(CSRC / name, folder / name)
    monkeypatch.setattr(compiler, "SOURCES", folder)
    monkeypatch.setattr(compiler, "UNITS", ("version.cpp",))
    return folder


@pytest.fixture
def built(small_sources: Path, tmp_path: Path) -> Path:
    """Libraries of the small sources."""
    compiler.build(tmp_path / "lib", everything=True, say=lambda _: None)
    return tmp_path / "lib"


def modified(paths: list[Path]) -> list[int]:
    return [p.stat().st_mtime_ns for p in paths]


@needs_compiler
def test_where_there_is_a_compiler_the_library_is_in_use() -> None:
    """Tests that need it skip without it, so its absence must not go unnoticed: run `python -m pass_core build`."""
    if loader.os.environ.get(loader.OFF_VARIABLE):
        pytest.skip("switched off")
    assert found().reason == ""
    assert found().library is not None


@needs_compiler
def test_the_best_library_that_the_processor_has_is_chosen(built: Path) -> None:
    here = compiler.processor_features(built)
    best = [s.name for s in compiler.instruction_sets() if s.needs <= here][-1]
    answer = find("", (built,))
    assert (answer.isa, answer.reason) == (best, "")
    assert answer.library is not None
    assert answer.library.pass_isa() == best.encode()


@needs_compiler
def test_each_instruction_set_that_the_processor_has_can_be_asked_for(built: Path) -> None:
    here = compiler.processor_features(built)
    for one in compiler.instruction_sets():
        answer = find(one.name, (built,))
        assert answer.isa == (one.name if one.needs <= here else "")
        assert bool(answer.reason) == (not one.needs <= here)


@needs_compiler
def test_a_second_build_leaves_current_libraries_alone(built: Path) -> None:
    said: list[str] = []
    before = modified(sorted(built.iterdir()))
    compiler.build(built, say=said.append)
    assert modified(sorted(built.iterdir())) == before
    assert said
    assert all(line.endswith("up to date") for line in said)


@needs_compiler
def test_a_library_of_other_sources_is_refused_until_it_is_built_again(built: Path, small_sources: Path) -> None:
    (small_sources / "more.h").write_text("// a change\n")
    answer = find("", (built,))
    assert answer.library is None
    assert "made from other sources" in answer.reason
    assert "python -m pass_core build" in answer.reason
    compiler.build(built, say=lambda _: None)
    assert find("", (built,)).reason == ""


@needs_compiler
def test_a_damaged_library_is_refused(built: Path) -> None:
    for path in built.glob("pass_*"):
        if "processor" not in path.name:
            path.write_bytes(b"\x7fELF broken")
    answer = find("", (built,))
    assert answer.library is None
    assert "damaged" in answer.reason


@needs_compiler
def test_libraries_that_are_ready_are_copied(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find_compiler", lambda: None)
    compiler.build(tmp_path / "wheel", ready=built, say=lambda _: None)
    assert find("", (tmp_path / "wheel",)).reason == ""


@needs_compiler
def test_a_set_that_the_compiler_cannot_make_is_left_out(small_sources: Path, tmp_path: Path) -> None:
    known = (small_sources / "isa.txt").read_text()
    (small_sources / "isa.txt").write_text(known + f"newer {compiler.this_machine()} -mno-such-thing\n")
    said: list[str] = []
    made = compiler.build(tmp_path / "lib", everything=True, say=said.append)
    assert len(made) == len(compiler.instruction_sets())  # the processor's in place of the one that failed
    assert any(line.startswith("newer: left out") for line in said)
    assert find("", (tmp_path / "lib",)).reason == ""


@needs_compiler
def test_the_best_set_alone_is_compiled_unless_all_are_asked_for(small_sources: Path, tmp_path: Path) -> None:
    """Where the compiler does not know it, the next one."""
    compiler.build(tmp_path / "first", say=lambda _: None)
    best = find("", (tmp_path / "first",)).isa
    here = compiler.processor_features(tmp_path / "first")
    assert best == [s.name for s in compiler.instruction_sets() if s.needs <= here][-1]
    assert len([p for p in (tmp_path / "first").iterdir() if "processor" not in p.name]) == 1
    known = (small_sources / "isa.txt").read_text()
    (small_sources / "isa.txt").write_text(known + f"newer {compiler.this_machine()} -fno-such-thing\n")
    compiler.build(tmp_path / "second", say=lambda _: None)
    assert find("", (tmp_path / "second",)).isa == best


def test_without_a_compiler_building_says_what_to_install(
    small_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "find_compiler", lambda: None)
    with pytest.raises(compiler.BuildError, match=r"no C\+\+ compiler.*g\+\+ or clang.*\[compiler\]"):
        compiler.build(tmp_path / "lib")


def test_an_unknown_instruction_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(compiler.BuildError, match="“sse9” is no instruction set"):
        compiler.build(tmp_path / "lib", names=["sse9"])


def test_looking_for_the_library_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    answer = find("", (tmp_path,))
    assert answer.library is None
    assert "not on this machine" in answer.reason
    assert not list(tmp_path.iterdir())


def test_a_wrong_name_in_the_variable_is_said(tmp_path: Path) -> None:
    assert "PASS_ISA is “sse9”, which is none of " in find("sse9", (tmp_path,)).reason


def test_the_processor_library_knows_every_feature_that_a_set_needs() -> None:
    source = (CSRC / "processor" / "processor.cpp").read_text()
    for machine in ("x86_64", "aarch64"):
        sets = compiler.instruction_sets(machine)
        assert sets
        for one in sets:
            assert all(f'{{"{word}",' in source for word in one.needs), one.name


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_the_processor_library_agrees_with_the_system(built: Path) -> None:
    if compiler.this_machine() != "x86_64":
        pytest.skip("names of x86 features")
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    system = {"avxvnni" if w == "avx_vnni" else w.replace("512_", "512") for w in flags.split()}
    known = {"fma", "f16c", "avx2", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512vnni", "avx512bf16"}
    assert compiler.processor_features(built) & known == system & known


@pytest.mark.parametrize("arguments", [["--help"], ["models"]])
def test_the_commands_say_that_the_library_is_missing(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pass_core", *arguments],
        env={**loader.os.environ, loader.OFF_VARIABLE: "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "The compiled library is switched off" in done.stdout + done.stderr


def test_the_build_command_builds(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    asked: list[Any] = []

    def record(folder: Path, *, names: Any, everything: bool, say: Callable[[str], None]) -> list[Path]:
        asked.append((folder, names, everything))
        return []

    from pass_core.cli.main import main

    monkeypatch.setattr(compiler, "build", record)
    with pytest.raises(SystemExit) as ended:
        main(["build", "--isa", "avx2", "--all"])
    assert not ended.value.code
    assert asked == [(compiler.LIBRARIES, ["avx2"], True)]
