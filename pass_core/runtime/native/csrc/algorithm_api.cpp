// What Python calls besides a model: the largest logits, the walk of the coupled rule, draft heads, trees of drafts and
// the shape of a forward pass.

#include <cstdint>

#include "chains.h"
#include "drafting.h"
#include "model.h"
#include "requests.h"
#include "top.h"
#include "walk.h"

extern "C" {

// Name, size and fields of a parameter block, null for one that does not exist.
const char* pass_layout(int which) {
  static const char* const all[] = {TopRequest::layout(),  TopArrays::layout(),  WalkRequest::layout(),
                                    WalkArrays::layout(),  GrowRequest::layout(), GrowArrays::layout(),
                                    PlanRequest::layout(), PlanArrays::layout()};
  return which >= 0 && which < 8 ? all[which] : nullptr;
}

// Vocabularies of whole blocks of this size can be selected from, and at most one token of each small block.
int pass_top_block() { return TOP_BLOCK; }
int pass_small_block() { return SMALL_BLOCK; }

// The `count` largest of each row logits[which[r] * stride ..], largest first, ties by lower id. Returns 1 where a row has
// not that many comparable numbers (NaN).
int pass_top(const TopRequest* q, const TopArrays* a) {
  TopScratch scratch;
  for (int r = 0; r < q->rows; r++)
    if (!top_of_row(a->logits + (int64_t)a->which[r] * q->stride, q->vocabulary, q->count,
                    a->ids + (size_t)r * q->count, a->values + (size_t)r * q->count, scratch))
      return 1;
  return 0;
}

// The rows that verification looks at; see walk.h. Arrays of the answer have room for drafts + 1 levels.
int pass_walk(const WalkRequest* q, const WalkArrays* a) { return walk_tree(*q, *a); }

// from_hidden, from_token: bfloat16 [inner, hidden]; out: bfloat16 [hidden, inner]; step: float32 [steps, inner].
// epsilon: added to the mean square that a norm divides by.
void* pass_sampler_new(int hidden, int inner, int steps, float epsilon, const uint16_t* from_hidden, const uint16_t* from_token,
                       const uint16_t* out, const float* step) {
  Head* s = new (std::nothrow) Head();
  if (!s) return nullptr;
  s->hidden = hidden;
  s->inner = inner;
  s->steps = steps;
  s->epsilon = epsilon;
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

// Grow a tree of drafts, level by level, from the look-ahead rows at[0..depth-1] of one forward pass: `states` float32
// [rows, hidden], `logits` [rows, stride] of `vocabulary` tokens, `steps` their look-ahead steps. The best `limit` drafts come out by falling
// reach, parents (-1: the root) first; source[i] is the distribution, of `top_k` ids and log probabilities each, that draft i
// was drawn from. table, head: bfloat16 [vocabulary, hidden] input and output embeddings. draft_head and text may be
// null. The first `plain` depths are drafted from `logits` alone. columns: the token of each of
// the logits' columns, rising; null where they are all tokens. Returns the number of drafts, -1 without memory, -2 for logits that do not compare.
int pass_grow(void* model, void* draft_head, const GrowRequest* request, const GrowArrays* arrays) {
  const GrowRequest g = *request;
  const GrowArrays a = *arrays;
  Model& m = *(Model*)model;
  Head* s = (Head*)draft_head;
  Team& team = m.team;
  auto growth = std::make_shared<Growth>();
  Growth& grown = *growth;
  grown.g = g;
  grown.shares = a.shares;
  grown.text = a.text;
  grown.text_length = a.text_length;
  if (a.text_length) {
    grown.recent.resize(m.vocabulary);
    for (int64_t i = std::max<int64_t>(0, a.text_length - g.recent); i < a.text_length; i++)
      grown.recent[a.text[i]] = true;
  }
  const int depth = (int)a.depth;
  grown.ended = depth;
  grown.beam = {-1};
  grown.ids.resize((size_t)depth * g.candidates);
  grown.values.resize((size_t)depth * g.candidates);
  grown.rescored.resize((size_t)g.width * g.candidates);
  std::shared_ptr<Scoring> work;
  float* prepared = nullptr;
  if (s) {
    work = scoring(*s, a.head, g.width);
    if (!work || !s->prepared.reserve((size_t)depth * s->inner * 4 + (size_t)depth * s->hidden * 2)) return -1;
    prepared = s->prepared.as<float>();
    uint16_t* x = (uint16_t*)(prepared + (size_t)depth * s->inner);
    for (int d = 0; d < depth && !s->shifts; d++)
      rms_rows(a.states + (size_t)a.at[d] * s->hidden, 1, s->hidden, s->epsilon, x + (size_t)d * s->hidden);
    work->count = g.candidates;
    work->scores = grown.rescored.data();
    work->rows = 1;
    embed(*s, a.table, g.root, s->in_rows.as<uint16_t>());
  }
  int vocabulary = (int)a.vocabulary, inner_panels = s ? s->inner_panels() : 0, outer_panels = s ? s->outer_panels() : 0;
  team.run(2 + 4 * depth, [=, &team](Job& job, int t) {
    job.phase(0, t, depth, 1, [&](int d, int) {
      TopScratch scratch;
      size_t row = (size_t)d * g.candidates;
      if (!top_of_row(a.logits + (int64_t)a.at[d] * a.stride, vocabulary, g.candidates, &growth->ids[row], &growth->values[row],
                      scratch))
        growth->failed = true;
      for (int c = 0; a.columns && c < g.candidates; c++) growth->ids[row + c] = a.columns[growth->ids[row + c]];
    });
    job.phase(1, t, inner_panels, team.grain(std::max(1, inner_panels)), [&](int from, int to) {
      const uint16_t* x = (const uint16_t*)(prepared + (size_t)depth * s->inner);
      product_rows(s->from_hidden.panel(from), (size_t)s->from_hidden.pairs * 32, to - from, (const uint32_t*)x, s->hidden / 2,
                   depth, s->from_hidden.pairs, prepared + from * 16, s->inner);
      for (int d = 0; d < depth; d++)
        for (int i = from * 16; i < to * 16; i++)
          prepared[(size_t)d * s->inner + i] += s->step[(size_t)a.steps[d] * s->inner + i];
    });
    for (int d = 0; d < depth; d++) {
      // What one chunk wrote is seen by all once the phase is over; a level that is not grown has no chunks.
      bool grows = d < growth->ended && !growth->failed;
      bool heads = grows && d >= a.plain;
      int inner = heads ? inner_panels : 0, outer = heads ? outer_panels : 0, scored = heads && s ? g.candidates : 0;
      int phase = 2 + 4 * d;
      job.phase(phase, t, inner, team.grain(std::max(1, inner_panels)), [&](int from, int to) {
        Scoring level = *work;
        level.prepared = prepared + (size_t)d * s->inner;
        level.inner(from, to);
      });
      job.phase(phase + 1, t, outer, team.grain(std::max(1, outer_panels)), [&](int from, int to) {
        Scoring level = *work;
        level.state = a.states + (size_t)a.at[d] * s->hidden;
        level.outer(from, to);
      });
      job.phase(phase + 2, t, scored, team.grain(g.candidates), [&](int from, int to) {
        Scoring level = *work;
        level.ids = &growth->ids[(size_t)d * g.candidates];
        level.score(from, to);
      });
      job.phase(phase + 3, t, grows ? 1 : 0, 1, [&](int, int) {
        growth->level(d, s != nullptr, s && d >= a.plain);
        if (!s) return;
        work->rows = (int)growth->beam.size();
        for (int b = 0; b < work->rows; b++)
          embed(*s, a.table, growth->token(growth->beam[b]), s->in_rows.as<uint16_t>() + (size_t)b * s->hidden);
      });
    }
  });
  if (grown.failed) return -2;
  const auto& nodes = grown.nodes;
  std::vector<int> order(nodes.size()), place(nodes.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
  std::stable_sort(order.begin(), order.end(), [&](int one, int other) {
    return nodes[one].reach > nodes[other].reach ||
           (nodes[one].reach == nodes[other].reach && nodes[one].depth < nodes[other].depth);
  });
  int count = std::min((int)order.size(), (int)g.limit);
  for (int i = 0; i < count; i++) {
    const auto& node = nodes[order[i]];
    place[order[i]] = i;
    a.tokens[i] = node.token;
    a.parents[i] = node.parent < 0 ? -1 : place[node.parent];
    a.depths[i] = node.depth;
    a.source[i] = node.from;
    a.reaches[i] = node.reach;
  }
  std::copy(grown.from_ids.begin(), grown.from_ids.end(), a.ids);
  std::copy(grown.from_log_p.begin(), grown.from_log_p.end(), a.log_p);
  return count;
}

// Begin the guesses of a state head (`pass_core.lookahead.state_head`), of the state h [hidden] that predicted `token`
// and of that token: out[d] = h + W_out silu(W_in [rms(h); rms(e)] + step_d), d < depth, and their logits for the tokens
// of a shortlist, [depth, its panels * 16]. table: bfloat16 [vocabulary, hidden]. out, logits and the head are the
// call's until pass_guess_finish; the state is read now. Null without memory.
void* pass_guess_start(void* model, void* head, const void* shortlist, const uint16_t* table, const float* state, int64_t token,
                       int depth, float* out, float* logits) {
  Model& m = *(Model*)model;
  Head& s = *(Head*)head;
  const Matrix& list = *(const Matrix*)shortlist;
  Team& team = m.team;
  int h = s.hidden, n = s.inner;
  Form form = m.form(list);
  size_t ld = word_stride(depth);
  if (!s.in_rows.reserve((size_t)h * 2) || !s.inner_rows.reserve((size_t)depth * n * 2) ||
      !s.prepared.reserve((size_t)n * 4 + (size_t)h * 2) || !s.wide.reserve((size_t)n * 4) ||
      !s.state_rows.reserve((size_t)h * 4) || !s.quantised.reserve(Activations::bytes(h, ld, bit(form))))
    return nullptr;
  float *prepared = s.prepared.as<float>(), *wide = s.wide.as<float>(), *kept = s.state_rows.as<float>();
  uint16_t *x = (uint16_t*)(prepared + n), *e = s.in_rows.as<uint16_t>(), *z = s.inner_rows.as<uint16_t>();
  std::memcpy(kept, state, (size_t)h * 4);
  rms_rows(kept, 1, h, s.epsilon, x);
  embed(s, table, token, e);
  Activations rows;
  rows.place(s.quantised.data, h, ld, bit(form));
  const Head* shared = &s;
  const Matrix* read = &list;
  size_t width = (size_t)list.panels * 16;
  auto job = team.start(4, [=, &team](Job& job, int t) {
    const Head& s = *shared;
    job.phase(0, t, s.inner_panels(), team.grain(s.inner_panels()), [&](int from, int to) {
      const Packed &a = s.from_hidden, &b = s.from_token;
      product_rows(a.panel(from), (size_t)a.pairs * 32, to - from, (const uint32_t*)x, h / 2, 1, a.pairs,
                   prepared + from * 16, n);
      product_rows(b.panel(from), (size_t)b.pairs * 32, to - from, (const uint32_t*)e, h / 2, 1, b.pairs,
                   wide + from * 16, n);
      for (int d = 0; d < depth; d++)
        for (int i = from * 16; i < to * 16; i += 16)
          store_bf16(z + (size_t)d * n + i,
                     silu16(load_f32(prepared + i) + load_f32(&s.step[(size_t)d * n + i]) + load_f32(wide + i)));
    });
    job.phase(1, t, s.outer_panels(), team.grain(s.outer_panels()), [&](int from, int to) {
      product_rows(s.out.panel(from), (size_t)s.out.pairs * 32, to - from, (const uint32_t*)z, n / 2, depth, s.out.pairs,
                   out + from * 16, h);
      for (int d = 0; d < depth; d++)
        for (int i = from * 16; i < to * 16; i++) out[(size_t)d * h + i] += kept[i];
    });
    job.phase(2, t, 1, 1, [&](int, int) {
      for (int d = 0; d < depth; d++) rows.put(d, 0, out + (size_t)d * h, h);
    });
    job.phase(3, t, read->panels, team.grain(read->panels), [&](int first, int last) {
      pass::product(read->format, form, pass::AGAIN, read->run(first, last - first), rows.of[form], rows.ld, depth,
                    logits + (size_t)first * 16, width);
    });
  });
  return new std::shared_ptr<Job>(job);
}

// Wait for guesses, and help.
void pass_guess_finish(void* model, void* guess) {
  auto* job = (std::shared_ptr<Job>*)guess;
  ((Model*)model)->team.finish(**job);
  delete job;
}

// The best shape of a forward pass, as pass_core/kernels/interface.py has it: how many of the drafts are verified, and how many
// look-ahead rows the root and each of them carry (chains: [drafts + 1]), and what that is worth (value: [1]). seconds: [rows_limit + 1], in tokens.
int pass_plan(const PlanRequest* q, const PlanArrays* a) {
  double best = -INFINITY;
  int chosen = 0, falling = 0;
  a->chains[0] = 0;
  for (int turn = 0; turn < a->tried; turn++) {
    int n = a->counts[turn];
    Chains chains(a->reaches, a->parents, n, a->hits, a->steps);
    double present = 1.0;
    for (int i = 0; i < n; i++) present += a->reaches[i];
    double most = present - a->seconds[1 + n];
    std::vector<int> shape = chains.lengths;
    for (int rows = 2 + n; rows <= q->rows_limit && chains.extend(); rows++) {
      double with = present - a->seconds[rows] + q->future * chains.promised;
      if (with > most) {
        most = with;
        shape = chains.lengths;
      }
    }
    falling = most <= best ? falling + 1 : 0;
    if (falling == q->patience) break;
    if (most > best) {
      best = most;
      chosen = n;
      std::copy(shape.begin(), shape.end(), a->chains);
    }
  }
  *a->value = best;
  return chosen;
}
}
