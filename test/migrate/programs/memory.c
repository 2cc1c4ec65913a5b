// Memory: every kind of private mapping keeps its content, protection and place through mmap,
// munmap, mremap, mprotect, brk, file mappings, a large patterned heap with holes, and fork's copy.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "rounds.h"

enum { kBig = 48 << 20, kPage = 4096 };
static uint64_t* big;
static unsigned char* file_private;
static char* pinned;
static int is_pinned;
static int policy;
static volatile char* cut;
static int cut_fd;
static int cut_pages = 3;
static sigjmp_buf jump;

static void on_fault(int s) {
  (void)s;
  siglongjmp(jump, 1);
}

static int writable(volatile char* at) {
  if (sigsetjmp(jump, 1)) {
    return 0;
  }
  *at = *at;
  return 1;
}

static int readable(volatile char* at) {
  if (sigsetjmp(jump, 1)) {
    return 0;
  }
  (void)*at;
  return 1;
}

static void fill(void) {
  big = mmap(NULL, kBig, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(big != MAP_FAILED);
  for (size_t page = 0; page < kBig / kPage; page++) {
    if (page % 3) {  // each third page stays untouched
      big[page * 512] = mix(page);
      big[page * 512 + 511] = mix(~page);
    }
  }
  int fd = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0);
  char block[kPage];
  for (int i = 0; i < 64; i++) {
    memset(block, 'a' + i % 26, sizeof(block));
    CHECK_EQ(write(fd, block, sizeof(block)), sizeof(block));
  }
  cut_fd = open("cut", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(cut_fd >= 0);
  CHECK_EQ(unlink("cut"), 0);
  CHECK_EQ(ftruncate(cut_fd, 3 * kPage), 0);
  cut = mmap(NULL, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, cut_fd, 0);
  CHECK(cut != MAP_FAILED);
  cut[0] = 'c';
  pinned = mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(pinned != MAP_FAILED);
  CHECK_EQ(mlock(pinned, 2 * kPage), 0);
  is_pinned = 1;
  file_private = mmap(NULL, 64 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(file_private != MAP_FAILED);
  close(fd);
  for (int i = 0; i < 64; i += 4) {
    file_private[i * kPage + 7] = '#';
  }
}

static void check_all(void) {
  for (size_t page = 0; page < kBig / kPage; page++) {
    CHECK_EQ(big[page * 512], page % 3 ? mix(page) : 0);
    CHECK_EQ(big[page * 512 + 511], page % 3 ? mix(~page) : 0);
  }
  for (int i = 0; i < 64; i++) {
    CHECK_EQ(file_private[i * kPage + 7], i % 4 ? 'a' + i % 26 : '#');
    CHECK_EQ(file_private[i * kPage + 8], 'a' + i % 26);
  }
}

static void churn(long number) {
  char* area = mmap(NULL, 64 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(area != MAP_FAILED);
  memset(area, 0x5a, 64 * kPage);
  CHECK_EQ(munmap(area + 16 * kPage, 16 * kPage), 0);
  CHECK_EQ(mprotect(area + 40 * kPage, 8 * kPage, PROT_READ), 0);
  CHECK(writable(area));
  CHECK(!readable(area + 20 * kPage));
  CHECK(readable(area + 41 * kPage) && !writable(area + 41 * kPage));
  CHECK_EQ(madvise(area, 4 * kPage, MADV_DONTNEED), 0);
  CHECK_EQ(area[5], 0);
  CHECK_EQ(area[5 * kPage], 0x5a);
  char* moved = mremap(area, 16 * kPage, 128 * kPage, MREMAP_MAYMOVE);
  CHECK(moved != MAP_FAILED);
  CHECK_EQ(moved[15 * kPage], 0x5a);
  CHECK_EQ(moved[127 * kPage], 0);
  CHECK_EQ(munmap(moved, 128 * kPage), 0);
  CHECK_EQ(munmap(area + 32 * kPage, 32 * kPage), 0);
#ifdef __GLIBC__  // musl refuses sbrk
  char* top = sbrk(0);
  CHECK(sbrk(3 * kPage) == top);
  top[0] = 1;
  top[3 * kPage - 1] = 2;
  CHECK(sbrk(-3 * kPage) == top + 3 * kPage);
  CHECK(sbrk(0) == top);
#endif
  int fd = open("mapped", O_RDONLY);
  CHECK(fd >= 0);
  unsigned char* view = mmap(NULL, 4 * kPage, PROT_READ, MAP_PRIVATE, fd, (number % 32) * kPage);
  CHECK(view != MAP_FAILED);
  close(fd);
  CHECK_EQ(view[0], 'a' + (number % 32) % 26);
  CHECK_EQ(munmap(view, 4 * kPage), 0);
  void* block = malloc(300000);
  CHECK(block);
  memset(block, 3, 300000);
  free(block);
}

// What is locked, and from which nodes memory comes, is as the last round has left it.
static void check_settings(void) {
  enum { kDefault, kPreferred, kBind, kPolicies };
  unsigned long nodes[16] = {0};
  int now = -1;
  CHECK_EQ(syscall(SYS_get_mempolicy, &now, nodes, 1025, 0, 0), 0);
  CHECK_EQ(now, policy);
  CHECK_EQ(nodes[0], policy == kDefault ? 0 : 1);
  policy = (policy + 1) % kPolicies;
  nodes[0] = 1;
  CHECK_EQ(policy == kDefault ? syscall(SYS_set_mempolicy, policy, 0, 0)
                              : syscall(SYS_set_mempolicy, policy, nodes, 1025),
           0);
  CHECK_EQ(msync(pinned, kPage, MS_ASYNC | MS_INVALIDATE), is_pinned ? -1 : 0);
  CHECK_EQ(msync(pinned + kPage, kPage, MS_ASYNC | MS_INVALIDATE), -1);
  is_pinned = !is_pinned;
  CHECK_EQ(is_pinned ? mlock(pinned, kPage) : munlock(pinned, kPage), 0);
}

// A file of one page, or of three, mapped private.
static void check_cut(void) {
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(readable((char*)cut + i * kPage), i < cut_pages);
  }
  CHECK_EQ(cut[0], 'c');
  if (cut_pages == 3) {
    CHECK_EQ(cut[2 * kPage], 0);
    cut[2 * kPage] = 'd';
  }
  cut_pages = cut_pages == 3 ? 1 : 3;
  CHECK_EQ(ftruncate(cut_fd, cut_pages * kPage), 0);
}

// One mapping where there were two: it is one wherever it has been meanwhile, since only then it
// can be moved as a whole and grow.
static void check_whole(void) {
  enum { kWhole = 6, kPart = 2 };
  const int writes = PROT_READ | PROT_WRITE;
  const int here = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  static char* area;
  static int is_whole;
  if (area == NULL) {
    area = mmap(NULL, (kWhole + 2) * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    area += kPage;
  }
  if (is_whole) {
    char* moved = mremap(area, kWhole * kPage, (kWhole + 1) * kPage, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED);
    for (int i = 0; i < kWhole; i++) {
      CHECK_EQ(moved[i * kPage], 'w');
    }
    CHECK_EQ(munmap(moved, (kWhole + 1) * kPage), 0);
    for (int i = 0; i < kWhole; i += kWhole - kPart) {
      CHECK(mmap(area + i * kPage, kPart * kPage, writes, here, -1, 0) != MAP_FAILED);
      memset(area + i * kPage, 'p', kPart * kPage);
    }
  } else {
    CHECK_EQ(munmap(area, kWhole * kPage), 0);
    CHECK(mmap(area, kWhole * kPage, writes, here, -1, 0) != MAP_FAILED);
    memset(area, 'w', kWhole * kPage);
  }
  is_whole = !is_whole;
}

// A mapping whose middle cannot be written to for a while: it is three, and one again afterwards.
static void check_joined(void) {
  enum { kParts = 3 };
  static char* area;
  static int is_split;
  if (!is_split) {
    area = mmap(NULL, (kParts + 2) * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    area += kPage;
    CHECK_EQ(mprotect(area, kParts * kPage, PROT_READ | PROT_WRITE), 0);
    memset(area, 'j', kParts * kPage);
    CHECK_EQ(mprotect(area + kPage, kPage, PROT_READ), 0);
  } else {
    CHECK(!writable(area + kPage));
    CHECK_EQ(mprotect(area + kPage, kPage, PROT_READ | PROT_WRITE), 0);
    char* moved = mremap(area, kParts * kPage, (kParts + 1) * kPage, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED);
    for (int i = 0; i < kParts; i++) {
      CHECK_EQ(moved[i * kPage], 'j');
    }
    CHECK_EQ(munmap(moved, (kParts + 1) * kPage), 0);
    CHECK_EQ(munmap(area - kPage, (kParts + 2) * kPage), 0);
  }
  is_split = !is_split;
}

static void one_round(long number) {
  check_all();
  check_whole();
  check_joined();
  check_cut();
  check_settings();
  churn(number);
  if (number % 4 == 0) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      check_all();
      big[0] = 99;
      file_private[0] = 99;
      _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = on_fault;
  CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
  CHECK_EQ(sigaction(SIGBUS, &action, NULL), 0);
  fill();
  run_rounds(one_round);
  puts("memory: every page as it was");
  return 0;
}
