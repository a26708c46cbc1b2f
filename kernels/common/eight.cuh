// eight.cuh - eight neighbouring tokens of an activation as floats: one 16-byte access of bf16, two of f32.
#pragma once
#include "common/device.cuh"

// Eight bf16 in registers as floats, and back.
DEVICE void unpack_eight(float (&to)[8], const uint4& from) {
    const uint32_t pairs[4] = {from.x, from.y, from.z, from.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) to[2 * j] = low_bf16(pairs[j]), to[2 * j + 1] = high_bf16(pairs[j]);
}
DEVICE uint4 pack_eight(const float (&from)[8]) {
    return uint4{pack_bf16(from[0], from[1]), pack_bf16(from[2], from[3]), pack_bf16(from[4], from[5]), pack_bf16(from[6], from[7])};
}

template <class T> DEVICE void load_eight(float (&to)[8], const T* from);
template <> DEVICE void load_eight<bf16>(float (&to)[8], const bf16* from) { unpack_eight(to, load_16_bytes(from)); }
template <> DEVICE void load_eight<float>(float (&to)[8], const float* from) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        const uint4 word = load_16_bytes(from + 4 * j);
        to[4 * j] = __uint_as_float(word.x), to[4 * j + 1] = __uint_as_float(word.y);
        to[4 * j + 2] = __uint_as_float(word.z), to[4 * j + 3] = __uint_as_float(word.w);
    }
}

template <class T> DEVICE void store_eight(T* to, const float (&from)[8]);
template <> DEVICE void store_eight<bf16>(bf16* to, const float (&from)[8]) { store_16_bytes(to, pack_eight(from)); }
template <> DEVICE void store_eight<float>(float* to, const float (&from)[8]) {
#pragma unroll
    for (int j = 0; j < 2; ++j)
        store_16_bytes(to + 4 * j, uint4{__float_as_uint(from[4 * j]), __float_as_uint(from[4 * j + 1]),
                                         __float_as_uint(from[4 * j + 2]), __float_as_uint(from[4 * j + 3])});
}

// One element as a float, and back.
template <class T> DEVICE float to_float(T x);
template <> DEVICE float to_float<float>(float x) { return x; }
template <> DEVICE float to_float<bf16>(bf16 x) { return __bfloat162float(x); }
template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x) { return __float2bfloat16(x); }
