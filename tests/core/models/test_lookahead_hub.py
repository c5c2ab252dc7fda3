"""Look-ahead files by their names on a hub: real client and server, no network."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub.hf_api import RepoSibling

from pass_core.lookahead.card import MARK, model_card
from pass_core.lookahead.embeddings import LookaheadEmbeddings, TrainingSummary
from pass_core.lookahead.format import load_lookahead
from pass_core.models.errors import (
    ModelDamaged,
    ModelGated,
    ModelNotFound,
    ModelOffline,
    ModelTooLarge,
    ModelUnsupported,
)
from pass_core.models.hub_names import HubName, parse_hub_name
from pass_core.models.language_model import LanguageModel
from pass_core.models.lookahead_download import _chosen
from pass_core.models.lookahead_hub import cached_lookahead, fetch_lookahead, load_named
from pass_core.models.lookahead_push import check_push, push_lookahead
from pass_core.progress import Cancelled, CancelToken, Progress
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, random_lookahead
from tests.core.models.hub_server import COMMIT, TOKEN, Hub, serving

NAME = "hf:some/drafts/mine.safetensors"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny.tiny_llama()


@pytest.fixture(scope="module")
def trained(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all parts, trained for the tiny model."""
    path = tmp_path_factory.mktemp("trained") / "mine.safetensors"
    summary = TrainingSummary(
        steps=7,
        tokens=480,
        data="12 texts",
        command="python -m pass_core train --out mine.safetensors",
        acceptance=(0.5, 0.25),
        accepted_per_iteration=0.75,
        state_acceptance=(0.4,),
        state_command="its own",
    )
    made = random_lookahead(model, 4, ALL_PARTS)
    LookaheadEmbeddings(
        **{
            **{f: getattr(made, f) for f in made.__dataclass_fields__},
            "training": summary,
            "base_model": "a/model",
            "base_fingerprint": model.fingerprint,
        }
    ).save(path)
    return path


@pytest.fixture
def server(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(tmp_path / "hub", monkeypatch) as server:
        server.repos["some/drafts"] = {"README.md": b"words", "mine.safetensors": trained.read_bytes()}
        yield server


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:some/drafts", HubName("some/drafts")),
        ("hf:some/drafts/mine.safetensors", HubName("some/drafts", "mine.safetensors")),
        ("hf:some/drafts/sub/mine.safetensors", HubName("some/drafts", "sub/mine.safetensors")),
    ],
)
def test_names_are_read_and_written(text: str, expected: HubName) -> None:
    assert parse_hub_name(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    ["hf:", "hf:drafts", "hf:/drafts", "hf:a/../b", "hf:../b", "hf:a/b/c.pt", "hf:a/b/../c.safetensors", "hf:a b/c"],
)
def test_other_names_are_refused_with_the_way_to_write_them(text: str) -> None:
    with pytest.raises(ModelNotFound, match="Write hf:user/name"):
        parse_hub_name(text)


@pytest.mark.parametrize("name", ["hf:some/drafts", NAME])
def test_a_file_is_downloaded_and_is_the_one_that_was_pushed(
    name: str, server: Hub, model: LanguageModel, trained: Path
) -> None:
    seen: list[Progress] = []
    loaded = load_named(name, model, seen.append)
    assert loaded.origin == NAME
    ours = load_lookahead(trained)
    assert loaded.training == ours.training
    for key, tensor in ours.tensors().items():
        assert torch.equal(tensor, loaded.tensors()[key]), key
    assert {p.stage for p in seen} == {f"Downloading {name}"}
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total == trained.stat().st_size
    assert server.downloads() == {"mine.safetensors"}


def test_a_cached_file_needs_no_network(server: Hub, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    load_named(NAME, model)
    server.requests.clear()
    assert load_named(NAME, model).origin == NAME
    assert server.requests == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert load_named("hf:some/drafts", model).origin == NAME  # the hub cannot say which file is meant


def test_an_unreachable_hub_is_said_with_a_way_out(
    server: Hub, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelOffline, match=r"cannot be reached.*use a file on this machine"):
        load_named(NAME, model)


def test_a_file_of_another_model_is_refused_before_the_download(server: Hub) -> None:
    other = tiny.tiny_llama(seed=1)
    with pytest.raises(ModelUnsupported, match="trained for a/model, not for the weights that are loaded"):
        load_named(NAME, other)
    assert server.sent["some/drafts/resolve/main/mine.safetensors"] <= 100_001  # the header, at most
    assert cached_lookahead(parse_hub_name(NAME)) is None


def test_what_is_no_look_ahead_file_or_too_large_is_refused_before_the_download(
    server: Hub, model: LanguageModel
) -> None:
    from safetensors.torch import save

    large = save({"weight": torch.zeros(100_000)})
    server.repos["some/model"] = {"model.safetensors": large}
    with pytest.raises(ModelUnsupported, match="no look-ahead file"):
        load_named("hf:some/model", model)
    assert server.sent["some/model/resolve/main/model.safetensors"] <= 100_001 < len(large)
    server.listed["mine.safetensors"] = {"size": 5_000_000_000}
    with pytest.raises(ModelTooLarge, match=r"has 5\.0 GB; a look-ahead file has at most 4 GB"):
        load_named(NAME, model)
    assert "some/drafts/resolve/main/mine.safetensors" not in server.sent


def test_a_file_whose_hash_is_not_the_listed_one_is_refused_and_removed(server: Hub, model: LanguageModel) -> None:
    server.listed["mine.safetensors"] = {"sha256": "0" * 64}
    with pytest.raises(ModelDamaged, match="its hash is not the one"):
        load_named(NAME, model)
    assert cached_lookahead(parse_hub_name(NAME)) is None
    server.listed.clear()
    assert load_named(NAME, model).origin == NAME


def test_which_file_is_meant_must_be_clear(server: Hub, model: LanguageModel, trained: Path) -> None:
    server.repos["some/drafts"]["sub/[odd].safetensors"] = trained.read_bytes()
    with pytest.raises(ModelNotFound, match=r"It has: mine\.safetensors, sub/\[odd\]\.safetensors\. Name one"):
        load_named("hf:some/drafts", model)
    assert load_named("hf:some/drafts/sub/[odd].safetensors", model).count == 4
    files = [RepoSibling(rfilename=name) for name in ("README.md", "mine.safetensors")]
    assert _chosen(HubName("some/drafts"), files).rfilename == "mine.safetensors"
    with pytest.raises(ModelNotFound, match=r"has no yours\.safetensors"):
        _chosen(HubName("some/drafts", "yours.safetensors"), files)
    with pytest.raises(ModelNotFound, match=r"no \.safetensors file at all"):
        _chosen(HubName("some/words"), files[:1])


def test_a_download_can_be_cancelled_in_the_middle_of_the_file(server: Hub, model: LanguageModel) -> None:
    server.hold = True
    cancel = CancelToken()
    user = threading.Thread(target=lambda: server.half_sent.wait(60) and cancel.cancel())
    user.start()
    with pytest.raises(Cancelled):
        fetch_lookahead(parse_hub_name(NAME), cancel=cancel)
    user.join()
    assert cached_lookahead(parse_hub_name(NAME)) is None


def test_what_is_pushed_can_be_loaded_with_its_card(server: Hub, model: LanguageModel, trained: Path) -> None:
    name = "hf:me/new/mine.safetensors"
    card = model_card(load_lookahead(trained), name)
    url = push_lookahead(check_push("me/new"), trained, card)
    assert url == f"{server.url}/me/new/commit/{COMMIT}"
    stored = server.repos["me/new"]
    assert hashlib.sha256(stored["mine.safetensors"]).digest() == hashlib.sha256(trained.read_bytes()).digest()
    assert stored["README.md"].decode() == card
    assert load_named("hf:me/new", model).origin == name


def test_the_card_says_what_the_file_says(trained: Path) -> None:
    from huggingface_hub import ModelCard

    file = load_lookahead(trained)
    card = ModelCard(model_card(file, NAME))
    assert card.data.base_model == "a/model"
    assert card.data.tags is not None
    assert "pass-lookahead" in card.data.tags
    for words in (
        MARK,
        NAME,
        file.base_fingerprint,
        "0.75 drafts accepted",
        "0.50 0.25",
        "12 texts",
        "its own",
        "0.40",
    ):
        assert words in card.text
    for part in file.parts():
        assert f"| {part.name} | {part.parameters:,} | {part.bytes:,} |" in card.text


def test_somebody_elses_readme_stays_and_ours_is_renewed(server: Hub, trained: Path) -> None:
    card = model_card(load_lookahead(trained), "hf:some/drafts/mine.safetensors")
    push_lookahead("some/drafts", trained, card)
    stored = server.repos["some/drafts"]
    assert stored["README.md"] == b"words"
    assert stored["mine.md"].decode() == card
    push_lookahead("me/new", trained, card)
    push_lookahead("me/new", trained, card + "\nmore\n")
    assert server.repos["me/new"]["README.md"].decode() == card + "\nmore\n"
    assert "mine.md" not in server.repos["me/new"]


def test_a_push_is_refused_before_the_training_where_it_cannot_succeed(
    server: Hub, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFound, match="names a file"):
        check_push("me/new/mine.safetensors")
    with pytest.raises(ModelNotFound, match="Write hf:user/name"):
        check_push("new")
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(ModelGated, match="hf auth login"):
        push_lookahead("me/new", trained, "card")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ModelGated, match="Nobody is logged in"):
        check_push("me/new")
