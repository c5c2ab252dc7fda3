"""`bench`: measure speed and acceptance against plain decoding, transformers and llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    comma_list,
    command_line,
    load_embeddings,
    load_with_progress,
    write_results,
)
from pass_core.progress import CancelToken, Progress
from pass_core.settings import Strategy, Verification

if TYPE_CHECKING:
    from pass_core.engine import Engine
    from pass_core.evaluation.prompts import BenchmarkPrompt
    from pass_core.evaluation.speed.plan import BenchmarkPlan
    from pass_core.evaluation.speed.report import Report, Result
    from pass_core.evaluation.speed.run import Benchmark
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured where the user does not say.

    Attributes:
        strategies, k, temperatures: what is compared.
        prompts: of each set.
        tokens, repeats: length and number of runs.
        minutes: no new round begins after these.
    """

    strategies: str = "autoregressive,pass-two-call,pass"
    k: str = "1,2,3,5"
    temperatures: str = "0,0.8"
    prompts: int = 20
    tokens: int = 128
    repeats: int = 1
    minutes: float | None = None


QUICK = Extent("autoregressive,pass", "5", "0.8", 4, 48, 1, 0.5)


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A useful answer within a minute on a CPU.")] = False,
    model: Annotated[str | None, typer.Option(help="Catalog name, Hugging Face id, folder or GGUF file.")] = None,
    embeddings: Annotated[list[str] | None, typer.Option(help=EMBEDDING_HELP + " May be repeated.")] = None,
    strategies: Annotated[
        str | None, typer.Option(help="Between commas: autoregressive (always in), pass-two-call, pass.")
    ] = None,
    k: Annotated[str | None, typer.Option("--k", "-k", help="Look-ahead steps to try, between commas.")] = None,
    temperature: Annotated[str | None, typer.Option(help="Temperatures to try, between commas.")] = None,
    top_k: Annotated[int, typer.Option(help="Tokens kept; 0 keeps all.")] = 10,
    top_p: Annotated[float, typer.Option(help=TOP_P_HELP)] = 1.0,
    min_p: Annotated[float, typer.Option(help=MIN_P_HELP)] = 0.0,
    sets: Annotated[str, typer.Option(help="Built-in prompt sets, between commas.")] = "prose,code,chat",
    prompt_file: Annotated[
        Path | None, typer.Option(help="Your own prompts instead: .toml, .jsonl, or text with one prompt a line.")
    ] = None,
    prompts: Annotated[int | None, typer.Option(min=1, help="Prompts of each set.")] = None,
    tokens: Annotated[int | None, typer.Option(min=8, help="New tokens of a run at most.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Runs of every combination, with other seeds.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Begin no new round of runs after so long.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first repeat.")] = 0,
    verification: Annotated[Verification, typer.Option(help="Rule that accepts drafts.")] = Verification.COUPLED,
    auto: Annotated[
        bool, typer.Option("--auto/--no-auto", help="Let the engine choose tree and budget by measured costs.")
    ] = True,
    lookup: Annotated[
        bool, typer.Option("--lookup/--no-lookup", help="Also measure pass with drafts from matches in the text.")
    ] = True,
    transformers: Annotated[
        bool, typer.Option("--transformers/--no-transformers", help="Also measure transformers' generate.")
    ] = True,
    gguf: Annotated[
        Path | None, typer.Option(help="The same model as a GGUF file, for llama.cpp (extra “llamacpp”).")
    ] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Write on past the end of the text.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="Keep finished runs in this file; the same command continues after them.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables as Markdown.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Write the figure (time per token over k) as SVG.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 … or mps.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the weights.")] = Dtype.auto,
    quantize: Annotated[Quantize, typer.Option(help=QUANTIZE_HELP)] = Quantize.none,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the table.")] = False,
) -> None:
    """Measure speed and acceptance against plain decoding, transformers and llama.cpp.

    All are run in turns on the same prompts, after a warm-up; prompt processing is timed apart. Ctrl-C keeps what is
    done.
    """
    extent = QUICK if quick else Extent()
    chosen_strategies = comma_list(strategies or extent.strategies, Strategy, "--strategies")
    ks = comma_list(k or extent.k, int, "--k")
    temperatures = comma_list(temperature or extent.temperatures, float, "--temperature")
    prompt_list = _prompts(prompt_file, sets, prompts or extent.prompts)
    outputs = {".json": json, ".csv": csv, ".md": markdown, ".svg": figure}
    check_files(embeddings or (), [*outputs.values(), state])
    cancel = CancelToken()
    with interrupt_cancels(cancel, KEPT):
        engine = load_with_progress(model, device, dtype.value, cancel, quiet, quantize.value)
        can_draft = engine.model.capabilities.supports_pass
        if not can_draft and not quiet:
            note(f"{engine.model.name} decodes plainly: {engine.model.capabilities.reason}")
        lookaheads = _lookaheads(embeddings or ["best"], engine, cancel, quiet) if can_draft else {}
        plan = _plan(
            engine.model,
            lookaheads,
            chosen_strategies if can_draft else (Strategy.AUTOREGRESSIVE,),
            ks,
            temperatures,
            prompt_list,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            tokens=tokens or extent.tokens,
            repeats=repeats or extent.repeats,
            minutes=minutes if minutes is not None else extent.minutes,
            seed=seed,
            verification=verification,
            auto=auto,
            lookup=lookup,
            transformers=transformers,
            transformers_lookup=not quick,
            gguf=gguf,
            ignore_eos=ignore_eos,
        )
        from pass_core.evaluation.speed.run import Benchmark

        benchmark = Benchmark(engine, plan, lookaheads, state=state, gguf=gguf)
        report = _run(benchmark, lookaheads, cancel, quiet)
    _show(report)
    _write(report, outputs)
    if cancel.cancelled:
        raise typer.Exit(INTERRUPTED)


def _prompts(file: Path | None, sets: str, count: int) -> tuple[BenchmarkPrompt, ...]:
    from pass_core.evaluation.prompts import built_in, read_prompts

    if file is not None:
        return read_prompts(file)
    groups = [built_in(name) for name in comma_list(sets, str, "--sets")]
    return tuple(p for group in groups for p in group[:count])


def _lookaheads(
    choices: Sequence[str], engine: Engine, cancel: CancelToken, quiet: bool
) -> dict[str, LookaheadEmbeddings]:
    return dict(load_embeddings(choice, engine, cancel, quiet) for choice in choices)


def _plan(
    model: LanguageModel,
    lookaheads: Mapping[str, LookaheadEmbeddings],
    strategies: Sequence[Strategy],
    ks: Sequence[int],
    temperatures: Sequence[float],
    prompts: Sequence[BenchmarkPrompt],
    *,
    top_k: int,
    top_p: float,
    min_p: float,
    tokens: int,
    repeats: int,
    minutes: float | None,
    seed: int,
    verification: Verification,
    auto: bool,
    lookup: bool,
    transformers: bool,
    transformers_lookup: bool,
    gguf: Path | None,
    ignore_eos: bool,
) -> BenchmarkPlan:
    from pass_core.evaluation.speed.plan import BenchmarkPlan, contestants_for

    # A k beyond every file's L would only repeat the measurement at L.
    most = max((e.count for e in lookaheads.values()), default=max(ks))
    contestants = contestants_for(
        strategies,
        sorted({min(k, most) for k in ks}),
        embeddings=tuple(lookaheads),
        lookup=lookup,
        verification=verification,
        auto=auto,
        transformers=transformers,
        transformers_lookup=transformers_lookup,
        llama_cpp=gguf is not None,
    )
    return BenchmarkPlan(
        contestants=contestants,
        prompts=tuple(prompts),
        temperatures=tuple(temperatures),
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        new_tokens=min(tokens, model.capabilities.context_length // 2),
        repeats=repeats,
        seed=seed,
        ignore_eos=ignore_eos,
        minutes=minutes,
    )


def _run(
    benchmark: Benchmark, lookaheads: Mapping[str, LookaheadEmbeddings], cancel: CancelToken, quiet: bool
) -> Report:
    from pass_core.evaluation.environment import environment_of
    from pass_core.evaluation.speed.report import make_report
    from pass_core.evaluation.speed.run import BenchmarkEnded

    complete = False
    with progress_display(quiet) as progress:
        for event in benchmark.run(cancel):
            if isinstance(event, Progress):
                progress(event)
            elif isinstance(event, BenchmarkEnded):
                complete = event.complete
    environment = environment_of(benchmark.engine, lookaheads, command_line())
    return make_report(environment, benchmark.plan, benchmark.samples, benchmark.roofline, complete=complete)


def _write(report: Report, outputs: Mapping[str, Path | None]) -> None:
    from pass_core.evaluation.speed import tables

    makers = {".json": tables.to_json, ".csv": tables.to_csv, ".md": tables.to_markdown, ".svg": tables.to_svg}
    wanted = {k: p for k, p in outputs.items() if p is not None and (report.results or k != ".svg")}
    write_results({path: partial(makers[kind], report) for kind, path in wanted.items()})


def _show(report: Report) -> None:
    from pass_core.evaluation.environment import machine_line
    from pass_core.evaluation.speed.tables import to_markdown

    console = stdout_console()
    if not report.results:
        note("Nothing was measured.")
    elif not console.is_terminal:
        typer.echo(to_markdown(report), nl=False)
    else:
        _show_tables(report)
        console.print(machine_line(report.environment), style="dim", markup=False)
        if report.load is not None:
            console.print(report.load.sentence(), style="bold" if report.load.busy else "dim", markup=False)


def _show_tables(report: Report) -> None:
    from pass_core.evaluation.speed.report import ALL_SETS

    console = stdout_console()
    plan = report.plan
    for temperature in plan.temperatures:
        for name in (*plan.sets, ALL_SETS) if len(plan.sets) > 1 else plan.sets:
            rows = [r for r in report.results if r.temperature == temperature and r.prompt_set == name]
            if rows:
                _show_table(f"{'all prompts' if name == ALL_SETS else name}, temperature {temperature:g}", rows)
    if (r := report.roofline) is not None:
        console.print(
            f"A call of {r.rows[0]} row takes {1000 * r.seconds[0]:.1f} ms; reading {r.weight_bytes / 1e6:.0f} MB of "
            f"weights at {r.bandwidth / 1e9:.1f} GB/s takes {1000 * r.floor_seconds:.1f} ms "
            f"({100 * r.shares[0]:.0f} % of the memory's speed is reached).",
            markup=False,
        )


def _show_table(title: str, rows: Sequence[Result]) -> None:
    from rich.table import Table

    from pass_core.evaluation.speed.tables import acceptance_text, interval_text

    table = Table(title=title, box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in ("decoding", "ms/token", "tokens/s", "tokens/call", "accepted", "× ours plain", "× transformers"):
        table.add_column(column, justify="left" if column == "decoding" else "right")
    best = min(rows, key=lambda r: r.ms_per_token.median)
    for r in rows:
        table.add_row(
            r.contestant.label,
            r.ms_per_token.text(1),
            f"{r.tokens_per_second:.1f}",
            f"{r.tokens_per_call:.2f}",
            acceptance_text(r),
            interval_text(r.speedup_vs_autoregressive),
            interval_text(r.speedup_vs_transformers),
            style="bold" if r is best else "",
        )
    stdout_console().print(table, "")
