// Counts: appends 1, 2, 3, … as lines to the file `count`, checks what the file's end says before
// each step, and computes between them. Two live copies cannot go unnoticed. First prints its pid.
#include <time.h>

#include "rounds.h"

int main(void) {
  int fd = open("count", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  CHECK(fd >= 0);
  printf("%d\n", getpid());
  fflush(stdout);
  off_t end = 0;
  for (uint64_t number = 1; !stop_wanted(); number++) {
    char line[32];
    int size = snprintf(line, sizeof(line), "%llu\n", (unsigned long long)number);
    CHECK_EQ(lseek(fd, 0, SEEK_END), end);  // nobody else has written
    CHECK_EQ(write(fd, line, (size_t)size), size);
    end += size;
    volatile uint64_t x = number;
    for (int i = 0; i < 100000; i++) {
      x = mix(x + 1);
    }
    struct timespec nap = {0, 1000000};
    nanosleep(&nap, NULL);
  }
  puts("counted");
  return 0;
}
