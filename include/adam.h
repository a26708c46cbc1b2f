// adam.h - Adam and AdamW with the refresh of the operand copy. Kernels: kernels/adam.cu
#pragma once
#include "types.h"

// Numbers of one update t (Kingma & Ba, algorithm 1; decoupled decay: Loshchilov & Hutter).
typedef struct chtsl_adam_step {
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float eps;
    float grad_scale;
    float coupled_decay;    // added to the gradient, times p
    float shrink;           // factor of p: 1 - lr decay when decoupled, else 1
    float lr;
    float step_size;        // lr / (1 - beta1^t)
    float root_correction;  // 1 / sqrt(1 - beta2^t)
} chtsl_adam_step;

// One update of p with moments m, v, all f32 of `len` elements:
//   g' = grad_scale g + coupled_decay p,  m += (1-beta1)(g'-m),  v = beta2 v + (1-beta2) g'^2,
//   p = shrink p - step_size m / (sqrt(v) root_correction + eps).
//
// With `ages` (f32, one per element, counted up here) an element's own number of updates picks
// 1 / (1 - beta1^t) and the root correction from `table`, two floats per age from 0; ages beyond the
// last entry take it. With `operand.data` (rows cols = len, bf16) the new p is also rounded into it.
CHTSL_LAUNCHER(adam, float* p, const float* g, float* m, float* v, float* ages, const float* table,
               uint32_t table_len, uint64_t len, chtsl_adam_step step, chtsl_matrix operand,
               int32_t version, chtsl_stream stream)
