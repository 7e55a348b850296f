// Streams and events.  An event happens when the stream has done what it had to do before it, see
// cuda_work.h: mostly at once.  Its time is the moment of recording.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <utility>

#include "cuda_context.h"
#include "cuda_work.h"

struct CUstream_st {
    int priority;
};

struct CUevent_st {
    unsigned flags;
    std::atomic<std::int64_t> recorded_ns;  // 0: never
    gpuward::simulator::Moment moment;
};

namespace gpuward::simulator {

namespace {

std::int64_t now_ns() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// The default streams are small numbers, not objects.
bool is_default(CUstream stream) {
    return stream == nullptr || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

CUresult check_current() {
    CUdevice device = 0;
    const CUresult status = current_device(device);
    return status == CUDA_SUCCESS ? check_alive(device) : status;
}

CUresult ready_if(bool done) {
    const CUresult status = check_current();
    return status == CUDA_SUCCESS && !done ? CUDA_ERROR_NOT_READY : status;
}

CUresult wait_for(const Moment& moment) {
    finish(moment);
    CUdevice device = 0;
    return enter_driver_of_current(device);
}

CUresult end_of_stream(CUstream stream, Moment& moment) {
    CUdevice device = 0;
    const CUresult status = current_device(device);
    moment = end_of_work(device, stream);
    return status;
}

}  // namespace

}  // namespace gpuward::simulator

using namespace gpuward::simulator;

extern "C" {

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int, int priority) {
    const CUresult status = check_current();
    if (status == CUDA_SUCCESS) {
        *stream = new CUstream_st{priority};
    }
    return status;
}

CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
    return cuStreamCreateWithPriority(stream, flags, 0);
}

CUresult cuStreamDestroy(CUstream stream) {
    if (is_default(stream)) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    forget_work(stream);
    delete stream;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream stream, int* priority) {
    *priority = is_default(stream) ? 0 : stream->priority;
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
    Moment moment;
    const CUresult status = end_of_stream(stream, moment);
    return status == CUDA_SUCCESS ? wait_for(moment) : status;
}

CUresult cuStreamQuery(CUstream stream) {
    Moment moment;
    const CUresult status = end_of_stream(stream, moment);
    return status == CUDA_SUCCESS ? ready_if(is_done(moment)) : status;
}

CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned int) { return CUDA_SUCCESS; }

CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus* status) {
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    thread_local CUstreamCaptureMode current_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::swap(*mode, current_mode);
    return CUDA_SUCCESS;
}

CUresult cuStreamWriteValue32(CUstream, CUdeviceptr address, cuuint32_t value, unsigned int) {
    *reinterpret_cast<cuuint32_t*>(address) = value;
    return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream, CUhostFn function, void* data) {
    const CUresult status = check_current();
    if (status == CUDA_SUCCESS) {
        function(data);
    }
    return status;
}

CUresult cuEventCreate(CUevent* event, unsigned int flags) {
    const CUresult status = check_current();
    if (status == CUDA_SUCCESS) {
        *event = new CUevent_st{flags, 0, {}};
    }
    return status;
}

CUresult cuEventDestroy(CUevent event) {
    if (event == nullptr) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    delete event;
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
    event->recorded_ns = now_ns();
    const CUresult status = end_of_stream(stream, event->moment);
    return status == CUDA_SUCCESS ? check_current() : status;
}

CUresult cuEventQuery(CUevent event) { return ready_if(is_done(event->moment)); }

CUresult cuEventSynchronize(CUevent event) { return wait_for(event->moment); }

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    const bool is_timed = ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) == 0;
    if (!is_timed || start->recorded_ns == 0 || end->recorded_ns == 0) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    *milliseconds = static_cast<float>(end->recorded_ns - start->recorded_ns) / 1e6f;
    return CUDA_SUCCESS;
}
}
