"""A whole training: the parts of look-ahead rows, then the state head, in one time limit."""

from __future__ import annotations

from dataclasses import replace

from pass_core.engine import Engine
from pass_core.lookahead.format import load_lookahead
from pass_core.progress import CancelToken
from pass_core.training.budget import STATE_HEAD_SHARE, Budget
from pass_core.training.checkpoint import forget_checkpoint
from pass_core.training.config import TrainingConfig
from pass_core.training.control import PauseSwitch
from pass_core.training.corpus import Corpus
from pass_core.training.events import Ending, EventCallback, Finished, StateHeadFinished
from pass_core.training.options import TrainingOptions
from pass_core.training.processes import Processes
from pass_core.training.state_config import StateHeadConfig
from pass_core.training.state_head import train_state_head
from pass_core.training.trainer import train


def train_all(
    engine: Engine,
    corpus: Corpus,
    config: TrainingConfig,
    state: StateHeadConfig | None,
    options: TrainingOptions,
    *,
    on_event: EventCallback | None = None,
    cancel: CancelToken | None = None,
    pause: PauseSwitch | None = None,
    budget: Budget | None = None,
) -> tuple[Finished, StateHeadFinished | None]:
    """`train`, then `train_state_head` on the file that it made, with what `config` and `state` have in common taken
    from `config`.

    A time limit leaves STATE_HEAD_SHARE of it for the state head. Of several processes the first one trains it. Each
    part has a checkpoint, so a resumed run continues in the part where it was.

    Args:
        state: None for no state head. Other arguments are those of `train`.

    Raises:
        TrainingError: as both.
    """
    whole = budget or Budget(config.minutes)
    both = state is not None and whole.limited
    first = whole.first(1 - STATE_HEAD_SHARE) if both else whole
    if not options.resume:
        forget_checkpoint(options.state_checkpoint_path)
    finished = train(engine, corpus, config, options, on_event=on_event, cancel=cancel, pause=pause, budget=first)
    if state is None or finished.ending is Ending.CANCELLED or finished.path is None:
        return finished, None
    if not Processes(cpu=engine.model.device.type == "cpu").main:
        return finished, None
    # What a resumed run's other parts took before its interruption is not known here.
    left = Budget(STATE_HEAD_SHARE * config.minutes) if options.resume and both else whole
    made = replace(options, init=load_lookahead(finished.path))
    last = train_state_head(
        engine, corpus, state.beside(config), made, on_event=on_event, cancel=cancel, pause=pause, budget=left
    )
    return finished, last
