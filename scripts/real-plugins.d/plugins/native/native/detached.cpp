// Each call leaves a thread behind that nobody waits for. libstdc++ starts it, not this image.
#include <atomic>
#include <chrono>
#include <thread>

static std::atomic<long> ended{0};

extern "C" long native_work(long number) {
    std::thread([] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        ended++;
    }).detach();
    return number + ended;
}

extern "C" void native_stop() {}
