// cross_entropy.h - softmax cross-entropy over the logits of a chunk of tokens. Kernels: kernels/cross_entropy.cu
#pragma once
#include "types.h"

// Marks a position without a target.
#define CHTSL_NO_TARGET 0xffffffffu

// For the tokens of a chunk, logits (V, n): lse[t] = ln sum_v exp(logits[v,t]) and
// loss[0] += sum_t lse[t] - logits[target[t], t] over the positions with a target, in f64.
//
// lse holds n floats up to the stride. `partial` holds cross_entropy_partials(V, stride) floats:
// the vocabulary is split over blocks, and their maxima and sums are combined in order.
CHTSL_LAUNCHER(cross_entropy_loss, chtsl_act logits, const uint32_t* targets, float* lse, float* partial,
               double* loss, chtsl_stream stream)
CHTSL_QUERY(cross_entropy_partials, uint32_t vocab, uint32_t stride)

// logits[v,t] = scale (exp(logits[v,t] - lse[t]) - [v = target[t]]), 0 at positions without a target
// and in the padding. In place.
CHTSL_LAUNCHER(cross_entropy_gradient, chtsl_act logits, const uint32_t* targets, const float* lse,
               float scale, chtsl_stream stream)
