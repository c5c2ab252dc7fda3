"""`verify`: check on this machine that decoding is lossless."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pass_core.cli.console import FAILED, INTERRUPTED, progress_display, stdout_console
from pass_core.cli.generate import MIN_P_HELP, QUANTIZE_HELP, TOP_P_HELP, Dtype, Quantize
from pass_core.cli.interrupt import KEPT, interrupt_cancels
from pass_core.cli.measuring import (
    EMBEDDING_HELP,
    check_files,
    comma_list,
    command_line,
    load_embeddings,
    load_with_progress,
)
from pass_core.progress import CancelToken, Progress

if TYPE_CHECKING:
    from pass_core.evaluation.losslessness.report import Check, VerificationEnded
    from pass_core.evaluation.losslessness.run import LosslessnessLab


def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and shorter texts: a minute or two.")] = False,
    wrong_rule: Annotated[
        bool, typer.Option("--wrong-rule", help="Check a rule that is known to be wrong, to see it caught.")
    ] = False,
    proofs: Annotated[
        str, typer.Option(help="Which proofs, between commas: greedy, coupled, distribution.")
    ] = "greedy,coupled,distribution",
    model: Annotated[str | None, typer.Option(help="Catalog name, Hugging Face id, folder or GGUF file.")] = None,
    embeddings: Annotated[str, typer.Option(help=EMBEDDING_HELP)] = "best",
    temperature: Annotated[float, typer.Option(min=0.05, max=2.0, help="Of the distribution proof.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, max=200, help="Tokens kept; 0 keeps all.")] = 10,
    top_p: Annotated[float, typer.Option(help=TOP_P_HELP)] = 1.0,
    min_p: Annotated[float, typer.Option(help=MIN_P_HELP)] = 0.0,
    prompts: Annotated[int | None, typer.Option(min=1, help="Texts of the identity proofs.")] = None,
    tokens: Annotated[int | None, typer.Option(min=4, help="Length of a text.")] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Seeds of the first-tokens test.")] = None,
    texts: Annotated[int | None, typer.Option(min=1, help="Texts of the distribution proof.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write all findings as JSON.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 … or mps.")] = "auto",
    dtype: Annotated[
        Dtype, typer.Option(help="float32 for exact identity; lower precision counts near ties apart.")
    ] = Dtype.float32,
    quantize: Annotated[Quantize, typer.Option(help=QUANTIZE_HELP)] = Quantize.none,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the verdicts.")] = False,
) -> None:
    """Check on this machine that decoding is lossless: three proofs, each in plain words; status 1 if one fails."""
    from pass_core.evaluation.losslessness.plan import QUICK, Proof, VerificationPlan
    from pass_core.evaluation.losslessness.run import LosslessnessLab

    plan = QUICK if quick else VerificationPlan()
    plan = replace(
        plan,
        proofs=comma_list(proofs, Proof, "--proofs"),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        wrong_rule=wrong_rule,
        prompts=prompts or plan.prompts,
        tokens=tokens or plan.tokens,
        draws=draws or plan.draws,
        texts=texts or plan.texts,
    )
    plan.sampling(temperature)  # refuses what is out of range
    check_files([embeddings], [json])
    cancel = CancelToken()
    with interrupt_cancels(cancel, KEPT):
        engine = load_with_progress(model, device, dtype.value, cancel, quiet, quantize.value)
        if not engine.model.capabilities.supports_pass:
            raise typer.BadParameter(
                f"{engine.model.name} decodes plainly, so there is nothing to check: "
                f"{engine.model.capabilities.reason}",
                param_hint="--model",
            )
        label, lookahead = load_embeddings(embeddings, engine, cancel, quiet)
        lab = LosslessnessLab(engine, lookahead, plan)
        checks, end = _run(lab, cancel, quiet)
    console = stdout_console()
    console.print(end.verdict, style="bold green" if end.passed and end.complete else "bold red", markup=False)
    if json is not None:
        _write(json, lab, label, checks, end)
    if not end.complete:
        raise typer.Exit(INTERRUPTED)
    if not end.passed:
        raise typer.Exit(FAILED)


def _run(lab: LosslessnessLab, cancel: CancelToken, quiet: bool) -> tuple[list[Check], VerificationEnded]:
    from pass_core.evaluation.losslessness.plan import TITLES, Proof
    from pass_core.evaluation.losslessness.report import Check, VerificationEnded

    console = stdout_console()
    checks: list[Check] = []
    shown: Proof | None = None
    end = VerificationEnded(False, False, "Nothing was checked.")
    with progress_display(quiet) as progress:
        for event in lab.run(cancel):
            if isinstance(event, Progress):
                progress(event)
            elif isinstance(event, Check):
                checks.append(event)
                if event.proof is not shown:
                    shown = event.proof
                    console.print(f"\n{TITLES[shown]}", style="bold", markup=False)
                mark = "✓" if event.passed else "✗"
                console.print(f"  {mark} {event.subject}", style="" if event.passed else "red", markup=False)
                console.print(f"    {event.verdict}", style="dim", markup=False)
            else:
                end = event
    console.print()
    return checks, end


def _write(path: Path, lab: LosslessnessLab, label: str, checks: list[Check], end: VerificationEnded) -> None:
    from pass_core.evaluation.environment import environment_of
    from pass_core.files import write_atomically

    report: dict[str, Any] = {
        "format": "pass-losslessness",
        "version": 1,
        "environment": environment_of(lab.engine, {label: lab.lookahead}, command_line()),
        "plan": asdict(lab.plan),
        "checks": [_finite(asdict(c)) for c in checks],
        "passed": end.passed,
        "complete": end.complete,
        "verdict": end.verdict,
    }
    write_atomically(path, json_module.dumps(report, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}  # type: ignore[misc]
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]  # type: ignore[misc]
    return str(value) if isinstance(value, float) and value == float("inf") else value
