// A limit that is changed again and again while the program moves is in force wherever it runs: as
// much memory as it allows can be mapped, and no more.
#include <sys/mman.h>
#include <sys/resource.h>

#include "rounds.h"

static const rlim_t kLow = 4ul << 30, kHigh = 16ul << 30;
static const size_t kSize = 8ul << 30;
static int low;

static void look(void) {
  struct rlimit now;
  CHECK_EQ(getrlimit(RLIMIT_AS, &now), 0);
  CHECK_EQ(now.rlim_cur, low ? kLow : kHigh);
  void* const at = mmap(NULL, kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_EQ(at == MAP_FAILED, low);
  if (!low) {
    CHECK_EQ(munmap(at, kSize), 0);
  }
}

static void round_of(long number) {
  struct rlimit now;
  (void)number;
  low = !low;
  CHECK_EQ(getrlimit(RLIMIT_AS, &now), 0);
  now.rlim_cur = low ? kLow : kHigh;
  CHECK_EQ(setrlimit(RLIMIT_AS, &now), 0);
  for (int i = 0; i < 5; ++i) {
    look();
    usleep(2000);
  }
}

int main(void) {
  run_rounds(round_of);
  puts("limits: in force all the time");
  return 0;
}
