// rmsnorm.h - RMSNorm over features. Kernels: kernels/rmsnorm.cu
#pragma once
#include "types.h"

// y[f,n] = x[f,n] rstd[n] gain[f], rstd[n] = (mean_f x[f,n]^2 + eps)^-1/2 (Zhang & Sennrich, 2019).
//
// x, y (F, N) of one type, gain f32 (F), rstd f32 activation (1, N). Overwrites y and rstd; rstd of
// the padding is zero.
CHTSL_LAUNCHER(rmsnorm_forward, chtsl_act x, const float* gain, float eps, chtsl_act y, chtsl_act rstd,
               chtsl_stream stream)

// With h = x rstd: dx += rstd (g - h mean_f(g h)), g = dy gain, and dgain[f] += sum_n dy h.
//
// Adds to dx (the gradient of the residual stream) and to dgain. `partial` holds
// rmsnorm_partials(F, N) floats: sums over tokens are made per tile and added in order of tiles.
CHTSL_LAUNCHER(rmsnorm_backward, chtsl_act dy, chtsl_act x, const float* gain, chtsl_act rstd,
               chtsl_act dx, float* dgain, float* partial, chtsl_stream stream)
CHTSL_QUERY(rmsnorm_partials, uint32_t features, uint32_t tokens)
