// The parameter blocks of the operations in algorithm_api.cpp. Their fields, in this order, are those of
// pass_core/kernels/interface.py and native.py, which compare names, types and sizes with `pass_layout` when they load.
#pragma once

#include <cstdint>
#include <string>

#define PASS_TOP_REQUEST(X) \
  X(int64_t, stride)        \
  X(int32_t, rows)          \
  X(int32_t, vocabulary)    \
  X(int32_t, count)         \
  X(int32_t, reserved)

#define PASS_TOP_ARRAYS(X)  \
  X(const float*, logits)   \
  X(const int32_t*, which)  \
  X(int64_t*, ids)          \
  X(float*, values)

#define PASS_WALK_REQUEST(X) \
  X(uint64_t, noise)         \
  X(int64_t, position)       \
  X(double, temperature)     \
  X(int32_t, top_k)          \
  X(double, top_p)           \
  X(double, log_min_p)

#define PASS_WALK_ARRAYS(X)   \
  X(int64_t, stride)          \
  X(int32_t, vocabulary)      \
  X(int32_t, drafts)          \
  X(const float*, logits)     \
  X(const int64_t*, tokens)   \
  X(const int32_t*, parents)  \
  X(int32_t*, rows)           \
  X(int64_t*, samples)        \
  X(int64_t*, ids)            \
  X(float*, values)           \
  X(int32_t*, kept)

#define PASS_GROW_REQUEST(X)      \
  X(uint64_t, noise)              \
  X(int64_t, position)            \
  X(int64_t, before)              \
  X(int64_t, root)                \
  X(double, temperature)          \
  X(double, sibling_temperature)  \
  X(double, min_reach)            \
  X(double, min_level_reach)      \
  X(float, seen)                  \
  X(float, after_one)             \
  X(float, after_two)             \
  X(int32_t, recent)              \
  X(int32_t, top_k)               \
  X(int32_t, candidates)          \
  X(int32_t, branches)            \
  X(int32_t, width)               \
  X(int32_t, limit)               \
  X(int32_t, noisy)               \
  X(double, top_p)                \
  X(double, log_min_p)

#define PASS_GROW_ARRAYS(X)   \
  X(int64_t, stride)          \
  X(int64_t, text_length)     \
  X(int64_t, depth)           \
  X(int64_t, vocabulary)      \
  X(int64_t, plain)           \
  X(const float*, states)     \
  X(const float*, logits)     \
  X(const int32_t*, at)       \
  X(const int32_t*, steps)    \
  X(const double*, shares)    \
  X(const int64_t*, text)     \
  X(const int64_t*, columns)  \
  X(const uint16_t*, table)   \
  X(const uint16_t*, head)    \
  X(int64_t*, tokens)         \
  X(int32_t*, parents)        \
  X(int32_t*, depths)         \
  X(int32_t*, source)         \
  X(double*, reaches)         \
  X(int64_t*, ids)            \
  X(double*, log_p)

#define PASS_PLAN_REQUEST(X) \
  X(double, future)          \
  X(int32_t, patience)       \
  X(int32_t, rows_limit)

#define PASS_PLAN_ARRAYS(X)   \
  X(int32_t, drafts)          \
  X(int32_t, steps)           \
  X(int32_t, tried)           \
  X(int32_t, reserved)        \
  X(const double*, reaches)   \
  X(const int32_t*, parents)  \
  X(const double*, hits)      \
  X(const double*, seconds)   \
  X(const int32_t*, counts)   \
  X(int32_t*, chains)         \
  X(double*, value)

#define PASS_FIELD(type, name) type name;
#define PASS_NAME(type, name) #type " " #name ";"
#define PASS_BLOCK(Name, FIELDS, bytes)                                    \
  struct Name {                                                            \
    FIELDS(PASS_FIELD)                                                     \
    static const char* layout() { return #Name ":" #bytes ":" FIELDS(PASS_NAME); } \
  };                                                                       \
  static_assert(sizeof(Name) == bytes, #Name " has another size than Python expects");

PASS_BLOCK(TopRequest, PASS_TOP_REQUEST, 24)
PASS_BLOCK(TopArrays, PASS_TOP_ARRAYS, 32)
PASS_BLOCK(WalkRequest, PASS_WALK_REQUEST, 48)
PASS_BLOCK(WalkArrays, PASS_WALK_ARRAYS, 80)
PASS_BLOCK(GrowRequest, PASS_GROW_REQUEST, 120)
PASS_BLOCK(GrowArrays, PASS_GROW_ARRAYS, 168)
PASS_BLOCK(PlanRequest, PASS_PLAN_REQUEST, 16)
PASS_BLOCK(PlanArrays, PASS_PLAN_ARRAYS, 72)
