// copy_async.cuh - cp.async: copies from global to shared memory that pass the registers by and run beside arithmetic.
#pragma once
#include "common/device.cuh"

// 16 bytes. When `valid` is false they become zero and `global` is not read (it must still be a legal, aligned pointer).
// Visible to the issuing thread after copy_async_wait, to others after a barrier as well.
DEVICE void copy_async_16(void* shared, const void* global, bool valid AND_SITE) {
#if defined(__CUDACC__)
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
#else
    emulation::copy_async(shared, global, 16, valid ? 16 : 0, site);
#endif
}

// Closes a group of the copies issued since the last one.
DEVICE void copy_async_commit() {
#if defined(__CUDACC__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulation::copy_async_commit();
#endif
}

// Waits until at most `groups_left` of this thread's committed groups are still on their way.
template <int groups_left> DEVICE void copy_async_wait() {
    static_assert(groups_left >= 0, "a number of groups");
#if defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;" ::"n"(groups_left) : "memory");
#else
    emulation::copy_async_wait(groups_left);
#endif
}
