// Shared by the test programs: they repeat rounds that must all go the same way until the file
// `stop` appears in their folder. What they print depends on no time and no number of rounds; a
// wrong result ends them with status 1 and a message.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline int stop_wanted(void) {
  return access("stop", F_OK) == 0;
}

__attribute__((format(printf, 3, 4))) static inline void fail_at(const char* file, int line,
                                                                 const char* format, ...) {
  int error = errno;
  va_list list;
  va_start(list, format);
  fprintf(stderr, "%s:%d: ", file, line);
  vfprintf(stderr, format, list);
  fprintf(stderr, " (errno %d %s)\n", error, strerror(error));
  va_end(list);
  fflush(NULL);
  _exit(1);
}

#define CHECK(condition)                                       \
  do {                                                         \
    if (!(condition)) {                                        \
      fail_at(__FILE__, __LINE__, "not true: %s", #condition); \
    }                                                          \
  } while (0)

#define CHECK_EQ(a, b)                                                                   \
  do {                                                                                   \
    long long check_a_ = (long long)(a), check_b_ = (long long)(b);                      \
    if (check_a_ != check_b_) {                                                          \
      fail_at(__FILE__, __LINE__, "%s is %lld, %s is %lld", #a, check_a_, #b, check_b_); \
    }                                                                                    \
  } while (0)

// Runs rounds until told to stop; says `ready` after the first.
static inline long run_rounds(void (*round)(long number)) {
  long number = 0;
  do {
    round(number);
    if (number++ == 0) {
      puts("ready");
      fflush(stdout);
    }
  } while (!stop_wanted());
  return number;
}

static inline uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}
