// low_rank.h - branch L = g B phi(A x) of O = S + L, with what joins the branches. Kernels: kernels/low_rank.cu
#pragma once
#include "types.h"

// phi between the factors.
enum chtsl_activation { CHTSL_IDENTITY = 0, CHTSL_SILU = 1 };

// The branch's parameters: a (rank, in), b (out, rank), of the activations' type, g = scale. In bf16
// rows start on 16 bytes; what lies between cols and stride is finite.
typedef struct chtsl_low_rank {
    chtsl_matrix a;
    chtsl_matrix b;
    float scale;
    int32_t activation;
} chtsl_low_rank;

// u = A x, L = g B phi(u), o = s + L, and with `sums` the branch sums per token (alignment.h).
//
// x (in, N), u (rank, N), s and o (out, N), all of one type; sums (5, N) of f32. Overwrites u, o and
// sums. `s` without data stands for zero; it may be `o`. `sums` without data are not wanted. u is
// rounded when stored; phi is taken before or after that. Each block owns its tokens, sums run over
// features in order of their tiles. 2 rank (in + out) N flops; x, s and o pass once.
// Errors: BAD_SHAPE also for rank 0; UNSUPPORTED for types that differ, versions that the type or
// rank does not have (0, 1 and 2 have all).
CHTSL_LAUNCHER(low_rank_forward, chtsl_low_rank w, chtsl_act x, chtsl_act u, chtsl_act s,
               chtsl_act o, chtsl_act sums, int32_t version, chtsl_stream stream)

// Backward up to the rank-sized gradient. With coefficients c (1, N) of f32: L is computed again from
// u, D = o - 2 L, d_l = d_o - c D, d_o += c D (which is then dS). Without: d_l stands for d_o. Then
// du = (g B^T d_l) phi'(u), and phi(u), from which dB += g d_l phi^T, dA += du x^T, dx += A^T du follow.
//
// u, du, phi (rank, N), o, d_o, d_l (out, N), all of one type. Overwrites d_l, du and phi; o, c and
// d_l are given together or all without data; `phi` without data is not wanted. Of `w` only b, scale
// and activation are read. Sums run over features in order. 2 rank out N flops, twice with c.
// Errors: as low_rank_forward.
CHTSL_LAUNCHER(low_rank_backward, chtsl_low_rank w, chtsl_act u, chtsl_act o, chtsl_act coefficients,
               chtsl_act d_o, chtsl_act d_l, chtsl_act phi, chtsl_act du, int32_t version,
               chtsl_stream stream)
