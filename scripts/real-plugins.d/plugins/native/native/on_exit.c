// A function for the end of the process, which cannot be taken back.
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static volatile long exits;

static void at_exit(int status, void *unused) {
    (void)unused;
    exits += 1 + status;
}

static void install(void) { on_exit(at_exit, 0); }

long native_work(long number) {
    pthread_once(&once, install);
    return number + exits;
}

void native_stop(void) {}
