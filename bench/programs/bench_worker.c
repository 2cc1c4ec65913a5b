// What the benchmarks move: obeys one-line commands on standard input, answers one line each. While
// it waits it only reads.
//   n COUNT   getppid (never cached) COUNT times: nanoseconds per call
//   c COUNT   a computing loop of COUNT rounds: nanoseconds per round, by wall clock and by CPU
//   clock m MIB     have MIB of memory with incompressible content: ok v         check that memory:
//   ok g         largest gap, in microseconds, between two ticks of the ticking thread since the
//   last g p         pid
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t largest_gap;
static _Atomic int ticking;
static uint64_t* memory;
static size_t words;

static uint64_t now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

static void* tick(void* unused) {  // spins: what it sees is what a program sees that never waits
  (void)unused;
  uint64_t last = now(CLOCK_MONOTONIC);
  while (ticking) {
    uint64_t t = now(CLOCK_MONOTONIC);
    if (t - last > largest_gap) {
      largest_gap = t - last;
    }
    last = t;
  }
  return NULL;
}

static void null_calls(long count) {
  uint64_t start = now(CLOCK_MONOTONIC);
  for (long i = 0; i < count; i++) {
    syscall(SYS_getppid);
  }
  printf("%.1f\n", (double)(now(CLOCK_MONOTONIC) - start) / (double)count);
}

static void compute(long count) {
  uint64_t start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID), x = 1;
  for (long i = 0; i < count; i++) {
    x = mix(x + 1);
  }
  uint64_t end = now(CLOCK_MONOTONIC), cpu_end = now(CLOCK_THREAD_CPUTIME_ID);
  printf("%.4f %.4f %c\n", (double)(end - start) / (double)count,
         (double)(cpu_end - cpu) / (double)count, x ? '.' : '!');
}

static void have_memory(long mib) {
  words = (size_t)mib << 17;
  memory = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    puts("no memory");
    return;
  }
  for (size_t i = 0; i < words; i++) {
    memory[i] = mix(i + 1);
  }
  puts("ok");
}

static void verify(void) {
  for (size_t i = 0; i < words; i++) {
    if (memory[i] != mix(i + 1)) {
      printf("word %zu is wrong\n", i);
      return;
    }
  }
  puts("ok");
}

int main(void) {
  char line[64];
  pthread_t ticker;
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (fgets(line, sizeof(line), stdin)) {
    long count = strtol(line + 1, NULL, 10);
    switch (line[0]) {
      case 'n':
        null_calls(count);
        break;
      case 'c':
        compute(count);
        break;
      case 'm':
        have_memory(count);
        break;
      case 'v':
        verify();
        break;
      case 'g':
        if (!ticking) {
          ticking = 1;
          pthread_create(&ticker, NULL, tick, NULL);
          puts("0");
        } else {
          printf("%.0f\n", (double)largest_gap / 1000);
        }
        largest_gap = 0;
        break;
      case 'p':
        printf("%d\n", getpid());
        break;
    }
  }
  return 0;
}
