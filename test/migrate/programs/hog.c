// Holds as many MiB of memory as its argument says, each page different, and checks them until
// `stop` is there.
#include "rounds.h"

int main(int argc, char** argv) {
  CHECK_EQ(argc, 2);
  size_t words = (size_t)atoi(argv[1]) << 17;
  uint64_t* area = malloc(words * 8);
  CHECK(area);
  for (size_t i = 0; i < words; i++) {
    area[i] = mix(i);
  }
  puts("ready");
  fflush(stdout);
  do {
    for (size_t i = 0; i < words; i += 512) {
      CHECK(area[i] == mix(i));
      if (i % (512 * 4096) == 0 && stop_wanted()) {
        break;
      }
    }
  } while (!stop_wanted());
  for (size_t i = 0; i < words; i++) {
    CHECK(area[i] == mix(i));
  }
  puts("kept");
  return 0;
}
