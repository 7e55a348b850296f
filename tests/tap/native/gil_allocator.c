/* An allocator that calls Python while it holds its lock, as vLLM's sleep mode does inside torch's.
 * ctypes lets go of the GIL around `allocate` and takes it in `raw_alloc`; `statistics`, called
 * through PyDLL, keeps it while it waits for the lock: each then waits for the other. */
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void allocate(void (*raw_alloc)(void)) {
    pthread_mutex_lock(&lock);
    raw_alloc();
    pthread_mutex_unlock(&lock);
}

long statistics(void) {
    pthread_mutex_lock(&lock);
    pthread_mutex_unlock(&lock);
    return 1 << 20;
}
