// A timer for which libc starts a thread each time, and which is left running.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_long expired;

static void on_expiry(union sigval value) { expired += value.sival_int; }

static void start(void) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD;
    event.sigev_notify_function = on_expiry;
    event.sigev_value.sival_int = 1;
    struct itimerspec times = {{0, 5 * 1000 * 1000}, {0, 5 * 1000 * 1000}};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) timer_settime(timer, 0, &times, 0);
}

long native_work(long number) {
    pthread_once(&once, start);
    return number + expired;
}

void native_stop(void) {}
