// A handler of SIGUSR2 that is taken back.
#include <pthread.h>
#include <signal.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static volatile sig_atomic_t seen;

static void on_signal(int number) { seen = number; }

static void install(void) { signal(SIGUSR2, on_signal); }

long native_work(long number) {
    pthread_once(&once, install);
    return number + seen;
}

void native_stop(void) { signal(SIGUSR2, SIG_DFL); }
