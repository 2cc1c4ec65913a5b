// A busy multi-threaded program for the stress: threads compute, pass items through a pipe and a
// queue, write and read files, map and unmap memory, take timer signals, start children; all
// checked. Ends when told, printing fixed text.
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "rounds.h"

static _Atomic int stopping;
static _Atomic long rounds_done[6], ticks;

static void on_tick(int s) {
  (void)s;
  ticks++;
}

static void* computes(void* argument) {
  (void)argument;
  while (!stopping) {
    uint64_t x = 42;
    for (int i = 0; i < 1000000; i++) {
      x = mix(x + 3);
    }
    static uint64_t first;
    if (!first) {
      first = x;
    }
    CHECK(x == first);
    rounds_done[0]++;
  }
  return NULL;
}

static int pipe_ends[2];

static void* writes_pipe(void* argument) {
  (void)argument;
  uint64_t next = 0;
  while (!stopping) {
    CHECK_EQ(write(pipe_ends[1], &next, 8), 8);
    next++;
  }
  uint64_t end = UINT64_MAX;
  CHECK_EQ(write(pipe_ends[1], &end, 8), 8);
  return NULL;
}

static void* reads_pipe(void* argument) {
  (void)argument;
  for (uint64_t wanted = 0;; wanted++) {
    uint64_t got;
    CHECK_EQ(read(pipe_ends[0], &got, 8), 8);
    if (got == UINT64_MAX) {
      return NULL;
    }
    CHECK_EQ(got, wanted);
    rounds_done[1]++;
  }
}

static void* uses_files(void* argument) {
  (void)argument;
  while (!stopping) {
    int fd = open("busy-file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    char out[9000], in[9000];
    for (size_t i = 0; i < sizeof(out); i++) {
      out[i] = (char)mix(i + (uint64_t)rounds_done[2]);
    }
    CHECK_EQ(write(fd, out, sizeof(out)), sizeof(out));
    CHECK_EQ(pread(fd, in, sizeof(in), 0), sizeof(in));
    CHECK(memcmp(in, out, sizeof(in)) == 0);
    close(fd);
    rounds_done[2]++;
  }
  CHECK_EQ(unlink("busy-file"), 0);
  return NULL;
}

static void* maps_memory(void* argument) {
  (void)argument;
  while (!stopping) {
    size_t size = 1 << 20;
    uint64_t* area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    for (size_t i = 0; i < size / 8; i += 512) {
      CHECK_EQ(area[i], 0);
      area[i] = mix(i);
    }
    CHECK_EQ(mprotect(area, size, PROT_READ), 0);
    for (size_t i = 0; i < size / 8; i += 512) {
      CHECK_EQ(area[i], mix(i));
    }
    CHECK_EQ(munmap(area, size), 0);
    rounds_done[3]++;
  }
  return NULL;
}

static void* starts_children(void* argument) {
  (void)argument;
  while (!stopping) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      _exit(21);
    }
    int status;
    pid_t got;
    while ((got = waitpid(child, &status, 0)) < 0 && errno == EINTR) {
    }
    CHECK_EQ(got, child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 21);
    rounds_done[4]++;
    struct timespec nap = {0, 2000000};
    nanosleep(&nap, NULL);
  }
  return NULL;
}

static void* watches_time(void* argument) {
  (void)argument;
  struct timespec last = {0, 0}, now;
  while (!stopping) {
    CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    CHECK(now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec));
    last = now;
    int ready = poll(NULL, 0, 3);
    CHECK(ready == 0 || (ready < 0 && errno == EINTR));
    rounds_done[5]++;
  }
  return NULL;
}

int main(void) {
  void* (*parts[])(void*) = {computes,   computes,    writes_pipe,     reads_pipe,
                             uses_files, maps_memory, starts_children, watches_time};
  enum { kParts = sizeof(parts) / sizeof(parts[0]) };
  pthread_t threads[kParts];
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = on_tick;
  action.sa_flags = SA_RESTART;
  CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
  CHECK_EQ(pipe(pipe_ends), 0);
  struct itimerval every = {{0, 20000}, {0, 20000}};
  CHECK_EQ(setitimer(ITIMER_REAL, &every, NULL), 0);
  for (int i = 0; i < kParts; i++) {
    CHECK_EQ(pthread_create(&threads[i], NULL, parts[i], NULL), 0);
  }
  int ready = 0;
  for (;;) {
    int all = ticks > 0;
    for (int i = 0; i < 6; i++) {
      all &= rounds_done[i] > 0;
    }
    if (all && !ready) {
      ready = 1;
      puts("ready");
      fflush(stdout);
    }
    if (ready && stop_wanted()) {
      break;
    }
    struct timespec nap = {0, 5000000};
    nanosleep(&nap, NULL);
  }
  stopping = 1;
  for (int i = 0; i < kParts; i++) {
    CHECK_EQ(pthread_join(threads[i], NULL), 0);
  }
  puts("busy: nothing was lost, doubled or reordered");
  return 0;
}
