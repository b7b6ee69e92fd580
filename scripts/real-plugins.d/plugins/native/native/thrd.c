// Each call leaves a thread of C11 behind that nobody waits for. libc starts it past `pthread_create`.
#include <stdatomic.h>
#include <threads.h>
#include <time.h>

static atomic_long ended;

static int nap(void *unused) {
    (void)unused;
    struct timespec time = {0, 20 * 1000 * 1000};
    thrd_sleep(&time, 0);
    ended++;
    return 0;
}

long native_work(long number) {
    thrd_t thread;
    if (thrd_create(&thread, nap, 0) == thrd_success) thrd_detach(thread);
    return number + ended;
}

void native_stop(void) {}
