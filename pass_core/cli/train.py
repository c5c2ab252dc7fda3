"""`train`: make a look-ahead file for a model, or measure one on held-out text (`--evaluate`)."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pass_core.cli.console import INTERRUPTED, note, progress_display
from pass_core.cli.interrupt import interrupt_cancels
from pass_core.cli.measuring import check_files
from pass_core.cli.training_lines import TrainingLines
from pass_core.cli.upload import Upload
from pass_core.models.hub_names import is_hub_name
from pass_core.progress import CancelToken
from pass_core.training.budget import Budget
from pass_core.training.config import TrainingConfig, TrainingError, TrainingKind
from pass_core.training.recipes import RECIPES, Recipe
from pass_core.training.state_config import StateHeadConfig

_DEFAULT = TrainingConfig()
_STATE = StateHeadConfig()
_STATE_FIELDS = {
    "state_steps": "steps",
    "state_depth": "depth",
    "state_inner": "inner",
    "state_fit_inner": "fit_inner",
    "state_places": "places",
    "state_lr": "learning_rate",
    "evaluate_every": "evaluate_every",
    "contexts": "evaluate_contexts",
}
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
    init: Annotated[str | None, typer.Option(help="Start from this look-ahead file, or hf:user/name[/file].")] = None,
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
    state_head: Annotated[
        bool | None,
        typer.Option(
            "--state-head/--no-state-head",
            help="Train the state head, which drafts without look-ahead rows: that of --init alone, or with --kind "
            "after the other parts. Recipes do so, too, unless told not to.",
        ),
    ] = None,
    state_steps: Annotated[int, typer.Option(help="Optimiser steps of the state head.")] = _STATE.steps,
    state_depth: Annotated[int, typer.Option(help="How deep the state head drafts.")] = _STATE.depth,
    state_inner: Annotated[int, typer.Option(help="Inner width of its guess.")] = _STATE.inner,
    state_fit_inner: Annotated[int, typer.Option(help="Inner width of its fit.")] = _STATE.fit_inner,
    state_places: Annotated[int, typer.Option(help="Places of a step at which it drafts.")] = _STATE.places,
    state_lr: Annotated[float, typer.Option(help="Peak rate of the state head.")] = _STATE.learning_rate,
    recipe: Annotated[
        Recipe | None, typer.Option(help="A whole training by name; other options replace their part of it.")
    ] = None,
    recipes: Annotated[
        bool, typer.Option("--recipes", help="Train nothing: say what each recipe takes on this machine.")
    ] = False,
    evaluate: Annotated[
        str | None, typer.Option(help="Train nothing: measure this file (or hf:user/name[/file]) on held-out text.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="With --evaluate: write what drafts lack by position here (.md or .json)."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(help="Offer to upload the file to user/name on the Hugging Face hub, with a model card."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --push: upload without asking.")] = False,
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
    if push is not None and evaluate is not None and (report is not None or is_hub_name(evaluate)):
        raise TrainingError("With --evaluate, --push uploads a measured file of this machine; leave --report out.")
    check_files(outputs=[out, report])
    upload = None if push is None else Upload.checked(push, yes=yes)
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
    state = _state_config(context, recipe) if state_head or (recipe is not None and state_head is None) else None
    alone = state is not None and recipe is None and "kind" not in given_on_command_line(context)
    from pass_core.engine import Engine
    from pass_core.files import cache_folder
    from pass_core.models.loading import load_model
    from pass_core.models.lookahead_hub import load_named
    from pass_core.training.events import Ending
    from pass_core.training.options import TrainingOptions, check_file
    from pass_core.training.phases import train_all
    from pass_core.training.preview import measure_file, prepare
    from pass_core.training.processes import Processes
    from pass_core.training.selfwritten import SelfPlan, make_corpus
    from pass_core.training.state_acceptance import measure_state_file
    from pass_core.training.state_head import train_state_head

    cancel = CancelToken()
    lines = TrainingLines(quiet)
    with interrupt_cancels(cancel), Processes(cpu=device == "cpu").main_first(), progress_display(quiet) as progress:
        chosen: Any = dtype
        check_files([name for name in (evaluate, init) if name is not None])
        engine = Engine(load_model(model, device=device, dtype=chosen, progress=progress, cancel=cancel))
        language_model = engine.model
        measured, start = (
            None if name is None else load_named(name, language_model, progress, cancel) for name in (evaluate, init)
        )
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
        if measured is None and not alone:
            wanted = config.uses_bigrams
            config = prepare(engine, config, progress, cancel, budget)
            if wanted and not config.uses_bigrams:
                note("The time does not suffice to read the model's own bigrams: trained without them.")
        elif measured is None:
            pass
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
            for walk, title in ((False, "At evenly spread places"), (True, "At the places that decoding meets")):
                figures = measure_state_file(engine, measured, corpus.held_out, config, as_decoding=walk)
                if figures is not None:
                    lines.state_result(figures, title)
        if upload is not None:
            upload.offer(Path(measured.origin))
        return
    assert out is not None
    options = TrainingOptions(out=out, resume=resume, memory=round(memory * 1e9), command=_command(), init=start)
    with interrupt_cancels(cancel):
        if state is not None and alone:
            asked = state.beside(config)
            last = train_state_head(engine, corpus, asked, options, on_event=lines, cancel=cancel, budget=budget)
            finished = None
        else:
            finished, last = train_all(
                engine, corpus, config, state, options, on_event=lines, cancel=cancel, budget=budget
            )
    if cancel.cancelled:
        if finished is not None and finished.ending is Ending.CANCELLED:
            note(f"Cancelled at step {finished.step}; the same command with --resume continues.")
        elif last is not None and last.ending is Ending.CANCELLED:
            note(f"Cancelled at step {last.step} of the state head; the same command with --resume continues.")
        raise typer.Exit(INTERRUPTED)
    made = (last is not None and last.path) or (finished is not None and finished.path) or None
    if upload is None or not Processes(cpu=device == "cpu").main:
        return
    if made is None:
        note("There is no file to upload.")
    else:
        upload.offer(made)


def given_on_command_line(context: typer.Context) -> set[str]:
    """Names of the parameters that were typed, as opposed to left at their defaults."""
    return {name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")}


def _state_config(context: typer.Context, recipe: Recipe | None) -> StateHeadConfig:
    """The state head that is asked for: the recipe's, or the usual one, with what was typed."""
    usual = _STATE if recipe is None else RECIPES[recipe].state
    typed = given_on_command_line(context)
    return replace(usual, **{field: context.params[name] for name, field in _STATE_FIELDS.items() if name in typed})


def _command() -> str:
    """What was typed, without the program's path: recorded in the file."""
    return "python -m pass_core " + shlex.join(sys.argv[1:])
