// elementwise.h - operations element by element, and the sum of squares. Kernels: kernels/elementwise.cu
#pragma once
#include "types.h"

// to[i,j] = from[i,j] rounded to the type of `to`; columns of `to` beyond `cols` up to its stride
// become zero. Equal rows and cols; `from` f32, `to` f32 or bf16.
CHTSL_LAUNCHER(elementwise_cast, chtsl_matrix from, chtsl_matrix to, chtsl_stream stream)

// y = a + b, of one type and equal extents; y may be a or b.
CHTSL_LAUNCHER(elementwise_add, chtsl_act a, chtsl_act b, chtsl_act y, chtsl_stream stream)

// SwiGLU y = SiLU(gate) up, of one type and equal extents.
CHTSL_LAUNCHER(elementwise_swiglu_forward, chtsl_act gate, chtsl_act up, chtsl_act y,
               chtsl_stream stream)

// dgate = dy up SiLU'(gate), dup = dy SiLU(gate). Overwrites both.
CHTSL_LAUNCHER(elementwise_swiglu_backward, chtsl_act dy, chtsl_act gate, chtsl_act up,
               chtsl_act dgate, chtsl_act dup, chtsl_stream stream)

// to[0] = sum of x[i]^2 in f64, in an order that depends on `len` alone. `partial` holds
// elementwise_partials(len) doubles. Non-finite elements make the sum non-finite.
CHTSL_LAUNCHER(elementwise_sum_squares, const float* x, uint64_t len, double* partial, double* to,
               chtsl_stream stream)
CHTSL_QUERY(elementwise_partials, uint64_t len)

// to[f] = x[f, token] as f32, for all features.
CHTSL_LAUNCHER(elementwise_column, chtsl_act x, uint32_t token, float* to, chtsl_stream stream)
