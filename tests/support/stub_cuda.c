// Stands in for libcuda.so.1 and libcublasLt: answers as STUB_FAULT asks. With -DWITHOUT_... an entry
// point is missing.
#include <stdlib.h>
#include <string.h>

#ifdef CUBLASLT

#define NAMED(name) int name(void) { return 0; }
NAMED(cublasLtCreate)
NAMED(cublasLtDestroy)
#ifndef WITHOUT_MATMUL
NAMED(cublasLtMatmul)
#endif
NAMED(cublasLtMatmulAlgoGetHeuristic)
NAMED(cublasLtMatmulDescCreate)
NAMED(cublasLtMatmulDescDestroy)
NAMED(cublasLtMatmulDescSetAttribute)
NAMED(cublasLtMatmulPreferenceCreate)
NAMED(cublasLtMatmulPreferenceDestroy)
NAMED(cublasLtMatmulPreferenceSetAttribute)
NAMED(cublasLtMatrixLayoutCreate)
NAMED(cublasLtMatrixLayoutDestroy)
size_t cublasLtGetVersion(void) { return CUBLASLT * 10000 + 300; }
size_t cublasLtGetCudartVersion(void) { return CUBLASLT * 1000; }

#else

static int fault(const char* name) {
    const char* asked = getenv("STUB_FAULT");
    return asked && !strcmp(asked, name);
}

static int number(const char* name, int usual) {
    const char* asked = getenv(name);
    return asked ? atoi(asked) : usual;
}

int cuDriverGetVersion(int* version) {
    *version = number("STUB_DRIVER", 13000);
    return number("STUB_VERSION", 0);
}
int cuInit(unsigned flags) { return number("STUB_INIT", 0); }
int cuDeviceGetCount(int* count) {
    *count = fault("count") ? 0 : 1;
    return 0;
}
int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return 0;
}
int cuDeviceGetName(char* name, int size, int device) {
    strncpy(name, "Stub A100", size);
    return 0;
}
int cuDeviceGetAttribute(int* value, int which, int device) {
    int capability = number("STUB_CAPABILITY", 80);
    *value = which == 75 ? capability / 10 : which == 76 ? capability % 10 : 108;
    return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
    *context = (void*)1;
    return number("STUB_RETAIN", 0);
}
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxSetCurrent(void* context) { return 0; }
#ifndef WITHOUT_MEMORY
int cuMemGetInfo_v2(size_t* free, size_t* total) {
    *total = (size_t)40 << 30;
    *free = (size_t)39 << 30;
    return number("STUB_MEMORY", 0);
}
#endif
int cuGetErrorName(int code, const char** text) {
    *text = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : code == 100 ? "CUDA_ERROR_NO_DEVICE" : 0;
    return *text ? 0 : 1;
}
int cuGetErrorString(int code, const char** text) {
    *text = code == 2 ? "out of memory" : 0;
    return *text ? 0 : 1;
}

#define NAMED(name) int name(void) { return 0; }
NAMED(cuEventCreate)
NAMED(cuEventDestroy_v2)
NAMED(cuEventElapsedTime)
NAMED(cuEventRecord)
NAMED(cuMemAlloc_v2)
NAMED(cuMemFree_v2)
NAMED(cuMemcpyDtoDAsync_v2)
NAMED(cuMemcpyDtoHAsync_v2)
NAMED(cuMemcpyHtoDAsync_v2)
NAMED(cuMemsetD8Async)
#ifndef WITHOUT_STREAMS
NAMED(cuStreamCreate)
#endif
NAMED(cuStreamDestroy_v2)
NAMED(cuStreamSynchronize)

#endif
