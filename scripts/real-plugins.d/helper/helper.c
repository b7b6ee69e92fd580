// Calls back every few milliseconds, on a thread that is none of the plugin's own making.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct helper {
    pthread_t thread;
    void (*callback)(void);
    atomic_int is_stopping;
};

static void *run(void *argument) {
    struct helper *helper = argument;
    while (!helper->is_stopping) {
        helper->callback();
        usleep(2000);
    }
    return 0;
}

// Null if there is no memory or no thread.
struct helper *helper_start(void (*callback)(void)) {
    struct helper *helper = calloc(1, sizeof *helper);
    if (!helper) return 0;
    helper->callback = callback;
    if (pthread_create(&helper->thread, 0, run, helper) == 0) return helper;
    free(helper);
    return 0;
}

// Returns when the thread has ended.
void helper_stop(struct helper *helper) {
    helper->is_stopping = 1;
    pthread_join(helper->thread, 0);
    free(helper);
}
