// A handler of SIGUSR2 that is never taken back.
#include <pthread.h>
#include <signal.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static volatile sig_atomic_t seen;

static void on_signal(int number) { seen = number; }

static void install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGUSR2, &action, 0);
}

long native_work(long number) {
    pthread_once(&once, install);
    return number + seen;
}

void native_stop(void) {}
