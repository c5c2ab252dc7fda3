"""The operations once more, node by node in Python: slow, and written without the code that they are to check."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pass_core.kernels.interface import CallPlan, DraftRows, GrowRequest, PlanRequest, WalkRequest

MIX = 2**64 - 1
Scores = Callable[[int, int, np.ndarray], np.ndarray]
"""Level (0-based), token before, candidate ids -> float32 logits of the candidates."""


def gumbel(noise: int, position: int, token: int) -> float:
    """The shared noise, with Python's integers."""

    def mix(h: int) -> int:
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & MIX
        h = (h ^ (h >> 27)) * 0x94D049BB133111EB & MIX
        return h ^ (h >> 31)

    h = mix(mix(noise ^ (position * 0xD1B54A32D192ED03 & MIX)) ^ (token * 0x8CB92BA72F3D8DD7 & MIX))
    return -math.log(-math.log(((h >> 12) + 0.5) * 2.0**-52))


def top(row: np.ndarray, count: int) -> np.ndarray:
    """Ids of the largest numbers, ties by lower id."""
    return np.lexsort((np.arange(row.size), -row))[:count]


def left(logits: np.ndarray, request: WalkRequest | GrowRequest) -> int:
    """How many of falling logits top-p and min-p keep, by exact sums."""
    ratios = [math.exp((float(x) - float(logits[0])) / request.temperature) for x in logits]
    for c in range(1, len(ratios)):
        outside = request.top_p < 1 and math.fsum(ratios[:c]) >= request.top_p * math.fsum(ratios)
        if outside or ratios[c] < math.exp(request.log_min_p):
            return c
    return len(ratios)


def log_probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    wide = logits.astype(np.float64)
    scaled = (wide - wide.max()) / temperature
    return scaled - math.log(np.exp(scaled).sum())


def walk(
    logits: np.ndarray, request: WalkRequest, tokens: Sequence[int], parents: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Rows that the walk meets, and the samples there."""
    rows, samples = [], []
    at: int | None = -1
    while at is not None:
        row = logits[at + 1]
        ids = top(row, request.top_k) if request.top_k else np.arange(row.size)
        if request.top_k:
            ids = ids[: left(row[ids], request)]
        log_p = log_probabilities(row[ids], request.temperature)
        position = request.position + len(samples)
        scores = [p + gumbel(request.noise, position, int(i)) for i, p in zip(ids, log_p)]
        token = int(ids[int(np.argmax(scores))]) if request.top_k != 1 else int(ids[0])
        rows.append(at + 1)
        samples.append(token)
        at = next((i for i, (t, above) in enumerate(zip(tokens, parents)) if above == at and t == token), None)
    return rows, samples


@dataclass
class Node:
    token: int
    parent: int
    depth: int
    reach: float
    ids: np.ndarray
    log_p: np.ndarray


def grow(
    rows: DraftRows, request: GrowRequest, scores: Scores | None = None, text: np.ndarray | None = None
) -> list[Node]:
    """The drafts by falling reach, parents first."""
    nodes: list[Node] = []
    beam: list[int] = [-1]
    logits = rows.logits.float().numpy()

    def token(node: int) -> int:
        return request.root if node < 0 else nodes[node].token

    def second(node: int) -> int:
        return request.before if node < 0 else token(nodes[node].parent)

    for level, at in enumerate(rows.at):
        added: list[int] = []
        for above in beam:
            row = logits[at]
            if scores is None:
                whole = not 0 < request.top_k < row.size and request.top_p == 1 and request.log_min_p == -math.inf
                ids = np.arange(row.size) if whole else top(row, request.top_k)
                values = row[ids]
            else:
                ids = np.sort(top(row, request.candidates))
                values = scores(level, token(above), ids)
                if text is not None:
                    values = values + bonus(request, text, second(above), token(above), ids)
                order = np.lexsort((ids, -values))[: request.top_k or None]
                ids, values = ids[order], values[order]
            if request.top_k:
                count = left(values, request)
                ids, values = ids[:count], values[:count]
            log_p = log_probabilities(values, request.temperature)
            drawn = [
                p + (gumbel(request.noise, request.position + level, int(i)) if request.noisy else 0.0)
                for i, p in zip(ids, log_p)
            ]
            best = sorted(range(len(drawn)), key=lambda c: (-drawn[c], c))[: request.branches]
            weights = [math.exp((drawn[c] - drawn[best[0]]) / request.sibling_temperature) for c in best]
            above_reach = 1.0 if above < 0 else nodes[above].reach
            for c, weight in zip(best, weights):
                reach = min(1.0, request.shares[level]) * weight / sum(weights) * above_reach
                if reach < request.min_reach:
                    break
                nodes.append(Node(int(ids[c]), above, level + 1, reach, ids, log_p))
                added.append(len(nodes) - 1)
        beam = heapq.nlargest(request.width, added, key=lambda i: nodes[i].reach)
        if not beam or sum(nodes[i].reach for i in beam) < request.min_level_reach:
            break
    order = sorted(range(len(nodes)), key=lambda i: (-nodes[i].reach, nodes[i].depth, i))
    place = {-1: -1, **{old: new for new, old in enumerate(order)}}
    for node in nodes:
        node.parent = place[node.parent]
    return [nodes[i] for i in order[: request.limit]]


def bonus(request: GrowRequest, text: np.ndarray, second: int, last: int, ids: np.ndarray) -> np.ndarray:
    """What candidates gain that the text has already, float32 [C]."""
    out = np.float32(request.seen) * np.isin(ids, text[-request.recent :]).astype(np.float32)
    after = [i for i in range(text.size - 1) if text[i] == last]
    out += np.float32(request.after_one) * np.isin(ids, text[[i + 1 for i in after]])
    out += np.float32(request.after_two) * np.isin(ids, text[[i + 1 for i in after if i and text[i - 1] == second]])
    return out


def exact_scores(
    shift: Callable[[int], np.ndarray], hidden: torch.Tensor, at: Sequence[int], head: torch.Tensor
) -> Scores:
    """A head that adds a vector to the state, for numbers whose products and sums float32 holds exactly."""

    def scores(level: int, before: int, ids: np.ndarray) -> np.ndarray:
        state = hidden[at[level]].double().numpy() + shift(before)
        return (head.double().numpy()[ids] @ state).astype(np.float32)

    return scores


def plan(request: PlanRequest) -> CallPlan:
    """The search with every value computed anew from its definition."""
    best, best_value, falling = CallPlan(0, (0,)), -math.inf, 0
    for drafts in request.counts:
        parents = [-1, *(p + 1 for p in request.parents[:drafts])]
        stops = [1.0, *request.reaches[:drafts]]
        for parent, reach in zip(request.parents[:drafts], request.reaches):
            stops[parent + 1] -= reach
        lengths = [0] * len(stops)

        def value(node: int, lengths: Sequence[int], parents: Sequence[int] = parents) -> float:
            total, product, depth = 0.0, 1.0, 1
            while True:
                above, step = node, depth
                while above >= 0 and lengths[above] < step:
                    above, step = parents[above], step + 1
                if above < 0:
                    return total
                product *= request.hits[step - 1]
                total += product
                depth += 1

        def promised(lengths: Sequence[int], stops: Sequence[float] = stops) -> float:
            return sum(max(stop, 0.0) * value(node, lengths) for node, stop in enumerate(stops))

        present = 1.0 + sum(request.reaches[:drafts])
        worth, shape = present - float(request.seconds[1 + drafts]), tuple(lengths)
        for rows in range(2 + drafts, request.rows_limit + 1):
            longer = [
                (promised([n + (i == node) for i, n in enumerate(lengths)]) - promised(lengths), -node)
                for node in range(len(lengths))
                if lengths[node] < len(request.hits)
            ]
            if not longer or max(longer)[0] <= 1e-12:
                break
            lengths[-max(longer)[1]] += 1
            with_row = present - float(request.seconds[rows]) + request.future * promised(lengths)
            if with_row > worth:
                worth, shape = with_row, tuple(lengths)
        falling = falling + 1 if worth <= best_value else 0
        if falling == request.patience:
            break
        if worth > best_value:
            best, best_value = CallPlan(drafts, shape), worth
    return best


def worth(request: PlanRequest, shape: CallPlan) -> float:
    """What a shape is worth, by the definition of `PlanRequest`."""
    parents = [-1, *(p + 1 for p in request.parents[: shape.drafts])]
    stops = [1.0, *request.reaches[: shape.drafts]]
    for parent, reach in zip(request.parents[: shape.drafts], request.reaches):
        stops[parent + 1] -= reach
    total = 1.0 + sum(request.reaches[: shape.drafts]) - float(request.seconds[shape.rows])
    for node, stop in enumerate(stops):
        product, depth = 1.0, 1
        while True:
            above, step = node, depth
            while above >= 0 and shape.chains[above] < step:
                above, step = parents[above], step + 1
            if above < 0:
                break
            product *= request.hits[step - 1]
            total += request.future * max(stop, 0.0) * product
            depth += 1
    return total
