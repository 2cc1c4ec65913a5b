// turns FILE MIB COUNT mapped|plain: writes and reads 100 bytes of a file COUNT times each by system calls, mapped: with a
// change through a shared mapping of all of it before each. Prints nanoseconds a write and a read.
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH = 100 };

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int count, char** words) {
  if (count != 5)
    errx(2, "turns FILE MIB COUNT mapped|plain");
  const long size = atol(words[2]) << 20, turns = atol(words[3]);
  const int fd = open(words[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
  char* content = malloc((size_t)size);
  char bytes[LENGTH] = "";
  if (fd < 0 || content == NULL)
    err(1, "%s", words[1]);
  memset(content, 7, (size_t)size);
  if (write(fd, content, (size_t)size) != size)
    err(1, "write %s", words[1]);
  char* map = content;
  if (strcmp(words[4], "mapped") == 0)
    map = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED)
    err(1, "mmap");
  double took[2];
  for (int reads = 0; reads < 2; ++reads) {
    const double began = now_ns();
    for (long i = 0; i < turns; ++i) {
      const off_t at = i * 8191 % (size - LENGTH);
      map[i * 4099 % size]++;
      if ((reads ? pread(fd, bytes, LENGTH, at) : pwrite(fd, bytes, LENGTH, at)) != LENGTH)
        err(1, "turn %ld", i);
    }
    took[reads] = (now_ns() - began) / (double)turns;
  }
  printf("%.0f %.0f\n", took[0], took[1]);
  return unlink(words[1]);
}
