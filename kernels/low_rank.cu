// low_rank.cu - branch L = g B phi(A x) of O = S + L, fused with what joins the branches. Contract: include/low_rank.h.
//   v1  one thread per element, pass after pass; obvious, slow, the oracle on the device (low_rank/problem.cuh)
//   v2  a block owns 64 tokens, FFMA on tiles in shared memory; any rank   <- default in f32, and above rank 256
//   v3  bf16 on tensor cores (mma.sync m16n8k16): x and A, then B, through shared memory by cp.async, phi(u) stays on
//       chip, S and L meet in registers with 16-byte accesses of S and O   <- default in bf16
// Accumulates in f32. No atomics: a block owns its tokens, a warp or thread each sum; branch sums are joined over warps
// in order. Padding is zero on entry and comes out zero.
//
// Both passes should run at the speed of device memory. Predictions for version 3 at 131072 tokens, H200 (4.0 TB/s
// reached) / A100 80 GB (1.7 TB/s); forward reads x and S and writes O, backward with alignment reads dO and O and writes
// dS and dL, without it reads dO only. Rank 16 and 48 differ by u, phi and du alone (4 and 13 MB each); 4 to 50 GFLOP are
// hidden. A and B come from L2: 2 rank (in + out) bytes per 64 tokens, at rank 48 half of what x, S and O move.
//   out x in     forward                   backward, aligned         not aligned
//   512 x 512    0.41 GB  0.10 / 0.24 ms   0.55 GB  0.14 / 0.33 ms   0.15 GB  0.04 / 0.09 ms
//   1376 x 512   0.86 GB  0.22 / 0.51 ms   1.46 GB  0.36 / 0.86 ms   0.37 GB  0.09 / 0.22 ms
//   512 x 1376   0.63 GB  0.16 / 0.38 ms   0.55 GB  0.14 / 0.33 ms   0.15 GB  0.04 / 0.09 ms
// Up to rank 64 forward has 3 blocks per multiprocessor (2 with branch sums), backward 2 (3 without alignment) of 8 warps.
#include "common/device.cuh"
#include "common/shape.cuh"
#include "low_rank.h"
#include "low_rank/mma.cuh"
#include "low_rank/problem.cuh"
#include "low_rank/tile.cuh"
#include <initializer_list>

namespace {

template <class P> chtsl_status launch_widest(const P& p, int32_t version, cudaStream_t stream, float*) {
    return version == 3 ? CHTSL_UNSUPPORTED : launch_fma(p, stream);
}
template <class P> chtsl_status launch_widest(const P& p, int32_t version, cudaStream_t stream, bf16*) {
    return version == 3 || (version == 0 && fits_mma(p)) ? launch_mma(p, stream) : launch_fma(p, stream);
}

template <class T, class P> chtsl_status launch(const P& p, int32_t version, cudaStream_t stream) {
    if (version < 0 || version > 3) return CHTSL_UNSUPPORTED;
    if (p.width == 0) return CHTSL_OK;
    return version == 1 ? launch_naive(p, stream) : launch_widest(p, version, stream, static_cast<T*>(nullptr));
}

// A parameter in the activations' type.
chtsl_status check_matrix(const chtsl_matrix& m, uint32_t rows, uint32_t cols, int32_t type) {
    if (m.type != type) return CHTSL_UNSUPPORTED;
    if (m.rows != rows || m.cols != cols || m.stride < m.cols) return CHTSL_BAD_SHAPE;
    if (rows > largest_extent || m.stride > largest_extent) return CHTSL_TOO_LARGE;
    if (rows && cols && !m.data) return CHTSL_BAD_SHAPE;
    if (type == CHTSL_BF16 && (m.stride % 8 || !aligned_16(m.data))) return CHTSL_BAD_ALIGNMENT;
    return CHTSL_OK;
}

// An activation beside `like`, of its type and tokens.
chtsl_status check_beside(const chtsl_act& x, uint32_t features, const chtsl_act& like) {
    CHTSL_TRY(check_act(x, features, like.tokens));
    return x.type == like.type ? CHTSL_OK : CHTSL_UNSUPPORTED;
}

// Numbers per token, f32 beside activations of any type.
chtsl_status check_statistic(const chtsl_act& x, uint32_t rows, uint32_t tokens) {
    CHTSL_TRY(check_act(x, rows, tokens));
    return x.type == CHTSL_F32 ? CHTSL_OK : CHTSL_UNSUPPORTED;
}

chtsl_status check_activation(const chtsl_low_rank& w, const chtsl_act& u) {
    if (u.features == 0) return CHTSL_BAD_SHAPE;
    return w.activation == CHTSL_IDENTITY || w.activation == CHTSL_SILU ? CHTSL_OK : CHTSL_UNSUPPORTED;
}

// Tokens to compute: the shortest stride of those that have data, all of whose padding is zero.
uint32_t shared_width(uint32_t width, std::initializer_list<const chtsl_act*> others) {
    for (const chtsl_act* x : others)
        if (x->data) width = min(width, x->stride);
    return width;
}

template <class T>
chtsl_status forward(const chtsl_low_rank& w, const chtsl_act& x, const chtsl_act& u, const chtsl_act& s, const chtsl_act& o,
                     const chtsl_act& sums, int32_t version, cudaStream_t stream) {
    uint32_t width = shared_width(u.stride, {&x, &s, &o, &sums});
    Forward<T> p{data<T>(w.a), data<T>(w.b), data<T>(x),
                 data<T>(u), data<T>(s), data<T>(o), data<float>(sums),
                 w.a.stride, w.b.stride, x.stride, u.stride, s.stride, o.stride, sums.stride,
                 x.features, o.features, u.features, width, w.scale, w.activation == CHTSL_SILU};
    return launch<T>(p, version, stream);
}

template <class T>
chtsl_status backward(const chtsl_low_rank& w, const chtsl_act& u, const chtsl_act& o, const chtsl_act& c, const chtsl_act& d_o,
                      const chtsl_act& d_l, const chtsl_act& phi, const chtsl_act& du, int32_t version, cudaStream_t stream) {
    uint32_t width = shared_width(u.stride, {&o, &c, &d_o, &d_l, &phi, &du});
    const chtsl_act& for_l = c.data ? d_l : d_o;
    Backward<T> p{data<T>(w.b), data<T>(u), data<T>(o),
                  data<float>(c), data<T>(d_o), data<T>(for_l),
                  data<T>(phi), data<T>(du),
                  w.b.stride, u.stride, o.stride, d_o.stride, for_l.stride, phi.stride, du.stride,
                  d_o.features, u.features, width, w.scale, w.activation == CHTSL_SILU};
    return launch<T>(p, version, stream);
}

}  // namespace

chtsl_status CHTSL_SYMBOL(low_rank_forward)(chtsl_low_rank w, chtsl_act x, chtsl_act u, chtsl_act s, chtsl_act o, chtsl_act sums,
                                            int32_t version, chtsl_stream stream) {
    CHTSL_TRY(check_activation(w, u));
    CHTSL_TRY(check_act(x, x.features, x.tokens));
    CHTSL_TRY(check_beside(u, u.features, x));
    CHTSL_TRY(check_beside(o, o.features, x));
    CHTSL_TRY(check_matrix(w.a, u.features, x.features, x.type));
    CHTSL_TRY(check_matrix(w.b, o.features, u.features, x.type));
    if (s.data) CHTSL_TRY(check_beside(s, o.features, x));
    if (sums.data) CHTSL_TRY(check_statistic(sums, CHTSL_SUMS, x.tokens));
    auto on = static_cast<cudaStream_t>(stream);
    return x.type == CHTSL_BF16 ? forward<bf16>(w, x, u, s, o, sums, version, on) : forward<float>(w, x, u, s, o, sums, version, on);
}

chtsl_status CHTSL_SYMBOL(low_rank_backward)(chtsl_low_rank w, chtsl_act u, chtsl_act o, chtsl_act coefficients, chtsl_act d_o,
                                             chtsl_act d_l, chtsl_act phi, chtsl_act du, int32_t version, chtsl_stream stream) {
    CHTSL_TRY(check_activation(w, u));
    CHTSL_TRY(check_act(u, u.features, u.tokens));
    CHTSL_TRY(check_beside(d_o, d_o.features, u));
    CHTSL_TRY(check_beside(du, u.features, u));
    CHTSL_TRY(check_matrix(w.b, d_o.features, u.features, u.type));
    if (phi.data) CHTSL_TRY(check_beside(phi, u.features, u));
    if (coefficients.data) {
        CHTSL_TRY(check_statistic(coefficients, 1, u.tokens));
        CHTSL_TRY(check_beside(o, d_o.features, u));
        CHTSL_TRY(check_beside(d_l, d_o.features, u));
    } else if (o.data || d_l.data) {
        return CHTSL_BAD_SHAPE;
    }
    auto on = static_cast<cudaStream_t>(stream);
    return u.type == CHTSL_BF16 ? backward<bf16>(w, u, o, coefficients, d_o, d_l, phi, du, version, on)
                                : backward<float>(w, u, o, coefficients, d_o, d_l, phi, du, version, on);
}
