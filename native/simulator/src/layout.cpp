// The layout of the state as compiled, for the test that compares it with the ctypes mirror.
#include <string>

#include "state.h"

using namespace gpuward::simulator;

namespace {

void add(std::string& lines, const char* member, std::size_t offset, std::size_t size) {
    lines += std::string(member) + " " + std::to_string(offset) + " " + std::to_string(size) + "\n";
}

#define ADD(owner, name) add(lines, #owner "." #name, offsetof(owner, name), sizeof(owner::name));
#define ADD_PROCESS(type, name) ADD(Process, name)
#define ADD_EVENT(type, name) ADD(Event, name)
#define ADD_MIG(type, name) ADD(MigDevice, name)
#define ADD_MIG_TEXT(name, size) ADD(MigDevice, name)
#define ADD_GPU(type, name) ADD(Gpu, name)
#define ADD_GPU_TEXT(name, size) ADD(Gpu, name)
#define ADD_STATE(type, name) ADD(State, name)
#define ADD_STATE_TEXT(name, size) ADD(State, name)

std::string describe() {
    std::string lines;
    GPUWARD_PROCESS_FIELDS(ADD_PROCESS)
    GPUWARD_EVENT_FIELDS(ADD_EVENT)
    GPUWARD_GPU_FIELDS(ADD_GPU, ADD_GPU_TEXT)
    GPUWARD_MIG_FIELDS(ADD_MIG, ADD_MIG_TEXT)
    ADD(Gpu, mig_devices)
    ADD(Gpu, processes)
    GPUWARD_STATE_FIELDS(ADD_STATE, ADD_STATE_TEXT)
    ADD(State, events)
    ADD(State, gpus)
    return lines;
}

}  // namespace

// One line per member: owner.name, offset, size.  The text lives as long as the process.
extern "C" __attribute__((visibility("default"))) const char* gpuward_state_layout() {
    static const std::string lines = describe();
    return lines.c_str();
}
