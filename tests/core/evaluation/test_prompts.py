"""Prompt sets: the built-in ones, and users' files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pass_core.evaluation.prompts import BUILT_IN, PromptFileError, built_in, read_prompts


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_sets_have_twenty_different_prompts(name: str) -> None:
    prompts = built_in(name)
    assert len(prompts) >= 20
    assert len({p.title for p in prompts}) == len({p.text for p in prompts}) == len(prompts)
    assert all(p.chat == (name == "chat") for p in prompts)


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.toml", '[[prompt]]\ntitle="t"\ntext="one"\n[[prompt]]\ntext="two"\nchat=true\n', ["one", "two"]),
        ("a.jsonl", '{"prompt": "one"}\n\n{"text": "two"}\n', ["one", "two"]),
        ("a.txt", "one\ntwo\n\n", ["one", "two"]),
        ("a.txt", "one\nmore\n---\ntwo\n", ["one\nmore", "two"]),
    ],
)
def test_users_files(tmp_path: Path, name: str, content: str, texts: list[str]) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert [p.text for p in read_prompts(path)] == texts


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.toml", "prompt = 3", "tables"),
        ("a.toml", "[[", "not valid TOML"),
        ("a.jsonl", "{", "line 1"),
        ("a.txt", "\n", "holds no prompt"),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(PromptFileError, match=says):
        read_prompts(path)


def test_missing_file_and_set() -> None:
    with pytest.raises(PromptFileError, match="cannot be read"):
        read_prompts("/no/such/file.txt")
    with pytest.raises(PromptFileError, match="prose, code, chat"):
        built_in("poems")


def test_the_window_offers_the_built_in_prompts() -> None:
    """One reader: titles and texts are those that measurements use."""
    from app.prompts import ready_prompts

    wanted = [(p.set, p.title, p.text) for name in BUILT_IN for p in built_in(name)]
    assert [(p.kind, p.title, p.text) for p in ready_prompts()] == wanted
