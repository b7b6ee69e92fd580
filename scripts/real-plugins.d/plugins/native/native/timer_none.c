// A timer that calls nobody: one asks it how much is left.
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static timer_t timer;
static int is_made;

static void start(void) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_NONE;
    struct itimerspec times = {{0, 0}, {60, 0}};
    is_made = timer_create(CLOCK_MONOTONIC, &event, &timer) == 0;
    if (is_made) timer_settime(timer, 0, &times, 0);
}

long native_work(long number) {
    struct itimerspec left = {{0, 0}, {0, 0}};
    pthread_once(&once, start);
    if (is_made) timer_gettime(timer, &left);
    return number + left.it_value.tv_sec;
}

void native_stop(void) {
    if (is_made) timer_delete(timer);
}
