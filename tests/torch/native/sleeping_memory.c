/* Preloaded: cudaMalloc gives addresses whose memory can be taken away and given back under torch,
 * as torch_memory_saver does for SGLang's sleep mode.  torch counts it as reserved all the time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define MOST 256
static const size_t PAGE = 2 << 20;

typedef unsigned long long address_t;
static struct {
    address_t at;
    size_t size;
    unsigned long long handle;
} held[MOST];

/* CUmemAllocationProp and CUmemAccessDesc: pinned memory of a device, for that device. */
struct properties {
    int type, handle_types, location_type, location_id;
    unsigned long long rest[2];
};
struct access {
    int location_type, location_id, flags;
};

static void *driver(const char *name) {
    static void *library;
    if (!library) library = dlopen("libcuda.so.1", RTLD_LAZY);
    return dlsym(library, name);
}
#define CALL(name, parameters) ((int (*)parameters)driver(#name))

static int current_device(void) {
    int device = 0;
    CALL(cuCtxGetDevice, (int *))(&device);
    return device;
}

static int back(int index) {
    int device = current_device();
    struct properties pinned = {.type = 1, .location_type = 1, .location_id = device};
    struct access access = {.location_type = 1, .location_id = device, .flags = 3};
    address_t at = held[index].at;
    size_t size = held[index].size;
    int status = CALL(cuMemCreate, (unsigned long long *, size_t, void *, unsigned long long))(
        &held[index].handle, size, &pinned, 0);
    if (status) return status;
    CALL(cuMemMap, (address_t, size_t, size_t, unsigned long long, unsigned long long))(
        at, size, 0, held[index].handle, 0);
    return CALL(cuMemSetAccess, (address_t, size_t, void *, size_t))(at, size, &access, 1);
}

static void take(int index) {
    CALL(cuMemUnmap, (address_t, size_t))(held[index].at, held[index].size);
    CALL(cuMemRelease, (unsigned long long))(held[index].handle);
}

int cudaMalloc(void **memory, size_t size) {
    int index = 0;
    while (index < MOST && held[index].size) index++;
    ((int (*)(void *))dlsym(RTLD_DEFAULT, "cudaFree"))(NULL); /* a context */
    size = (size + PAGE - 1) / PAGE * PAGE;
    if (index == MOST ||
        CALL(cuMemAddressReserve, (address_t *, size_t, size_t, address_t, unsigned long long))(
            &held[index].at, size, 0, 0, 0))
        return 2;
    held[index].size = size;
    int status = back(index);
    if (status) held[index].size = 0;
    *memory = (void *)(status ? 0 : held[index].at);
    return status;
}

int cudaFree(void *memory) {
    for (int index = 0; memory && index < MOST; index++) {
        if (held[index].size && held[index].at == (address_t)memory) {
            take(index);
            CALL(cuMemAddressFree, (address_t, size_t))(held[index].at, held[index].size);
            memset(&held[index], 0, sizeof held[index]);
            return 0;
        }
    }
    return ((int (*)(void *))dlsym(RTLD_NEXT, "cudaFree"))(memory);
}

void fall_asleep(void) {
    for (int index = 0; index < MOST; index++)
        if (held[index].size) take(index);
}

int wake_up(void) {
    int status = 0;
    for (int index = 0; index < MOST; index++)
        if (held[index].size) status |= back(index);
    return status;
}
