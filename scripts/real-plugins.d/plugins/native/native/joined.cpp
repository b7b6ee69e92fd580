// A thread that runs until it is asked to stop, and is waited for.
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

static std::atomic<bool> is_stopping{false};
static std::atomic<long> turns{0};
static std::once_flag once;
static std::thread thread;

extern "C" long native_work(long number) {
    std::call_once(once, [] {
        thread = std::thread([] {
            while (!is_stopping) {
                turns++;
                std::this_thread::sleep_for(std::chrono::milliseconds(2));
            }
        });
    });
    return number + turns;
}

extern "C" void native_stop() {
    is_stopping = true;
    if (thread.joinable()) thread.join();
}
