// bf16.cuh - bf16 numbers and the packed pairs that mma and ldmatrix hold.
#pragma once
#include "common/device.cuh"

using bf16 = __nv_bfloat16;

// Two bf16 in a register, the first in the low half; rounds to nearest, ties to even.
DEVICE uint32_t pack_bf16(float low, float high) {
    union { __nv_bfloat162 pair; uint32_t word; } u{__floats2bfloat162_rn(low, high)};
    return u.word;
}

// A bf16 is the upper half of an f32, so unpacking is exact and needs no conversion instruction.
DEVICE float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
DEVICE float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
