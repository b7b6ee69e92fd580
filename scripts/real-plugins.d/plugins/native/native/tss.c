// A value for each thread, by C11: its destructor is called when a thread ends.
#include <stdatomic.h>
#include <stdlib.h>
#include <threads.h>

static once_flag once = ONCE_FLAG_INIT;
static tss_t key;
static atomic_long destroyed;

static void destroy(void *value) {
    destroyed++;
    free(value);
}

static void create(void) { tss_create(&key, destroy); }

long native_work(long number) {
    call_once(&once, create);
    if (!tss_get(key)) tss_set(key, malloc(8));
    return number + destroyed;
}

void native_stop(void) {}
