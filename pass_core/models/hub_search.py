"""Looking for models on the Hugging Face hub."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pass_core.models.errors import ModelOffline


@dataclass(frozen=True, slots=True)
class HubModel:
    """A search result: id, how often it was downloaded in a month, its licence ("" unknown), whether it is gated."""

    id: str
    downloads: int
    license: str
    gated: bool


def search(text: str, limit: int = 20) -> list[HubModel]:
    """Text-generating models whose name has `text`, those downloaded most first.

    Raises:
        ModelOffline: the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
        found = list(api.list_models(search=text, filter="text-generation", sort="downloads", limit=limit))
    except Exception as error:  # the hub's HTTP library raises what it likes, another set in every version
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelOffline(
            f"The hub cannot be reached ({reason}). Check the network (HF_ENDPOINT, HF_HUB_OFFLINE, proxy); models on "
            "this machine can be used without it."
        ) from error
    return [
        HubModel(
            m.id,
            m.downloads or 0,
            next((t.removeprefix("license:") for t in m.tags or [] if t.startswith("license:")), ""),
            bool(m.gated),
        )
        for m in found
    ]
