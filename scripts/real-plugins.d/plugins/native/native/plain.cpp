// Statics with destructors, thread-locals with destructors, exceptions; no threads.
#include <map>
#include <stdexcept>
#include <string>

static std::map<std::string, long> table{{"even", 1}, {"odd", 2}};
thread_local std::string seen_by_thread(100, 't');

extern "C" long native_work(long number) {
    static std::string made_at_first_call(100, 'f');
    seen_by_thread += std::to_string(number);
    if (seen_by_thread.size() > 4000) seen_by_thread.clear();
    try {
        if (number % 2 == 0) throw std::runtime_error(made_at_first_call);
        return table["odd"];
    } catch (const std::exception &error) {
        return table["even"] + long(std::string(error.what()).size());
    }
}

extern "C" void native_stop() {}
