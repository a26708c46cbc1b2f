// cuda_runtime.cpp - the calls of emulation/cuda_runtime.h.
#include <cstring>
#include <utility>
#include "buffers.h"
#include "faults.h"
#include "worker.h"

using namespace emulation;

cudaError_t cudaGetLastError() { return std::exchange(faults().pending, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return faults().pending; }

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    if (device != 0) return faults().pending = cudaErrorInvalidValue;
    *value = attribute == cudaDevAttrMultiProcessorCount ? 4 : int(shared_capacity);
    return cudaSuccess;
}

// True when [p, p + bytes) is inside one buffer; else reports it.
static bool held(const char* call, const void* p, size_t bytes, const void* pc) {
    if (bytes == 0 || holder(*buffers(), reinterpret_cast<uintptr_t>(p), bytes)) return true;
    report(cudaErrorInvalidValue, "out of bounds", print("%s of %zu bytes outside every buffer, at ", call, bytes) + text({nullptr, pc}));
    return false;
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
    if (!held("cudaMemsetAsync", p, bytes, __builtin_return_address(0))) return cudaErrorInvalidValue;
    std::memset(p, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    const void* pc = __builtin_return_address(0);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (to_device && !held("cudaMemcpyAsync to", to, bytes, pc)) return cudaErrorInvalidValue;
    if (from_device && !held("cudaMemcpyAsync from", from, bytes, pc)) return cudaErrorInvalidValue;
    std::memcpy(to, from, bytes);
    return cudaSuccess;
}
