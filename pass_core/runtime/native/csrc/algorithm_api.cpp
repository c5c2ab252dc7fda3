// What Python calls besides a model: the largest logits, the walk of the coupled rule, draft heads, trees of drafts and
// the shape of a call. Included by api.cpp.

#include <cstdint>

#include "chains.h"
#include "drafting.h"
#include "forward.h"
#include "top.h"
#include "walk.h"

extern "C" {

// The `count` largest of each row logits[which[r] * stride ..] of `vocabulary` (a multiple of 128, at least 128 times
// `count`), largest first, ties by lower id. Returns 1 where a row has not that many comparable numbers (NaN).
int pass_top(const float* logits, int64_t stride, const int32_t* which, int rows, int vocabulary, int count,
             int64_t* ids, float* values) {
  TopScratch scratch;
  for (int r = 0; r < rows; r++)
    if (!top_of_row(logits + (int64_t)which[r] * stride, vocabulary, count, ids + (size_t)r * count,
                    values + (size_t)r * count, scratch))
      return 1;
  return 0;
}

// The rows that verification looks at; see walk.h. Arrays of the answer have room for drafts + 1 levels.
int pass_walk(const float* logits, int64_t stride, int vocabulary, int kept, double temperature, uint64_t noise,
              int64_t position, const int64_t* tokens, const int32_t* parents, int drafts, int32_t* rows,
              int64_t* samples, int64_t* ids, float* values) {
  return walk_tree(logits, stride, vocabulary, kept, temperature, noise, position, tokens, parents, drafts, rows,
                   samples, ids, values);
}

// from_hidden, from_token: bfloat16 [inner, hidden]; out: bfloat16 [hidden, inner]; step: float32 [steps, inner].
void* pass_sampler_new(int hidden, int inner, int steps, const uint16_t* from_hidden, const uint16_t* from_token,
                       const uint16_t* out, const float* step) {
  Head* s = new (std::nothrow) Head();
  if (!s) return nullptr;
  s->hidden = hidden;
  s->inner = inner;
  s->steps = steps;
  if (!s->from_hidden.reserve(inner, hidden) || !s->from_token.reserve(inner, hidden) ||
      !s->out.reserve(hidden, inner)) {
    delete s;
    return nullptr;
  }
  s->from_hidden.put(from_hidden, inner);
  s->from_token.put(from_token, inner);
  s->out.put(out, hidden);
  s->step = copy(step, (size_t)steps * inner);
  return s;
}

// shifts: bfloat16 [known, hidden], which stays the caller's.
void* pass_bigrams_new(int hidden, int64_t known, const uint16_t* shifts) {
  Head* s = new (std::nothrow) Head();
  if (!s) return nullptr;
  s->hidden = hidden;
  s->known = known;
  s->shifts = shifts;
  return s;
}

void pass_head_free(void* head) { delete (Head*)head; }

// prepared: float32 [rows, inner]: what depends on the look-ahead state and step alone.
int pass_head_prepare(void* model, void* draft_head, const float* states, const int32_t* steps, int rows,
                         float* prepared) {
  Team& team = ((Model*)model)->team;
  Head& s = *(Head*)draft_head;
  if (s.shifts) return 0;
  if (!s.in_rows.reserve((size_t)rows * s.hidden * 2)) return 1;
  uint16_t* x = s.in_rows.as<uint16_t>();
  rms_rows(states, rows, s.hidden, x);
  std::vector<int32_t> which(steps, steps + rows);
  team.run(1, [&s, &team, x, which, rows, prepared](Job& job, int t) {
    job.phase(0, t, s.from_hidden.panels, team.grain(s.from_hidden.panels), [&](int first, int last) {
      product_rows(s.from_hidden.panel(first), (size_t)s.from_hidden.pairs * 32, last - first, (const uint32_t*)x,
              s.hidden / 2, rows, s.from_hidden.pairs, prepared + first * 16, s.inner);
      for (int r = 0; r < rows; r++)
        for (int i = first * 16; i < last * 16; i++)
          prepared[(size_t)r * s.inner + i] += s.step[(size_t)which[r] * s.inner + i];
    });
  });
  return 0;
}

// Logits of the candidates `ids` for each token that may stand before: float32 [rows, count].
// table: bfloat16 [vocabulary, hidden] input embeddings; head: bfloat16 [vocabulary, hidden] output embeddings.
int pass_head_score(void* model, void* draft_head, const float* state, const float* prepared, const uint16_t* table,
                       const uint16_t* head, const int64_t* tokens, int rows, const int64_t* ids, int count,
                       float* scores) {
  Team& team = ((Model*)model)->team;
  Head& s = *(Head*)draft_head;
  auto work = scoring(s, head, rows);
  if (!work) return 1;
  work->state = state;
  work->prepared = prepared;
  work->ids = ids;
  work->count = count;
  work->scores = scores;
  for (int r = 0; r < rows; r++) embed(s, table, tokens[r], s.in_rows.as<uint16_t>() + (size_t)r * s.hidden);
  int inner_panels = s.inner_panels(), outer_panels = s.outer_panels();
  team.run(3, [=, &team](Job& job, int t) {
    job.phase(0, t, inner_panels, team.grain(std::max(1, inner_panels)), [&](int a, int b) { work->inner(a, b); });
    job.phase(1, t, outer_panels, team.grain(outer_panels), [&](int a, int b) { work->outer(a, b); });
    job.phase(2, t, count, team.grain(count), [&](int a, int b) { work->score(a, b); });
  });
  return 0;
}

// Grow a tree of drafts, level by level, from the look-ahead rows at[0..depth-1] of one call: `states` float32
// [rows, hidden], `logits` [rows, stride], `steps` their look-ahead steps. The best `limit` drafts come out by falling
// reach, parents (-1: the root) first; from[i] is the distribution, of kept ids and log probabilities each, that draft i
// was drawn from. draft_head and text may be null. Returns the number of drafts, -1 without memory, -2 for logits that do not compare.
int pass_grow(void* model, void* draft_head, const PassGrowth* request, const float* states, const float* logits,
              int64_t stride, const int32_t* at, const int32_t* steps, const double* shares, const int64_t* text,
              const uint16_t* table, const uint16_t* head, int64_t* tokens, int32_t* parents, int32_t* depths,
              int32_t* from, double* reaches, int64_t* ids, double* log_p) {
  Model& m = *(Model*)model;
  Head* s = (Head*)draft_head;
  Team& team = m.team;
  auto growth = std::make_shared<Growth>();
  Growth& grown = *growth;
  grown.g = *request;
  grown.shares = shares;
  grown.text = text;
  if (request->text_length) {
    grown.recent.resize(m.vocabulary);
    for (int64_t i = std::max<int64_t>(0, request->text_length - request->of_late); i < request->text_length; i++)
      grown.recent[text[i]] = true;
  }
  const PassGrowth g = *request;
  grown.ended = g.depth;
  grown.beam = {-1};
  grown.ids.resize((size_t)g.depth * g.candidates);
  grown.values.resize((size_t)g.depth * g.candidates);
  grown.rescored.resize((size_t)g.width * g.candidates);
  std::shared_ptr<Scoring> work;
  float* prepared = nullptr;
  if (s) {
    work = scoring(*s, head, g.width);
    if (!work || !s->prepared.reserve((size_t)g.depth * s->inner * 4 + (size_t)g.depth * s->hidden * 2)) return -1;
    prepared = s->prepared.as<float>();
    uint16_t* x = (uint16_t*)(prepared + (size_t)g.depth * s->inner);
    for (int d = 0; d < g.depth && !s->shifts; d++)
      rms_rows(states + (size_t)at[d] * s->hidden, 1, s->hidden, x + (size_t)d * s->hidden);
    work->count = g.candidates;
    work->scores = grown.rescored.data();
    work->rows = 1;
    embed(*s, table, g.root, s->in_rows.as<uint16_t>());
  }
  int vocabulary = m.vocabulary, inner_panels = s ? s->inner_panels() : 0, outer_panels = s ? s->outer_panels() : 0;
  team.run(2 + 4 * g.depth, [=, &team](Job& job, int t) {
    job.phase(0, t, g.depth, 1, [&](int d, int) {
      TopScratch scratch;
      size_t row = (size_t)d * g.candidates;
      if (!top_of_row(logits + (int64_t)at[d] * stride, vocabulary, g.candidates, &growth->ids[row], &growth->values[row],
                      scratch))
        growth->failed = true;
    });
    job.phase(1, t, inner_panels, team.grain(std::max(1, inner_panels)), [&](int a, int b) {
      const uint16_t* x = (const uint16_t*)(prepared + (size_t)g.depth * s->inner);
      product_rows(s->from_hidden.panel(a), (size_t)s->from_hidden.pairs * 32, b - a, (const uint32_t*)x, s->hidden / 2,
                   g.depth, s->from_hidden.pairs, prepared + a * 16, s->inner);
      for (int d = 0; d < g.depth; d++)
        for (int i = a * 16; i < b * 16; i++)
          prepared[(size_t)d * s->inner + i] += s->step[(size_t)steps[d] * s->inner + i];
    });
    for (int d = 0; d < g.depth; d++) {
      // What one chunk wrote is seen by all once the phase is over; a level that is not grown has no chunks.
      bool grows = d < growth->ended && !growth->failed;
      int inner = grows ? inner_panels : 0, outer = grows ? outer_panels : 0, scored = grows && s ? g.candidates : 0;
      int phase = 2 + 4 * d;
      job.phase(phase, t, inner, team.grain(std::max(1, inner_panels)), [&](int a, int b) {
        Scoring level = *work;
        level.prepared = prepared + (size_t)d * s->inner;
        level.inner(a, b);
      });
      job.phase(phase + 1, t, outer, team.grain(std::max(1, outer_panels)), [&](int a, int b) {
        Scoring level = *work;
        level.state = states + (size_t)at[d] * s->hidden;
        level.outer(a, b);
      });
      job.phase(phase + 2, t, scored, team.grain(g.candidates), [&](int a, int b) {
        Scoring level = *work;
        level.ids = &growth->ids[(size_t)d * g.candidates];
        level.score(a, b);
      });
      job.phase(phase + 3, t, grows ? 1 : 0, 1, [&](int, int) {
        growth->level(d, s != nullptr);
        if (!s) return;
        work->rows = (int)growth->beam.size();
        for (int b = 0; b < work->rows; b++)
          embed(*s, table, growth->token(growth->beam[b]), s->in_rows.as<uint16_t>() + (size_t)b * s->hidden);
      });
    }
  });
  if (grown.failed) return -2;
  const auto& nodes = grown.nodes;
  std::vector<int> order(nodes.size()), place(nodes.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return nodes[a].reach > nodes[b].reach || (nodes[a].reach == nodes[b].reach && nodes[a].depth < nodes[b].depth);
  });
  int count = std::min((int)order.size(), (int)g.limit);
  for (int i = 0; i < count; i++) {
    const auto& node = nodes[order[i]];
    place[order[i]] = i;
    tokens[i] = node.token;
    parents[i] = node.parent < 0 ? -1 : place[node.parent];
    depths[i] = node.depth;
    from[i] = node.from;
    reaches[i] = node.reach;
  }
  std::copy(grown.from_ids.begin(), grown.from_ids.end(), ids);
  std::copy(grown.from_log_p.begin(), grown.from_log_p.end(), log_p);
  return count;
}

// The best shape of a call, as pass_core/decoding/budget.py has it: how many of the drafts are verified, and how many
// look-ahead rows the root and each of them carry (chains: [drafts + 1]). seconds: [rows_limit + 1], in tokens.
int pass_plan(const double* reaches, const int32_t* parents, int drafts, const double* hits, int steps, int rows_limit,
              const double* seconds, double future, int patience, const int32_t* counts, int tried, int32_t* lengths) {
  double best = -INFINITY;
  int chosen = 0, falling = 0;
  lengths[0] = 0;
  for (int turn = 0; turn < tried; turn++) {
    int n = counts[turn];
    Chains chains(reaches, parents, n, hits, steps);
    double present = 1.0;
    for (int i = 0; i < n; i++) present += reaches[i];
    double most = present - seconds[1 + n];
    std::vector<int> shape = chains.lengths;
    for (int rows = 2 + n; rows <= rows_limit && chains.extend(); rows++) {
      double with = present - seconds[rows] + future * chains.promised;
      if (with > most) {
        most = with;
        shape = chains.lengths;
      }
    }
    falling = most <= best ? falling + 1 : 0;
    if (falling == patience) break;
    if (most > best) {
      best = most;
      chosen = n;
      std::copy(shape.begin(), shape.end(), lengths);
    }
  }
  return chosen;
}
}
