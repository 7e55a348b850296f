// The mapped state file, and the lock on its rows.
#pragma once

#include "state.h"

namespace gpuward::simulator {

enum class Access { READ, WRITE };

// The file that GPUWARD_SIM_STATE names.  Not closed: libraries keep it for the process's life.
struct StateFile {
    State* state = nullptr;  // null: no such file, or of another version
    int descriptor = -1;
};

StateFile open_state(Access access);

// Holds one lock byte of the file (state.h) against threads of this process and other processes.
class StateLock {
 public:
    StateLock(const StateFile& file, std::int64_t offset);
    ~StateLock();
    StateLock(const StateLock&) = delete;
    StateLock& operator=(const StateLock&) = delete;

 private:
    void set(short kind) const;

    int descriptor_;
    std::int64_t offset_;
};

// Aligned loads and stores that another process sees whole.
template <typename T>
T load(const T& field) {
    return __atomic_load_n(&field, __ATOMIC_ACQUIRE);
}

template <typename T>
void store(T& field, T value) {
    __atomic_store_n(&field, value, __ATOMIC_RELEASE);
}

}  // namespace gpuward::simulator
