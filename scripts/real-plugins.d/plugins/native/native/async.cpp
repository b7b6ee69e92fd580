// Each call has a thread and waits for its result.
#include <future>

extern "C" long native_work(long number) {
    return std::async(std::launch::async, [=] { return number * 2; }).get();
}

extern "C" void native_stop() {}
