"""`models`: what is known and what is on this machine."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pass_core.cli.console import amount, note, stdout_console
from pass_core.runtime.native.build import reason_missing


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    families: Annotated[
        bool,
        typer.Option("--families", help="Try a tiny model of every architecture: what drafts, what decodes plainly."),
    ] = False,
) -> None:
    """List the models that are known, and which of them are on this machine."""
    if families:
        _families(as_json)
        return
    rows = _rows()
    if reason_missing():
        note(reason_missing())
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    console = stdout_console()
    if not console.is_terminal:
        for row in rows:
            typer.echo("\t".join(str(row[key] or "-") for key in ("id", "parameters", "bytes", "license", "folder")))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "parameters", "download", "licence", "on this machine"):
        table.add_column(column, no_wrap=column == "name")
    for row in rows:
        parameters = f"{row['parameters'] / 1e6:,.0f} M" if row["parameters"] else ""
        here = f"yes ({amount(row['disk_bytes'], 'B')})" if row["folder"] else "no"
        name = f"{row['id']} (default)" if row["default"] else row["id"]
        table.add_row(name, parameters, amount(row["bytes"], "B") if row["bytes"] else "", row["license"], here)
    console.print(table)
    for row in rows:
        if row["weights"]:
            console.print(f"\n{row['id']} computes with {row['weights']}.", style="dim", markup=False)
    console.print("\nAny other Hugging Face id, model folder or GGUF file works as well: --model …", style="dim")


def _families(as_json: bool) -> None:
    from dataclasses import asdict

    from transformers.utils import logging

    from pass_core.evaluation.families import family_results, markdown

    logging.set_verbosity_error()
    results = list(family_results())
    typer.echo(
        json.dumps([asdict(r) for r in results], ensure_ascii=False) if as_json else markdown(results), nl=as_json
    )


def _rows() -> list[dict[str, Any]]:
    from pass_core.models import storage
    from pass_core.models.catalog import known_models
    from pass_core.models.children import files_in
    from pass_core.models.fetch import cached
    from pass_core.runtime.kept_choices import kept_reasons

    chosen = kept_reasons()
    rows: list[dict[str, Any]] = []
    for known in known_models():
        folder = cached(known.id)
        rows.append(
            {
                "id": known.id,
                "name": known.name,
                "default": known.default,
                "hub": known.hub,
                "parameters": known.parameters,
                "bytes": known.bytes,
                "license": known.license,
                "gated": known.gated,
                "note": known.note,
                "folder": str(folder) if folder else None,
                "disk_bytes": sum(files_in(folder)) if folder else 0,
                "weights": chosen.get(known.id, "") if folder else "",
            }
        )
    for folder in sorted(storage.models_folder().glob("gguf-*")):
        receipt = storage.read_receipt(folder)
        if receipt is not None:
            rows.append(
                {
                    "id": receipt["origin"],
                    "name": receipt["name"],
                    "default": False,
                    "hub": "",
                    "parameters": None,
                    "bytes": None,
                    "license": "",
                    "gated": False,
                    "note": "Converted from a GGUF file.",
                    "folder": str(folder),
                    "disk_bytes": sum(files_in(folder)),
                    "weights": chosen.get(str(receipt["origin"]), ""),
                }
            )
    return rows
