"""`train`: make a look-ahead file for a model, or measure one on held-out text (`--evaluate`)."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pass_core.cli.console import INTERRUPTED, amount, clock, note, progress_display, stdout_console
from pass_core.cli.interrupt import interrupt_cancels
from pass_core.cli.measuring import check_files
from pass_core.progress import CancelToken
from pass_core.training.budget import Budget
from pass_core.training.config import TrainingConfig, TrainingError, TrainingKind
from pass_core.training.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from pass_core.engine import Engine
    from pass_core.training.acceptance import Acceptance
    from pass_core.training.events import TrainingEvent

_DEFAULT = TrainingConfig()
_FIELDS = {"sampler": "with_sampler", "contexts": "evaluate_contexts"}  # options whose field has another name


def train(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="The look-ahead file to write (.safetensors).")] = None,
    model: Annotated[str | None, typer.Option(help="Catalog name, Hugging Face id, folder or GGUF file.")] = None,
    kind: Annotated[
        TrainingKind, typer.Option(help="embeddings alone, with deep vectors, with adapters, or all of these.")
    ] = TrainingKind.EMBEDDINGS,
    sampler: Annotated[bool, typer.Option("--sampler", help="Also train the sampler head.")] = False,
    lookahead: Annotated[int, typer.Option("--look-ahead", "-L", help="L, the most drafts of a chain.")] = 6,
    rank: Annotated[int, typer.Option(help="Rank of the adapters.")] = _DEFAULT.rank,
    targets: Annotated[str, typer.Option(help="Linears that get an adapter, comma separated; empty for all.")] = "",
    sampler_inner: Annotated[int, typer.Option(help="Inner width of the sampler head.")] = 1024,
    data: Annotated[
        str,
        typer.Option(help="“self” (the model writes it), a file or folder, hf:NAME, wikipedia or stack-python."),
    ] = "self",
    prefixes: Annotated[
        str | None, typer.Option(help="With --data self: more documents whose beginnings the model continues.")
    ] = None,
    sequences: Annotated[int, typer.Option(help="Training sequences, at most.")] = 192,
    held_out: Annotated[int, typer.Option(help="Held-out sequences, at most.")] = 48,
    unseen: Annotated[
        int,
        typer.Option(help="With --evaluate: leave out the first N held-out texts, on which a run chose its best file."),
    ] = 0,
    length: Annotated[int, typer.Option(help="Tokens of a sequence.")] = _DEFAULT.length,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = _DEFAULT.steps,
    minutes: Annotated[
        float,
        typer.Option(help="Instead of --steps: be done in this time, text, bigrams and evaluations included."),
    ] = 0.0,
    batch: Annotated[int, typer.Option(help="Sequences of a step.")] = _DEFAULT.batch,
    rows: Annotated[int, typer.Option(help="Look-ahead rows per sequence and step.")] = _DEFAULT.rows,
    vector_lr: Annotated[float, typer.Option(help="Peak rate of embeddings and deep vectors.")] = _DEFAULT.vector_lr,
    adapter_lr: Annotated[float, typer.Option(help="Peak rate of adapters.")] = _DEFAULT.adapter_lr,
    sampler_lr: Annotated[float, typer.Option(help="Peak rate of the sampler head.")] = _DEFAULT.sampler_lr,
    acceptance_share: Annotated[
        float, typer.Option(help="Last part of the run that trains on acceptance itself.")
    ] = _DEFAULT.acceptance_share,
    surprise: Annotated[
        float, typer.Option(help="How much more often chains start before tokens hard to guess, 0 to 1.")
    ] = _DEFAULT.surprise,
    bigrams: Annotated[
        bool,
        typer.Option("--bigrams/--no-bigrams", help="Without a sampler: score drafts with the model's bigrams."),
    ] = _DEFAULT.bigrams,
    evaluate_every: Annotated[int, typer.Option(help="Steps between evaluations.")] = _DEFAULT.evaluate_every,
    contexts: Annotated[int, typer.Option(help="Held-out places an evaluation tries.")] = _DEFAULT.evaluate_contexts,
    patience: Annotated[int, typer.Option(help="End after this many evaluations without a better one; 0: never.")] = 0,
    temperature: Annotated[float, typer.Option(help="Of held-out acceptance.")] = _DEFAULT.temperature,
    top_k: Annotated[int, typer.Option(help="Of held-out acceptance.")] = _DEFAULT.top_k,
    seed: Annotated[int, typer.Option(help="Same seed, same data: same file.")] = 0,
    init: Annotated[Path | None, typer.Option(help="Start from this look-ahead file.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint beside --out.")] = False,
    memory: Annotated[float, typer.Option(help="GB for what the frozen model computed; more is faster.")] = 2.0,
    few_weight: Annotated[
        float, typer.Option(help="Weight of the best few drafts of a tree within the acceptance.")
    ] = _DEFAULT.few_weight,
    decode_share: Annotated[
        float, typer.Option(help="Share of the chains that start where simulated decoding meets them.")
    ] = _DEFAULT.decode_share,
    ema: Annotated[float, typer.Option(help="Decay of the running mean that is measured and kept; 0: none.")] = (
        _DEFAULT.ema
    ),
    recipe: Annotated[
        Recipe | None, typer.Option(help="A whole training by name; other options replace their part of it.")
    ] = None,
    recipes: Annotated[
        bool, typer.Option("--recipes", help="Train nothing: say what each recipe takes on this machine.")
    ] = False,
    evaluate: Annotated[Path | None, typer.Option(help="Train nothing: measure this file on held-out text.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="With --evaluate: write what drafts lack by position here (.md or .json)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 … or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Of the frozen weights: auto, float32, bfloat16, float16.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train look-ahead parts on the frozen model, or measure a file with --evaluate.

    Ctrl-C ends the run after the present step and keeps a checkpoint; the same command with --resume continues. Several
    processes: accelerate launch -m pass_core train ….
    """
    if out is None and evaluate is None and not recipes:
        raise TrainingError("Say where the look-ahead file goes with --out FILE (or measure one with --evaluate FILE).")
    if out is not None and out.suffix != ".safetensors":
        raise TrainingError(f"{out.name} must end with .safetensors.")
    if report is not None and (evaluate is None or report.suffix not in (".md", ".json")):
        raise TrainingError("--report goes with --evaluate FILE, and its name ends with .md or .json.")
    check_files(outputs=[out, report])
    if data != "self":
        from pass_core.training.corpus import check_source

        check_source(data)
    budget = Budget(minutes)
    given: dict[str, Any] = {
        "kind": kind,
        "with_sampler": sampler,
        "lookahead": lookahead,
        "rank": rank,
        "targets": tuple(t.strip() for t in targets.split(",") if t.strip()),
        "sampler_inner": sampler_inner,
        "steps": steps,
        "minutes": minutes,
        "batch": batch,
        "rows": rows,
        "length": length,
        "vector_lr": vector_lr,
        "adapter_lr": adapter_lr,
        "sampler_lr": sampler_lr,
        "acceptance_share": acceptance_share,
        "surprise": surprise,
        "few_weight": few_weight,
        "decode_share": decode_share,
        "ema": ema,
        "bigrams": bigrams,
        "temperature": temperature,
        "top_k": top_k,
        "seed": seed,
        "evaluate_every": evaluate_every,
        "evaluate_contexts": contexts,
        "patience": patience,
    }
    config = TrainingConfig(**given)
    if recipe is not None:
        ingredients = RECIPES[recipe]
        typed = {_FIELDS.get(name, name) for name in given_on_command_line(context)}
        config = replace(ingredients.config, **{k: v for k, v in given.items() if k in typed})
        sequences = sequences if "sequences" in typed else ingredients.sequences
        held_out = held_out if "held_out" in typed else ingredients.held_out
    from pass_core.engine import Engine
    from pass_core.files import cache_folder
    from pass_core.lookahead.format import load_lookahead
    from pass_core.models.loading import load_model
    from pass_core.training.options import TrainingOptions, check_file
    from pass_core.training.preview import measure_file, prepare
    from pass_core.training.processes import Processes
    from pass_core.training.selfwritten import SelfPlan, make_corpus
    from pass_core.training.trainer import train as run

    cancel = CancelToken()
    lines = _Lines(quiet)
    with interrupt_cancels(cancel), Processes(cpu=device == "cpu").main_first(), progress_display(quiet) as progress:
        chosen: Any = dtype
        measured = None if evaluate is None else load_lookahead(evaluate)
        start = None if init is None else load_lookahead(init)
        engine = Engine(load_model(model, device=device, dtype=chosen, progress=progress, cancel=cancel))
        language_model = engine.model
        for file in (measured, start):
            if file is not None:
                check_file(language_model, file)
        if recipes:
            lines.recipes(engine, cache_folder() / "training", memory=round(memory * 1e9))
            return
        plan = SelfPlan(
            sequences=sequences,
            held_out=held_out,
            length=config.length,
            temperature=config.temperature,
            top_k=config.top_k,
        )
        corpus = make_corpus(
            language_model,
            data,
            length=config.length,
            sequences=sequences,
            plan=plan,
            folder=cache_folder() / "training",
            prefixes=prefixes,
            progress=progress,
            cancel=cancel,
            budget=budget,
        )
        if unseen:
            if not 0 < unseen < len(corpus.held_out) or measured is None:
                raise TrainingError(f"--unseen {unseen} leaves none of the {len(corpus.held_out)} held-out texts.")
            corpus = replace(corpus, held_out=corpus.held_out[unseen:])
        if measured is None:
            wanted = config.uses_bigrams
            config = prepare(engine, config, progress, cancel, budget)
            if wanted and not config.uses_bigrams:
                note("The time does not suffice to read the model's own bigrams: trained without them.")
        elif report is not None:
            from pass_core.training.report import draft_report

            draft_report(engine, measured, corpus.held_out, config, progress=progress, cancel=cancel).save(report)
        elif bigrams and measured.sampler is None:
            prepare(engine, replace(config, with_sampler=False), progress, cancel)
    if measured is not None:
        if report is not None:
            note(f"The report is {report}.")
            return
        with interrupt_cancels(cancel):
            for walk, title in ((False, "At evenly spread places"), (True, "At the places that decoding meets")):
                acceptance = measure_file(engine, measured, corpus, config, walk=walk)
                lines.result(acceptance, title)
        return
    assert out is not None
    options = TrainingOptions(out=out, resume=resume, memory=round(memory * 1e9), command=_command(), init=start)
    with interrupt_cancels(cancel):
        finished = run(engine, corpus, config, options, on_event=lines, cancel=cancel, budget=budget)
    if cancel.cancelled:
        note(f"Cancelled at step {finished.step}; the same command with --resume continues.")
        raise typer.Exit(INTERRUPTED)


def given_on_command_line(context: typer.Context) -> set[str]:
    """Names of the parameters that were typed, as opposed to left at their defaults."""
    return {name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")}


class _Lines:
    """Events as lines of text."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = stdout_console()

    def __call__(self, event: TrainingEvent) -> None:
        from pass_core.training.events import Evaluated, Finished, Started, StepDone

        if isinstance(event, Finished):
            where = f" The file is {event.path}." if event.path else ""
            self._print(f"Done ({event.ending}) after {event.step} steps; best after {event.best_step}.{where}")
            if event.acceptance is not None:
                self.result(event.acceptance)
        elif self.quiet:
            return
        elif isinstance(event, Started):
            told = event.estimate
            self._print(
                f"{told.trainable:,} parameters learn from {event.train_sequences} sequences; "
                f"{event.held_out_sequences} are held out. Memory: about {amount(told.bytes_working, 'B')} for a step "
                f"and {amount(told.bytes_kept, 'B')} of kept prefixes. Time: about {clock(told.seconds)} "
                f"({told.steps} steps of {told.seconds_per_step:.1f} s)."
            )
        elif isinstance(event, StepDone) and (event.step % 10 == 0 or event.step in (1, event.steps)):
            coherent = f"  coherent {event.coherent:.3f}" if event.coherent else ""
            speed = f"{event.rows / event.seconds:.0f} rows/s"
            self._print(
                f"step {event.step}/{event.steps}  loss {event.loss:.3f}  divergence {event.divergence:.3f}{coherent}  "
                f"accepted {event.accepted:.2f}  {speed}  {clock(event.seconds_left)} left"
            )
        elif isinstance(event, Evaluated):
            mark = " (best)" if event.best else ""
            places = " ".join(f"{a:.2f}" for a in event.acceptance.by_position)
            self._print(
                f"held out after {event.step}: {event.acceptance.accepted_per_iteration:.3f} drafts accepted per "
                f"chain{mark}; by position {places}"
            )

    def recipes(self, engine: Engine, folder: Path, memory: int) -> None:
        """What each recipe takes with this model on this machine."""
        from pass_core.training.preview import preview
        from pass_core.training.selfwritten import SelfPlan, own_text, unwritten

        model = engine.model
        for name, recipe in RECIPES.items():
            config = recipe.config
            plan = SelfPlan(recipe.sequences, recipe.held_out, config.length)
            missing = unwritten(model, plan, own_text(model, plan, folder))
            told = preview(engine, config, sequences=recipe.sequences, memory=memory, to_write=missing)
            steps = told.seconds - told.writing_seconds - told.bigrams_seconds
            self._print(
                f"{name}: {recipe.summary}. {recipe.rows:,} rows in {config.steps} steps on {recipe.sequences:,} "
                f"texts; "
                f"about {clock(told.seconds)} (text {clock(told.writing_seconds)}, bigrams "
                f"{clock(told.bigrams_seconds)}, steps and evaluations {clock(steps)}), "
                f"memory {amount(told.bytes_working + told.bytes_kept, 'B')}"
            )

    def result(self, acceptance: Acceptance, title: str = "At evenly spread places") -> None:
        """The figures of a finished run or an evaluation."""
        self._print(f"{title} of held-out text ({acceptance.contexts} chains):")
        by = " ".join(f"{a:.3f}" for a in acceptance.by_position)
        chain = " ".join(f"{a:.3f}" for a in acceptance.accepted)
        kinds = ", ".join(f"{name} {value:.2f}" for name, value in acceptance.domains.items())
        self._print(f"  drafts accepted per chain: {acceptance.accepted_per_iteration:.3f} ({kinds})")
        self._print(f"  match by position:         {by}")
        self._print(f"  accepted by position:      {chain}")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False)


def _command() -> str:
    """What was typed, without the program's path: recorded in the file."""
    return "python -m pass_core " + shlex.join(sys.argv[1:])
