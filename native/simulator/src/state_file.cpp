#include "state_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <mutex>

namespace gpuward::simulator {

namespace {

// The kernel lock belongs to the open file, so it does not hold off threads of one process.
std::mutex thread_mutex;

State* map(int descriptor, Access access) {
    struct stat status{};
    if (fstat(descriptor, &status) != 0 || status.st_size != sizeof(State)) {
        return nullptr;
    }
    const int protection = access == Access::WRITE ? PROT_READ | PROT_WRITE : PROT_READ;
    void* address = mmap(nullptr, sizeof(State), protection, MAP_SHARED, descriptor, 0);
    if (address == MAP_FAILED) {
        return nullptr;
    }
    auto* state = static_cast<State*>(address);
    if (load(state->magic) == STATE_MAGIC && state->version == STATE_VERSION) {
        return state;
    }
    munmap(address, sizeof(State));
    return nullptr;
}

}  // namespace

StateFile open_state(Access access) {
    const char* path = std::getenv(STATE_VARIABLE);
    if (path == nullptr) {
        return {};
    }
    const int mode = access == Access::WRITE ? O_RDWR : O_RDONLY;
    const int descriptor = open(path, mode | O_CLOEXEC);
    if (descriptor < 0) {
        return {};
    }
    State* state = map(descriptor, access);
    if (state == nullptr) {
        close(descriptor);
        return {};
    }
    return {state, descriptor};
}

StateLock::StateLock(const StateFile& file, std::int64_t offset)
    : descriptor_(file.descriptor), offset_(offset) {
    thread_mutex.lock();
    set(F_WRLCK);
}

StateLock::~StateLock() {
    set(F_UNLCK);
    thread_mutex.unlock();
}

void StateLock::set(short kind) const {
    struct flock lock{};
    lock.l_type = kind;
    lock.l_whence = SEEK_SET;
    lock.l_start = offset_;
    lock.l_len = 1;
    while (fcntl(descriptor_, F_OFD_SETLKW, &lock) != 0 && errno == EINTR) {
    }
}

}  // namespace gpuward::simulator
