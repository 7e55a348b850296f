/* An allocator for torch.cuda.memory.CUDAPluggableAllocator that calls Python on each request, as
 * vLLM's sleep mode does.  ctypes takes the GIL for that, while torch holds its allocator's lock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/types.h>

static void (*ask_python)(void);

void call_python(void (*function)(void)) { ask_python = function; }

static void *runtime(const char *name) { return dlsym(RTLD_DEFAULT, name); }

void *own_malloc(ssize_t size, int device, void *stream) {
    (void)device, (void)stream;
    void *memory = NULL;
    if (ask_python) ask_python();
    ((int (*)(void **, size_t))runtime("cudaMalloc"))(&memory, (size_t)size);
    return memory;
}

void own_free(void *memory, ssize_t size, int device, void *stream) {
    (void)size, (void)device, (void)stream;
    if (ask_python) ask_python();
    ((int (*)(void *))runtime("cudaFree"))(memory);
}
