"""The one harness: a job for a decoder, timed by the seconds that its step events carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pass_core.decoding.decoder import Decoder
from pass_core.decoding.events import StepEvent, StopReason
from pass_core.decoding.summary import SummaryBuilder
from pass_core.engine import Engine
from pass_core.evaluation.baselines.contestant import Contestant, Job, Measurement, settings_of, text_hash
from pass_core.evaluation.baselines.decoders import decoder_for
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.settings import StopConditions


class DecoderRunner:
    """Runs contestants that are decoders: ours and transformers'.

    Args:
        lookaheads: look-ahead files by the contestants' labels.
    """

    def __init__(self, engine: Engine, lookaheads: Mapping[str, LookaheadEmbeddings]) -> None:
        self._engine, self._lookaheads = engine, lookaheads

    def __call__(self, contestant: Contestant, job: Job, cancelled: Callable[[], bool]) -> Measurement:
        settings = settings_of(contestant, job.sampling)
        decoder = decoder_for(self._engine, settings, self._lookaheads.get(contestant.embeddings))
        return measure(decoder, job, cancelled)


def measure(decoder: Decoder, job: Job, cancelled: Callable[[], bool]) -> Measurement:
    """Write one text and count.

    Where a decoder does not read the prompt in passes of their own, its first step counts as prefill.
    """
    builder = SummaryBuilder()
    ids: list[int] = []
    untimed: StepEvent | None = None
    reason: StopReason | None = None
    stop = StopConditions(max_new_tokens=job.max_new_tokens, ignore_eos=job.ignore_eos)
    for step in decoder.decode(job.ids, stop=stop, seed=job.seed, cancelled=cancelled):
        builder.add(step)
        if step.prefill is not None and step.prefill.calls == 0 and len(job.ids) > 1:
            untimed = step
        ids += [t.id for t in step.tokens]
        reason = step.stop_reason
    s = builder.summary()
    return Measurement(
        new_tokens=s.new_tokens,
        timed_tokens=s.new_tokens - (len(untimed.tokens) if untimed else 0),
        calls=s.calls - (untimed.calls if untimed else 0),
        steps=s.steps - (untimed is not None),
        accepted=s.accepted,
        proposed=s.proposed,
        prefill_seconds=s.prefill_seconds + (untimed.seconds if untimed else 0.0),
        decode_seconds=s.decode_seconds - (untimed.seconds if untimed else 0.0),
        accepted_by_position=s.accepted_by_position,
        examined_by_position=s.examined_by_position,
        text_hash=text_hash(ids),
        cancelled=reason is StopReason.CANCELLED,
    )
