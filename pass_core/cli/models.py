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
    from pass_core.models.catalog import default_model, find
    from pass_core.models.inventory import inventory
    from pass_core.runtime.kept_choices import kept_reasons

    chosen = kept_reasons()
    rows: list[dict[str, Any]] = []
    for entry in inventory():
        known = find(entry.source) if entry.kind == "known" else None
        rows.append(
            {
                "id": entry.source,
                "name": entry.name,
                "default": entry.source == default_model().id,
                "hub": known.hub if known is not None else entry.source if entry.kind == "hub" else "",
                "parameters": entry.parameters,
                "bytes": entry.download_bytes,
                "license": entry.license,
                "gated": entry.gated,
                "note": entry.note,
                "folder": str(entry.folder) if entry.folder else None,
                "disk_bytes": entry.disk_bytes,
                "weights": chosen.get(entry.source, "") if entry.folder else "",
            }
        )
    return rows
