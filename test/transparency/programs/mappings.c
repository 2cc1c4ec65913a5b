// A file that is mapped shared and read and written by calls by turns: each way sees at once what
// the others have done. The model is a copy in private memory.
#include "check.h"

enum { MOST = 256 << 10, PAGE = 4096 };
static char model[MOST];
static char scratch[MOST];
static long file_size;
static char* map;
static unsigned long long state = 88172645463325252ULL;

static unsigned draw(unsigned below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (unsigned)((state >> 11) % below);
}
static int fresh(long size, int flags) {
  int fd = open("data", O_RDWR | O_CREAT | O_TRUNC | flags, 0600);
  CHECK(fd >= 0);
  EQ(ftruncate(fd, size), 0);
  memset(model, 0, sizeof model);
  file_size = size;
  map = mmap(0, MOST, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  return fd;
}
static void fill(char* to, long n) {
  for (long i = 0; i < n; i++)
    to[i] = (char)draw(256);
}
static void same(const char* got, long offset, long n, const char* how, int step) {
  for (long i = 0; i < n; i++)
    if (got[i] != model[offset + i])
      FAIL("step %d: byte %ld by %s is %d, wanted %d", step, offset + i, how, got[i],
           model[offset + i]);
}
static void look(int fd, int step) {
  long offset = draw((unsigned)file_size), n = draw(20000) + 1;
  n = n < file_size - offset ? n : file_size - offset;
  struct iovec parts[2] = {{scratch, n / 2}, {scratch + n / 2, n - n / 2}};
  switch (draw(5)) {
    case 0:
      EQ(pread(fd, scratch, n, offset), n);
      same(scratch, offset, n, "pread", step);
      break;
    case 1:
      EQ(lseek(fd, offset, SEEK_SET), offset);
      EQ(read(fd, scratch, n), n);
      same(scratch, offset, n, "read", step);
      break;
    case 2:
      EQ(preadv(fd, parts, 2, offset), n);
      same(scratch, offset, n, "preadv", step);
      break;
    case 3:
      EQ(lseek(fd, offset, SEEK_SET), offset);
      EQ(readv(fd, parts, 2), n);
      same(scratch, offset, n, "readv", step);
      break;
    default:
      same(map + offset, offset, n, "map", step);
  }
}
static void change(int fd, int step) {
  long offset = draw(MOST - 20001), n = draw(20000) + 1, by_map = file_size - offset;
  fill(scratch, n);
  struct iovec parts[2] = {{scratch, n / 3}, {scratch + n / 3, n - n / 3}};
  switch (draw(8)) {
    case 0:
      EQ(pwrite(fd, scratch, n, offset), n);
      break;
    case 1:
      EQ(lseek(fd, offset, SEEK_SET), offset);
      EQ(write(fd, scratch, n), n);
      break;
    case 2:
      EQ(pwritev(fd, parts, 2, offset), n);
      break;
    case 3:  // shorter or longer; what is cut off comes back as zeros
      EQ(ftruncate(fd, offset + 1), 0);
      if (offset + 1 < file_size)
        memset(model + offset + 1, 0, file_size - offset - 1);
      file_size = offset + 1;
      return;
    case 4: {
      int made = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, n);
      if (made == 0)
        memset(model + offset, 0, n);
      return;
    }
    default:
      n = n < by_map ? n : by_map;
      if (n > 0)
        memcpy(map + offset, scratch, n);
  }
  if (n > 0) {
    memcpy(model + offset, scratch, n);
    file_size = offset + n > file_size ? offset + n : file_size;
  }
}
static void finish(int fd) {
  EQ(munmap(map, MOST), 0);
  char* now = slurp("data");
  same(now, 0, file_size, "the file", -1);
  struct stat st;
  EQ(fstat(fd, &st), 0);
  EQ(st.st_size, file_size);
}

T(by_turns) {
  int fd = fresh(100000, 0);
  for (int step = 0; step < 600; step++) {
    change(fd, step);
    look(fd, step);
  }
  finish(fd);
}
T(by_turns_of_two) {
  int fd = fresh(100000, 0), to_child[2], to_parent[2];
  CHECK(!pipe(to_child) && !pipe(to_parent));
  char* shared = mmap(0, MOST, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t pid = fork();
  int in = pid ? to_parent[0] : to_child[0], out = pid ? to_child[1] : to_parent[1];
  char go = 1;
  for (int step = 0; step < 120; step++) {
    if (step % 2 == !pid) {
      change(fd, step);
      look(fd, step);
      memcpy(shared, model, MOST);  // the other's model, the state of the draw and the size
      EQ(write(out, &state, sizeof state), sizeof state);
      EQ(write(out, &file_size, sizeof file_size), sizeof file_size);
    } else {
      EQ(read(in, &state, sizeof state), sizeof state);
      EQ(read(in, &file_size, sizeof file_size), sizeof file_size);
      memcpy(model, shared, MOST);
      same(map, 0, file_size, "the other's map", step);
    }
  }
  if (!pid)
    _exit(0);
  child_ok(pid);
  finish(fd);
}
T(large_write) {
  enum { LARGE = 3 << 20 };
  int fd = open("large", O_RDWR | O_CREAT, 0600);
  EQ(ftruncate(fd, LARGE + 2 * PAGE), 0);
  char* at = mmap(0, LARGE + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  char* data = malloc(LARGE);
  fill(data, LARGE);
  at[10] = 'a';  // in the page where the write begins
  at[LARGE + PAGE + 100] = 'b';
  EQ(pwrite(fd, data, LARGE, 100), LARGE);
  CHECK(!memcmp(at + 100, data, LARGE));
  EQ(at[10], 'a');
  EQ(at[LARGE + PAGE + 100], 'b');
  char byte;
  EQ(pread(fd, &byte, 1, 10), 1);
  EQ(byte, 'a');
  EQ(pread(fd, &byte, 1, LARGE + PAGE + 100), 1);
  EQ(byte, 'b');
}
T(appended) {
  int fd = fresh(PAGE, O_APPEND);
  map[5] = 'x';
  EQ(pwrite(fd, "end", 3, 0), 3);  // to the end, whatever the offset says
  EQ(map[5], 'x');
  EQ(map[0], 0);
  CHECK(!memcmp(map + PAGE, "end", 3));
  map[6] = 'y';
  EQ(write(fd, "more", 4), 4);
  CHECK(!memcmp(map + PAGE + 3, "more", 4));
  char back[8];
  EQ(pread(fd, back, 8, 0), 8);
  EQ(back[5], 'x');
  EQ(back[6], 'y');
}
T(same_page) {
  int fd = fresh(4 * PAGE, 0);
  for (int i = 0; i < 200; i++) {
    map[i] = (char)i;
    char byte = (char)~i;
    EQ(pwrite(fd, &byte, 1, 2000 + i), 1);
    map[PAGE + i] = (char)(i + 1);
    EQ(map[2000 + i], (char)~i);
    EQ(pread(fd, &byte, 1, i), 1);
    EQ(byte, (char)i);
  }
  char all[PAGE];
  EQ(pread(fd, all, PAGE, 0), PAGE);
  for (int i = 0; i < 200; i++) {
    EQ(all[i], (char)i);
    EQ(all[2000 + i], (char)~i);
  }
}
T(threads_with_one_position) {
  int fd = fresh(64 * PAGE, 0);
  for (int i = 0; i < 64; i++)
    map[i * PAGE] = (char)(i + 1);
  static int seen[65];
  void* reader(void* x) {
    char page[PAGE];
    while (read(fd, page, PAGE) == PAGE)
      __atomic_add_fetch(&seen[(unsigned char)page[0] <= 64 ? (unsigned char)page[0] : 0], 1, 5);
    return 0;
  }
  EQ(lseek(fd, 0, SEEK_SET), 0);
  pthread_t t[3];
  for (int i = 0; i < 3; i++)
    EQ(pthread_create(&t[i], 0, reader, 0), 0);
  for (int i = 0; i < 3; i++)
    pthread_join(t[i], 0);
  for (int i = 1; i <= 64; i++)
    EQ(seen[i], 1);
}

// The kernel moves the data from file to file: what is mapped shows it, and keeps it.
T(sent_into_a_mapped_file) {
  const int fd = fresh(30000, 0);
  const int from = open("from", O_RDWR | O_CREAT | O_TRUNC, 0600);
  char text[32] = "";
  EQ(write(from, "other", 5), 5);
  map[10] = 'M';
  off_t position = 0;
  EQ(sendfile(fd, from, &position, 5), 5);
  EQ(memcmp(map, "other", 5), 0);
  map[20] = 'N';
  EQ(msync(map, 30000, MS_SYNC), 0);
  EQ(pread(fd, text, 21, 0), 21);
  EQ(memcmp(text, "other", 5), 0);
  EQ(text[10], 'M');
  EQ(text[20], 'N');
  EQ(ftruncate(from, 20000), 0);
  EQ(pwrite(from, "end", 3, 19997), 3);
  EQ(lseek(fd, 30000, SEEK_SET), 30000);
  position = 0;
  EQ(sendfile(fd, from, &position, 20000), 20000);
  EQ(memcmp(map + 30000 + 19997, "end", 3), 0);
}
T(data_and_holes_of_a_mapped_file) {
  const int fd = fresh(MOST, 0);
  map[40 * PAGE] = 1;
  EQ(lseek(fd, 0, SEEK_DATA), 40 * PAGE);
  EQ(lseek(fd, 40 * PAGE, SEEK_HOLE), 41 * PAGE);
  ERR(lseek(fd, 41 * PAGE, SEEK_DATA), ENXIO);
}
// Mappings change places, and others are made where they were.
T(mappings_that_move) {
  const int a = open("a", O_RDWR | O_CREAT | O_TRUNC, 0600),
            b = open("b", O_RDWR | O_CREAT | O_TRUNC, 0600);
  const int rw = PROT_READ | PROT_WRITE;
  char byte[2] = "";
  EQ(ftruncate(a, PAGE), 0);
  EQ(ftruncate(b, 2 * PAGE), 0);
  for (int i = 0; i < 20; i++) {
    char* const of_a = mmap(0, PAGE, rw, MAP_SHARED, a, 0);
    char* of_b = mmap(0, PAGE, rw, MAP_SHARED, b, 0);
    of_b[0] = (char)i;
    char* const hole = mmap(0, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* const to = i % 2 ? of_a : hole;
    char* const old = of_b;
    of_b = mremap(of_b, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    CHECK(of_b == to);
    char* const again = mmap(old, PAGE, rw, MAP_SHARED | MAP_FIXED, a, 0);
    again[1] = (char)(100 + i);
    EQ(of_b[0], i);
    of_b[1] = (char)(50 + i);
    usleep(20000);
    EQ(pread(b, byte, 2, 0), 2);
    EQ(byte[0], i);
    EQ(byte[1], 50 + i);
    EQ(pread(a, byte, 2, 0), 2);
    EQ(byte[1], 100 + i);
    of_b = mremap(of_b, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    CHECK(of_b != MAP_FAILED);
    of_b[PAGE] = (char)(i + 1);
    EQ(pread(b, byte, 1, PAGE), 1);
    EQ(byte[0], i + 1);
    EQ(munmap(of_b, 2 * PAGE), 0);
    EQ(munmap(again, PAGE), 0);
    munmap(hole, 1 << 20);
    munmap(of_a, PAGE);
  }
}

// ---- System V segments of which a part is mapped no more ----

static int segment_id;
static char* segment_of(int pages) {
  segment_id = shmget(IPC_PRIVATE, pages * PAGE, 0600);
  CHECK(segment_id >= 0);
  char* at = shmat(segment_id, 0, 0);
  CHECK(at != (void*)-1);
  EQ(shmctl(segment_id, IPC_RMID, 0), 0);
  return at;
}
static void no_segment(void) {
  struct shmid_ds about;
  CHECK(shmctl(segment_id, IPC_STAT, &about) == -1 && (errno == EINVAL || errno == EIDRM));
}
static int is_mapped(char* page) {
  unsigned char there;
  return mincore(page, PAGE, &there) == 0;
}
T(shmdt_leaves_what_replaced_it) {
  char* at = segment_of(5);
  const int flags = MAP_FIXED | MAP_ANONYMOUS;
  char* own = mmap(at + PAGE, PAGE, PROT_READ | PROT_WRITE, flags | MAP_PRIVATE, -1, 0);
  char* shared = mmap(at + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE, flags | MAP_SHARED, -1, 0);
  CHECK(own == at + PAGE && shared == at + 3 * PAGE);
  *own = 'o';
  *shared = 's';
  at[4 * PAGE] = 'x';
  EQ(shmdt(at), 0);
  EQ(*own, 'o');
  EQ(*shared, 's');
  CHECK(!is_mapped(at) && !is_mapped(at + 2 * PAGE) && !is_mapped(at + 4 * PAGE));
  no_segment();
  ERR(shmdt(at), EINVAL);
  EQ(*own, 'o');
}
T(shmdt_without_the_first_page) {
  char* at = segment_of(3);
  EQ(munmap(at, PAGE), 0);
  at[2 * PAGE] = 'x';
  ERR(shmdt(at + PAGE), EINVAL);
  EQ(at[2 * PAGE], 'x');
  EQ(shmdt(at), 0);
  CHECK(!is_mapped(at + PAGE) && !is_mapped(at + 2 * PAGE));
  no_segment();
}
T(shmdt_of_one_of_two) {
  char* at = segment_of(4);
  char* byte = at + 2 * PAGE;
  *byte = 'x';
  const int id = shmget(IPC_PRIVATE, PAGE, 0600);
  CHECK(shmat(id, at, SHM_REMAP) == at);
  EQ(shmctl(id, IPC_RMID, 0), 0);
  EQ(shmdt(at), 0);
  EQ(*byte, 'x');
  CHECK(!is_mapped(at));
  EQ(shmdt(at), 0);
  CHECK(!is_mapped(byte));
  no_segment();
}

// ---- pages of the hugetlb pool, which the machine has to give ----

#define POOL "/proc/sys/vm/nr_hugepages"
#define HUGE (2ul << 20)

static int pool_set(int pages) {
  char text[16];
  const int fd = open(POOL, O_WRONLY);
  const int length = sprintf(text, "%d", pages);
  const int written = write(fd, text, length);
  close(fd);
  return written == length && atoi(slurp(POOL)) == pages;
}
// What a child writes there is seen here, or is not.
static void with_child(char* memory, int shared) {
  CHECK(memory != MAP_FAILED);
  memory[HUGE - 1] = 1;
  const pid_t child = fork();
  if (!child) {
    memory[HUGE - 1]++;
    _exit(memory[HUGE - 1] != 2);
  }
  child_ok(child);
  EQ(memory[HUGE - 1], shared ? 2 : 1);
}
static void pool_private(void) {
  char* memory =
      mmap(0, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  with_child(memory, 0);
  ERR(munmap(memory, 4096), EINVAL);
  EQ(munmap(memory, HUGE), 0);
}
static void pool_shared(void) {
  with_child(mmap(0, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0),
             1);
}
static void pool_segment(void) {
  const int id = shmget(IPC_PRIVATE, HUGE, IPC_CREAT | SHM_HUGETLB | 0600);
  CHECK(id >= 0);
  char* memory = shmat(id, 0, 0);
  EQ(shmctl(id, IPC_RMID, 0), 0);
  with_child(memory, 1);
  EQ(shmdt(memory), 0);
}
static void pool_file(void) {
  const int fd = memfd_create("pool", MFD_HUGETLB);
  EQ(ftruncate(fd, HUGE), 0);
  with_child(mmap(0, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), 0);
  with_child(mmap(0, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), 1);
  char byte = 0;
  EQ(pread(fd, &byte, 1, HUGE - 1), 1);
  EQ(byte, 2);
}
static void pool_exhausted(void) {
  ERR((long)mmap(0, 100 * HUGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0),
      ENOMEM);
}
T(pages_of_the_pool) {
  void (*const uses[])(void) = {pool_exhausted, pool_private, pool_shared, pool_segment, pool_file};
  const int before = atoi(slurp(POOL));
  if (!pool_set(before + 4))
    FAIL("no pages");
  int failed = 0;
  for (int i = 0; i < 5; i++) {
    const pid_t child = fork();
    if (!child) {
      uses[i]();
      _exit(0);
    }
    failed |= reap(child);
  }
  pool_set(before);
  EQ(failed, 0);
}
