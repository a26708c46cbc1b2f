// attention.h - causal attention with rotary positions. Kernels: kernels/attention.cu
#pragma once
#include "types.h"

// Tokens are sequence after sequence; features are head after head.
typedef struct chtsl_attention {
    uint32_t sequences;
    uint32_t seq_len;
    uint32_t heads;
    uint32_t head_dim;       // even, at most 128
    const uint32_t* starts;  // first position of each token's document in its sequence; null: 0
    const float* rope;       // (cos, sin) of position p and pair i at 2 (p head_dim / 2 + i)
} chtsl_attention;

// out = softmax(q k' / sqrt(d)) v over the positions from the document's first to the own one, q and k
// rotated first (half-split pairs i, i + d/2; Su et al., 2021). q, k, v, out (heads d, N) of one type,
// unrotated; lse (heads, N) f32 receives ln sum exp of each row's scores. Overwrites out and lse.
CHTSL_LAUNCHER(attention_forward, chtsl_attention shape, chtsl_act q, chtsl_act k, chtsl_act v,
               chtsl_act out, chtsl_act lse, chtsl_stream stream)

// Gradients of the unrotated q, k, v; probabilities are recomputed from lse. Overwrites. Each result
// is summed by one block in order of tiles: no atomics. dout may not be one of the results.
CHTSL_LAUNCHER(attention_backward, chtsl_attention shape, chtsl_act q, chtsl_act k, chtsl_act v,
               chtsl_act out, chtsl_act lse, chtsl_act dout, chtsl_act dq, chtsl_act dk, chtsl_act dv,
               chtsl_stream stream)

// One new token per sequence at `position`: appends its rotated k and its v to the caches, f32 of
// (sequences, heads d, max_len), and attends over them. q, k, v, out (heads d, sequences); seq_len
// is 1. `scores` holds sequences heads max_len floats.
CHTSL_LAUNCHER(attention_decode, chtsl_attention shape, uint32_t position, uint32_t max_len,
               chtsl_act q, chtsl_act k, chtsl_act v, float* keys, float* values, float* scores,
               chtsl_act out, chtsl_stream stream)
