// philox.cuh - random draws and keys as src/rng.rs and src/topology/select.rs define them, to the bit.
//
// Doubles go through the _rn intrinsics: each operation rounds once, so that no compiler may contract a product and a
// sum, and the host's results come out.
#pragma once
#include "common/device.cuh"
#include "topology.h"

using word = unsigned long long;  // uint64_t has another name on some hosts, which atomics do not know

// Philox 4x32-10 (Salmon et al., SC'11) at `index`.
DEVICE uint4 philox(const chtsl_draws& draws, word index) {
    uint32_t c0 = uint32_t(index), c1 = uint32_t(index >> 32), c2 = draws.purpose, c3 = draws.event;
    uint32_t k0 = draws.key_low, k1 = draws.key_high;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
        c0 = uint32_t(p1 >> 32) ^ c1 ^ k0, c1 = uint32_t(p1);
        c2 = uint32_t(p0 >> 32) ^ c3 ^ k1, c3 = uint32_t(p0);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return uint4{c0, c1, c2, c3};
}

// Natural logarithm of a non-negative double: x = 2^k m with m in [sqrt 1/2, sqrt 2), ln m = 2 artanh((m-1)/(m+1)) as
// an odd series up to s^23.
DEVICE double exact_ln(double x) {
    const double infinity = __longlong_as_double(0x7ff0000000000000ll);
    if (x == 0.0) return -infinity;
    if (!(x > 0.0 && x < infinity)) return x == infinity ? x : __longlong_as_double(0x7ff8000000000000ll);
    long long bits = __double_as_longlong(x), exponent = -1023;
    if (bits >> 52 == 0) {
        bits = __double_as_longlong(__dmul_rn(x, 18014398509481984.0));  // 2^54: subnormals become normal
        exponent -= 54;
    }
    exponent += bits >> 52;
    double m = __longlong_as_double((bits & 0x000fffffffffffffll) | 0x3ff0000000000000ll);
    if (m > 1.41421356237309504880) {
        m = __dmul_rn(m, 0.5);
        exponent += 1;
    }
    const double s = __ddiv_rn(__dsub_rn(m, 1.0), __dadd_rn(m, 1.0)), z = __dmul_rn(s, s);
    double p = 1.0 / 23.0;
#pragma unroll
    for (int n = 10; n >= 0; --n) p = __dadd_rn(__dmul_rn(p, z), 1.0 / (2 * n + 1));
    const double k = static_cast<double>(exponent);
    // ln 2 in two parts; k times the high one is exact.
    const double low = __dadd_rn(__dmul_rn(k, 1.9082149292705877e-10), __dmul_rn(__dmul_rn(2.0, s), p));
    return __dadd_rn(__dmul_rn(k, 6.931471803691238e-1), low);
}

// Uniform in the open interval (0, 1).
DEVICE double open_unit(word bits) {
    return __dmul_rn(__dadd_rn(static_cast<double>(bits >> 12), 0.5), 1.0 / 4503599627370496.0);
}

// Standard Gumbel draw -ln(-ln U) at `index`.
DEVICE double gumbel(const chtsl_draws& draws, word index) {
    const uint4 w = philox(draws, index);
    return -exact_ln(-exact_ln(open_unit(word(w.x) << 32 | w.y)));
}

// Integers in the order of the doubles, -inf included; -0 equals 0. Never one of the marks of
// topology/cut.cuh.
DEVICE word order_bits(double key) {
    const word bits = static_cast<word>(__double_as_longlong(__dadd_rn(key, 0.0)));
    return bits >> 63 ? ~bits : bits | word(1) << 63;
}
