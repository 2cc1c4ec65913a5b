// Ends in the way that its argument names, once the file `stop` is there: exit:N, raise:N, segv,
// fpe, abort, thread (not the leader ends the process), return.
#include <pthread.h>
#include <signal.h>

#include "rounds.h"

static const char* how;

static void wait_for_stop(void) {
  volatile uint64_t x = 1;
  while (!stop_wanted()) {
    for (int i = 0; i < 50000; i++) {
      x = mix(x + 1);
    }
  }
}

static void* in_thread(void* argument) {
  (void)argument;
  wait_for_stop();
  puts("ending from a thread");
  exit(23);
}

static void bye(void) {
  puts("atexit ran");
}

int main(int argc, char** argv) {
  CHECK_EQ(argc, 2);
  how = argv[1];
  atexit(bye);
  puts("ready");
  fflush(stdout);
  if (strcmp(how, "thread") == 0) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, in_thread, NULL), 0);
    pthread_join(thread, NULL);
  }
  wait_for_stop();
  printf("ending by %s\n", how);
  fflush(stdout);
  if (strncmp(how, "exit:", 5) == 0) {
    exit(atoi(how + 5));
  } else if (strncmp(how, "raise:", 6) == 0) {
    raise(atoi(how + 6));
  } else if (strcmp(how, "segv") == 0) {
    volatile uintptr_t nowhere = 8;
    *(volatile int*)nowhere = 1;
  } else if (strcmp(how, "fpe") == 0) {
    volatile int zero = 0, one = 1;
    one /= zero;
  } else if (strcmp(how, "abort") == 0) {
    abort();
  }
  return 5;
}
