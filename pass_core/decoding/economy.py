"""Whether drafting pays on a text: the account of its seconds against those of plain decoding.

Plain decoding would have taken `plain` seconds for each token; what drafting steps save or lose against that is booked.
Drafting may lose SHARE of the text's time in all. At the beginning it may lose that share of the tokens still to come.
So a text takes at most about that much longer than a plain one, whatever acceptance and machine are.
"""

from __future__ import annotations

SHARE = 0.02
START = (3.5, 4.0)  # plain steps, least and most, that a text may stake before any time has passed
RECENT = 3.0  # plain steps lost of late end drafting even where it has saved much before
FADE = 0.9  # a step
PAUSE, LONGEST_PAUSE = 8, 512  # plain steps before drafting is tried again; doubled each time it did not pay
PROBE_STEPS = 3  # look-ahead rows, then twice the drafts made from them; a state head drafts at once
HESITATIONS = 4  # plain plans one after another that end drafting even where it has saved time
FOLLOW = 0.3  # weight of a plain step in what plain steps take


class Economy:
    """The account of one text.

    Args:
        plain: seconds of a plain step, as far as known before the text.
        tokens: how many tokens the text may still have.
        at_once: whether any step can draft without look-ahead rows of the step before.
    """

    def __init__(self, plain: float, tokens: int, at_once: bool = False) -> None:
        self.plain = plain
        self.probe_steps = 1 if at_once else PROBE_STEPS
        self._at_once = at_once
        self.seconds = 0.0  # of all steps
        self.balance = 0.0  # seconds that drafting has saved (below 0: cost)
        self.forced = 0  # steps that draft although it is not expected to pay
        self._stake = min(max(SHARE * tokens, START[0]), START[1])
        self._seen = False  # a plain step of this text
        self._recent = 0.0  # faded
        self._episode = 0.0  # saved since drafting was taken up
        self._drafting = True
        self._hesitated = 0
        self._pause = PAUSE
        self._waited = 0

    @property
    def drafting(self) -> bool:
        """Whether steps draft now."""
        return self._drafting

    @property
    def affordable(self) -> float:
        """Seconds that drafting may lose from here on."""
        return max(self._stake * self.plain, SHARE * self.seconds) + self.balance

    def probe(self, loss: float) -> bool:
        """Whether drafting is taken up again now, if that may lose so many seconds."""
        if self._drafting or self._waited < self._pause or loss > self.affordable:
            return False
        self._drafting, self.forced = True, self.probe_steps
        self._recent = self._episode = 0.0
        return True

    def planned(self, rows: int) -> None:
        """A drafting step has planned a forward pass of so many rows. One row ends drafting, unless it has saved time
        or can begin again at any step: then a place that is hard to guess does not speak against the next one."""
        self._hesitated = 0 if rows > 1 else self._hesitated + 1
        patient = self._at_once or self.balance > 0
        if rows == 1 and (not patient or self._hesitated >= HESITATIONS):
            self.give_up()

    def give_up(self) -> None:
        """Plain steps from here on: drafting is not expected to pay."""
        self._drafting, self.forced, self._waited, self._hesitated = False, 0, 0, 0
        self._pause = PAUSE if self._episode > 0 else min(2 * self._pause, LONGEST_PAUSE)

    def plain_step(self, seconds: float) -> None:
        """A step without any work for drafts."""
        self.seconds += seconds
        self.plain += (FOLLOW if self._seen else 1.0) * (seconds - self.plain) if seconds > 0 else 0.0
        self._seen = True
        self._waited += 1

    def drafting_step(self, tokens: int, seconds: float) -> None:
        """A step that gave so many tokens and worked for drafts."""
        saved = tokens * self.plain - seconds
        self.seconds += seconds
        self.balance += saved
        self._episode += saved
        self._recent = FADE * self._recent + saved
        self.forced = max(0, self.forced - 1)
        if self._drafting and (self._recent < -RECENT * self.plain or self.affordable <= 0):
            self.give_up()
