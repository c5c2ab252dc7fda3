"""`humaneval`: run the HumanEval programming problems with plain decoding and with PASS."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pass_core.cli.console import INTERRUPTED, note, progress_display, stdout_console
from pass_core.cli.generate import MIN_P_HELP, QUANTIZE_HELP, TOP_P_HELP, Dtype, Quantize
from pass_core.cli.interrupt import KEPT, interrupt_cancels
from pass_core.cli.measuring import (
    EMBEDDING_HELP,
    check_files,
    command_line,
    load_embeddings,
    load_with_progress,
    write_results,
)
from pass_core.progress import CancelToken, Progress
from pass_core.settings import SamplingSettings, Strategy, Verification

if TYPE_CHECKING:
    from pass_core.evaluation.humaneval.report import HumanEvalReport
    from pass_core.evaluation.humaneval.run import HumanEval


def humaneval(
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Programs for every problem.")] = 1,
    problems: Annotated[int | None, typer.Option(min=1, help="How many of the 164, from the first on.")] = None,
    model: Annotated[str | None, typer.Option(help="Catalog name, Hugging Face id, folder or GGUF file.")] = None,
    embeddings: Annotated[str, typer.Option(help=EMBEDDING_HELP)] = "best",
    strategy: Annotated[Strategy, typer.Option(help="What is compared with plain decoding.")] = Strategy.FUSED,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Look-ahead steps in use.")] = 5,
    verification: Annotated[
        Verification, typer.Option(help="coupled repeats the baseline's programs; rejection draws its own.")
    ] = Verification.COUPLED,
    prompt_lookup: Annotated[
        bool, typer.Option("--prompt-lookup", help="Also draft from matches in the text so far (pass only).")
    ] = False,
    temperature: Annotated[float, typer.Option(help="As in the paper.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="As in the paper; 0 keeps all.")] = 10,
    top_p: Annotated[float, typer.Option(help=TOP_P_HELP)] = 1.0,
    min_p: Annotated[float, typer.Option(help=MIN_P_HELP)] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=8, help="Greatest length of a program.")] = 512,
    seed: Annotated[int, typer.Option(help="Seed of the first sample.")] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a program may run.")] = 5.0,
    jobs: Annotated[int, typer.Option(min=1, help="Programs that run side by side.")] = 2,
    yes_run_generated_code: Annotated[
        bool, typer.Option("--yes-run-generated-code", help="Agree that generated programs are run on this machine.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(help="Keep finished work in this file; the same command continues after it.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything as JSON, the programs included.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line per program as CSV.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the comparison as Markdown.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 … or mps.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the weights.")] = Dtype.auto,
    quantize: Annotated[Quantize, typer.Option(help=QUANTIZE_HELP)] = Quantize.none,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the result.")] = False,
) -> None:
    """Run the HumanEval programming problems with plain decoding and with PASS: pass@k and time per token of both.

    Programs are generated first; they run only if you agree, each in a process of its own behind limits.
    """
    from pass_core.evaluation.environment import environment_of
    from pass_core.evaluation.humaneval.plan import HumanEvalPlan
    from pass_core.evaluation.humaneval.report import WRITERS
    from pass_core.evaluation.humaneval.run import HumanEval
    from pass_core.evaluation.sandbox.run import Limits

    plan = HumanEvalPlan(
        samples=samples,
        problems=problems,
        sampling=SamplingSettings(temperature, top_k, top_p, min_p),
        max_new_tokens=max_new_tokens,
        k=k,
        strategy=strategy,
        verification=verification,
        prompt_lookup=prompt_lookup,
        seed=seed,
        limits=Limits(seconds=timeout),
    )
    check_files([embeddings], [json, csv, markdown, state])
    agreed = yes_run_generated_code or _ask()
    cancel = CancelToken()
    with interrupt_cancels(cancel, KEPT):
        engine = load_with_progress(model, device, dtype.value, cancel, quiet, quantize.value)
        if not engine.model.capabilities.supports_pass:
            raise typer.BadParameter(
                f"{engine.model.name} cannot run PASS: {engine.model.capabilities.reason}", param_hint="--model"
            )
        label, lookahead = load_embeddings(embeddings, engine, cancel, quiet)
        evaluation = HumanEval(engine, lookahead, plan, state=state, run_code=agreed)
        _run(evaluation, cancel, quiet, jobs)
        report = evaluation.report(environment_of(engine, {label: lookahead}, command_line()))
    _show(report, agreed)
    outputs = {".json": json, ".csv": csv, ".md": markdown}
    write_results({path: partial(WRITERS[kind], report) for kind, path in outputs.items() if path is not None})
    if cancel.cancelled:
        raise typer.Exit(INTERRUPTED)


def _ask() -> bool:
    """Consent: generated programs are run only after a yes."""
    from pass_core.evaluation.sandbox.protections import protections

    if not sys.stdin.isatty():
        note("Generated programs are not run: give --yes-run-generated-code to agree. Only times are measured.")
        return False
    typer.echo("The generated programs will be run on this machine to test them. What holds them back here:", err=True)
    found = protections()
    for protection in found.holds:
        typer.echo(f"  · {protection}", err=True)
    if found.lacks:
        typer.echo("What does not:", err=True)
        for lack in found.lacks:
            typer.echo(f"  · {lack}", err=True)
    if found.advice:
        typer.echo(found.advice, err=True)
    return typer.confirm("Run them?", default=False, err=True)


def _run(evaluation: HumanEval, cancel: CancelToken, quiet: bool, jobs: int) -> None:
    with progress_display(quiet) as progress:
        for event in evaluation.run(cancel, jobs):
            if isinstance(event, Progress):
                progress(event)


def _show(report: HumanEvalReport, agreed: bool) -> None:
    from pass_core.evaluation.humaneval.report import report_markdown, result_table, sentences

    console = stdout_console()
    if not console.is_terminal:
        typer.echo(report_markdown(report), nl=False)
        return
    from rich.table import Table

    rows = [line.strip("| ").split(" | ") for line in result_table(report)]
    table = Table(*rows[0], box=None, pad_edge=False, header_style="bold")
    for row in rows[2:]:
        table.add_row(*row)
    console.print(table)
    for sentence in sentences(report):
        console.print(sentence, markup=False)
    if not agreed:
        console.print("The programs were not run, so there is no pass@k.", style="dim")
