// Reads of devices that have no end, and of random bytes: each gives all that it is asked for, as
// nothing but a signal of the program's own ends it early.
#include <sys/random.h>
#include <sys/uio.h>

#include "rounds.h"

enum { kZeros = 8 << 20, kRandom = 2 << 20 };

static void one_round(long number) {
  static char buffer[kZeros];
  (void)number;
  const int zero = open("/dev/zero", O_RDONLY), full = open("/dev/full", O_RDONLY);
  const int random = open("/dev/urandom", O_RDONLY);
  CHECK(zero >= 0 && full >= 0 && random >= 0);
  struct iovec pieces[2] = {{buffer, kZeros / 4}, {buffer + kZeros / 2, kZeros / 2}};
  CHECK_EQ(read(zero, buffer, kZeros), kZeros);
  CHECK_EQ(readv(full, pieces, 2), kZeros / 4 * 3);
  CHECK_EQ(pread(random, buffer, kRandom, 5), kRandom);
  for (int i = 0; i < 8; i++) {
    CHECK_EQ(getrandom(buffer, kRandom, 0), kRandom);
  }
  close(zero);
  close(full);
  close(random);
}

int main(void) {
  run_rounds(one_round);
  puts("endless: all whole");
  return 0;
}
