"""Brings a window into each state in which something runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytestqt.qtbot import QtBot

from app.benchmark.page import BenchmarkPage
from app.compare.page import ComparePage
from app.losslessness.page import LosslessnessPage
from app.training.page import TrainPage
from app.training.plan import TrainingPlan
from app.window import MainWindow
from pass_core.evaluation.losslessness.plan import VerificationPlan
from pass_core.training.config import TrainingConfig, TrainingKind

STATES = ("generation", "comparison", "training", "timing", "benchmark", "proof")
TRAINING = TrainingConfig(
    kind=TrainingKind.EMBEDDINGS,
    lookahead=3,
    steps=100_000,
    batch=2,
    rows=12,
    length=32,
    warmup=1,
    evaluate_every=1000,
    evaluate_contexts=12,
    checkpoint_every=1000,
)


def begin(state: str, window: MainWindow, qtbot: QtBot, folder: Path) -> str:
    """Start what the state is named after, and wait until it is under way.

    Returns:
        what the status line calls it.
    """
    context = window.generate._context
    setup = context.setup.value
    context.setup.set(replace(setup, stop=replace(setup.stop, max_new_tokens=240, ignore_eos=True)))
    if state == "generation":
        with qtbot.waitSignal(context.session.steps_arrived, timeout=60_000):
            window.generate.run()
        return "a generation"
    if state == "comparison":
        compare = window.page("compare")
        assert isinstance(compare, ComparePage)
        with qtbot.waitSignal(compare.runner.steps_arrived, timeout=60_000):
            compare.compare()
        return "a comparison"
    if state in ("training", "timing"):
        train = window.page("train")
        assert isinstance(train, TrainPage)
        text = folder / "text"
        text.mkdir()
        for n in range(12):
            words = " ".join(f"{(n * 37 + i * i) % 997} birds" for i in range(40))
            (text / f"{n}.txt").write_text(f"Page {n}. {words}", encoding="utf-8")
        train.form.take(TrainingPlan(TRAINING, str(text), 12, folder / "made.safetensors"))
        if state == "timing":
            train.measure()
            return "measuring a training step"
        with qtbot.waitSignal(train.controller.state_changed, timeout=60_000):
            train.start()
        return "training"
    if state == "benchmark":
        bench = window.page("benchmark")
        assert isinstance(bench, BenchmarkPage)
        form = bench.speed.form
        form.ks.setText("1, 2")
        form.tokens.setValue(8)
        form.prompts.setValue(1)
        form.minutes.setValue(0)
        with qtbot.waitSignal(bench.speed.job.received, timeout=60_000):
            bench.speed.bar.run.click()
        return "a benchmark"
    proofs = window.page("losslessness")
    assert isinstance(proofs, LosslessnessPage)
    with qtbot.waitSignal(proofs.job.received, timeout=60_000):
        proofs.start(VerificationPlan(prompts=1, tokens=8, seeds=1, temperatures=(0.8,), draws=400, texts=1))
    return "the losslessness proofs"
