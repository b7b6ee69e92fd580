// A static member of a template, of which a process has one: the compiler marks it and its guard STB_GNU_UNIQUE, which
// would keep the image. In a cdylib rustc's version script makes both local.
#include <string>

template <class T> struct Holder {
    static inline T value{};
};

extern "C" long native_work(long number) { return number + long(Holder<std::string>::value.size()); }

extern "C" void native_stop() {}
