// embedding.h - token embedding. Kernels: kernels/embedding.cu
#pragma once
#include "types.h"

// x[:, n] = table[ids[n], :], rounded to the type of x. table f32 (vocab, F) row-major; ids below
// vocab, one per token. Overwrites x.
CHTSL_LAUNCHER(embedding_forward, const float* table, uint32_t vocab, const uint32_t* ids, chtsl_act x,
               chtsl_stream stream)

// dtable[distinct[i], :] += sum of dx[:, n] over n = tokens[starts[i]] .. tokens[starts[i + 1] - 1].
//
// The tokens sorted by id: `count` distinct ids, `starts` (count + 1), `tokens` in increasing order
// within an id, which fixes the order of the sum. `rows` holds F N elements of dx's type: dx is
// turned to one row per token first, so that a sum reads whole rows.
CHTSL_LAUNCHER(embedding_backward, chtsl_act dx, uint32_t count, const uint32_t* distinct,
               const uint32_t* starts, const uint32_t* tokens, void* rows, uint32_t vocab,
               float* dtable, chtsl_stream stream)
