// Shared mappings of files that change places, over others or where nothing was, and others made
// where they were: each goes on showing its own file.
#include <sys/mman.h>

#include "rounds.h"

enum { kPage = 4096, kHole = 1 << 20 };
static int first;
static int second;

static char* map_shared(int fd, void* at, long pages) {
  const int fixed = at != NULL ? MAP_FIXED : 0;
  char* map = mmap(at, pages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | fixed, fd, 0);
  CHECK(map != MAP_FAILED);
  return map;
}

static void look(int fd, long offset, long wanted) {
  int found = 0;
  CHECK_EQ(pread(fd, &found, sizeof(found), offset), sizeof(found));
  CHECK_EQ(found, wanted);
}

static void put(char* map, long value) {
  const int written = (int)value;
  memcpy(map, &written, sizeof(written));
}

static long get(const char* map) {
  int found;
  memcpy(&found, map, sizeof(found));
  return found;
}

static void round_of(long number) {
  char* one = map_shared(first, NULL, 1);
  char* two = map_shared(second, NULL, 1);
  char* hole = mmap(NULL, kHole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(hole != MAP_FAILED);
  put(two, 3 * number);
  char* const before = two;
  char* const to = number % 2 == 0 ? hole : one;
  two = mremap(two, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to);
  CHECK(two == to);
  usleep(5000);  // time for a move
  CHECK_EQ(get(two), 3 * number);
  put(two, 3 * number + 1);
  char* const again = number % 3 != 0 ? map_shared(first, before, 1) : NULL;
  if (again != NULL) {
    put(again, -number);
  }
  usleep(5000);
  look(second, 0, 3 * number + 1);
  CHECK_EQ(get(two), 3 * number + 1);
  if (again != NULL) {
    look(first, 0, -number);
    CHECK_EQ(munmap(again, kPage), 0);
  }
  two = mremap(two, kPage, 2 * kPage, MREMAP_MAYMOVE);
  CHECK(two != MAP_FAILED);
  put(two + kPage, 3 * number + 2);
  usleep(5000);
  look(second, kPage, 3 * number + 2);
  CHECK_EQ(munmap(two, 2 * kPage), 0);
  CHECK_EQ(munmap(hole, kHole), 0);
  if (to != one) {
    CHECK_EQ(munmap(one, kPage), 0);
  }
}

int main(void) {
  first = open("first", O_RDWR | O_CREAT | O_TRUNC, 0600);
  second = open("second", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(first >= 0 && second >= 0);
  CHECK_EQ(ftruncate(first, kPage), 0);
  CHECK_EQ(ftruncate(second, 2 * kPage), 0);
  run_rounds(round_of);
  CHECK_EQ(unlink("first"), 0);
  CHECK_EQ(unlink("second"), 0);
  puts("remapped: each file has its own");
  return 0;
}
