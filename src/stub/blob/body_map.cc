// mmap of a file from afar. Home maps it too, at the same address; the body maps a memfd named
// tess:<major>:<minor>:<inode> in which the offset is the file's, so that the kernel itself
// remembers which home file each range came from, through any munmap, mprotect or mremap.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kMapShared = 1, kMapPrivate = 2, kMapFixed = 0x10, kMapAnonymous = 0x20,
                          kMapLocked = 0x2000, kMapNoreserve = 0x4000, kMapPopulate = 0x8000,
                          kMapHugetlb = 0x40000, kMapFixedNoreplace = 0x100000, kMapTypeMask = 0xf;
inline constexpr uint64_t kPiece = uint64_t{4} << 20;  // file bytes of one reply
inline constexpr uint32_t kTypeMask = 0170000, kRegular = 0100000, kCharacter = 0020000;

char* put_hex(char* to, uint64_t value) {
  char digits[16];
  int n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value & 15];
    value >>= 4;
  } while (value != 0);
  while (n > 0) {
    *to++ = digits[--n];
  }
  return to;
}

}  // namespace

long make_memfd(const FileIdentity& identity) {
  constexpr int kMfdCloexec = 1;
  char name[64] = "tess:";
  char* at = put_hex(name + 5, identity.dev_major);
  *at++ = ':';
  at = put_hex(at, identity.dev_minor);
  *at++ = ':';
  // The inode in decimal, as /proc/PID/maps prints it.
  char digits[24];
  int n = 0;
  uint64_t inode = identity.inode;
  do {
    digits[n++] = (char)('0' + inode % 10);
    inode /= 10;
  } while (inode != 0);
  while (n > 0) {
    *at++ = digits[--n];
  }
  *at = 0;
  return sys(__NR_memfd_create, name, kMfdCloexec);
}

namespace {

// Streams one out-segment into the memfd. False: the channel is lost. `*failed` becomes a negative
// errno of a local write.
bool store_segment(Slot* slot, long memfd, uint64_t offset, uint64_t* stored, long* failed) {
  uint32_t header[2];
  if (!receive_bytes(slot, header, sizeof(header))) {
    return false;
  }
  uint8_t part[16 << 10];
  uint64_t left = header[0];
  while (left > 0) {
    const uint64_t n = left < sizeof(part) ? left : sizeof(part);
    if (!receive_bytes(slot, part, n)) {
      return false;
    }
    if (memfd >= 0 && *failed == 0) {
      const long written = sys(__NR_pwrite64, memfd, part, n, offset + *stored);
      if (written != (long)n) {
        *failed = written < 0 ? written : kEnomem;
      }
    }
    *stored += n;
    left -= n;
  }
  uint8_t padding[8];
  return receive_bytes(slot, padding, (8 - (header[0] & 7)) & 7);
}

struct Mapping {
  uint64_t address;
  uint64_t size;
  uint64_t prot;
  uint64_t flags;
  uint64_t fd;
  uint64_t offset;
  FileIdentity identity;
  long memfd;
};

// First reply: identity and the first piece. Negative errno, kRestart or kKicked as own_request.
int64_t ask_home(Slot* slot, Mapping& m, uint64_t* stored) {
  const uint64_t args[6] = {m.address, m.size, m.prot, m.flags, m.fd, m.offset};
  const uint64_t first = m.size < kPiece ? m.size : kPiece;
  const OwnSegment segments[2] = {{nullptr, 0, &m.identity, sizeof(m.identity)},
                                  {nullptr, 0, nullptr, (uint32_t)first, kTrimResult}};
  send_own_request(slot, kOpMapFile, args, segments, 2, 1u << 4);
  Reply reply;
  uint32_t header[2];
  long failed = 0;
  m.memfd = -1;
  if (!receive_reply(slot, &reply) || !receive_bytes(slot, header, sizeof(header)) ||
      header[0] != sizeof(m.identity) || !receive_bytes(slot, &m.identity, sizeof(m.identity))) {
    body_gone(slot);
  }
  if (reply.result >= 0) {
    m.memfd = make_memfd(m.identity);
    failed = m.memfd < 0 ? m.memfd : 0;
  }
  if (!store_segment(slot, m.memfd, m.offset, stored, &failed)) {
    body_gone(slot);
  }
  receive_signals(slot, reply);
  return reply.result < 0 ? reply.result : failed;
}

int64_t fetch_rest(Slot* slot, Mapping& m, uint64_t stored) {
  const uint64_t in_file = m.identity.size > m.offset ? m.identity.size - m.offset : 0;
  const uint64_t wanted = in_file < m.size ? in_file : m.size;
  return stored < wanted ? fetch_content(slot, m.memfd, m.fd, m.offset + stored, m.offset + wanted)
                         : 0;
}

}  // namespace

int64_t fetch_content(Slot* slot, long memfd, uint64_t fd, uint64_t from, uint64_t to) {
  while (from < to) {
    const uint64_t piece = to - from < kPiece ? to - from : kPiece;
    const uint64_t args[6] = {fd, from, piece, 0, 0, 0};
    const OwnSegment segment{nullptr, 0, nullptr, (uint32_t)piece, kTrimResult};
    send_own_request(slot, kOpReadFile, args, &segment, 1, 1u << 0);
    Reply reply;
    long failed = 0;
    uint64_t got = 0;
    if (!receive_reply(slot, &reply) || !store_segment(slot, memfd, from, &got, &failed)) {
      body_gone(slot);
    }
    receive_signals(slot, reply);
    if (failed != 0) {
      return failed;
    }
    if (reply.result <= 0) {
      return 0;  // the file has shrunk meanwhile: what is missing is past its end
    }
    from += (uint64_t)reply.result;
  }
  return 0;
}

namespace {

Answer map_private_file(Trap& trap) {
  Slot* slot = trap.slot;
  Mapping m{};
  m.size = (trap.args[1] + 4095) & ~uint64_t{4095};
  m.prot = trap.args[2];
  m.flags = trap.args[3];
  m.fd = trap.args[4];
  m.offset = trap.args[5];
  if (m.size == 0 || (m.offset & 4095) != 0) {
    return answer(kEinval);
  }
  const uint64_t placing = m.flags & ~(kMapTypeMask | kMapPopulate | kMapLocked);
  // Reserve first: this kernel chooses the address, home follows. A fixed one is only replaced once
  // home has agreed.
  const bool fixed = (m.flags & (kMapFixed | kMapFixedNoreplace)) != 0;
  const bool replaces = (m.flags & kMapFixed) != 0;
  if (replaces) {
    if ((trap.args[0] & 4095) != 0) {
      return answer(kEinval);
    }
    m.address = trap.args[0];
  } else {
    const long reserved = sys(__NR_mmap, trap.args[0], m.size, 0,
                              placing | kMapPrivate | kMapAnonymous | kMapNoreserve, -1, 0);
    if (reserved < 0 && reserved > -4096) {
      return answer(reserved);
    }
    m.address = (uint64_t)reserved;
  }
  uint64_t stored = 0;
  int64_t result = ask_home(slot, m, &stored);
  if (result == 0) {
    result = fetch_rest(slot, m, stored);
  }
  if (result == 0 && (m.identity.mode & kTypeMask) == kRegular) {
    sys(__NR_ftruncate, m.memfd, m.identity.size);
  }
  if (result == 0) {
    const uint64_t keep = m.flags & ~uint64_t{kMapFixedNoreplace};
    const bool anonymous =
        (m.identity.mode & kTypeMask) ==
        kCharacter;  // /dev/zero: the only device whose private mapping is plain memory
    result = anonymous
                 ? sys(__NR_mmap, m.address, m.size, m.prot,
                       kMapPrivate | kMapAnonymous | kMapFixed, -1, 0)
                 : sys(__NR_mmap, m.address, m.size, m.prot, keep | kMapFixed, m.memfd, m.offset);
    if (result < 0 && result > -4096 && !fixed) {
      sys(__NR_munmap, m.address, m.size);
    }
  } else if (!replaces) {
    sys(__NR_munmap, m.address, m.size);
  }
  if (m.memfd >= 0) {
    sys(__NR_close, m.memfd);
  }
  if (is_unfinished(result)) {
    return again();
  }
  return answer(result);
}

// The pool is home's, and its pages stay there: with none to be had, as on most machines, the
// program goes on here without them. What home tries is where nothing of the program can be.
Answer map_from_pool(Trap& trap) {
  constexpr uint64_t kPlaced = kMapFixed | kMapFixedNoreplace | kMapPopulate | kMapLocked;
  constexpr uint64_t kSizeShift = 26, kSizeMask = 63, kUsualSize = 21;
  const uint64_t* a = trap.args;
  const uint64_t trial[6] = {0, a[1], a[2], a[3] & ~kPlaced, a[4], a[5]};
  const int64_t made = own_request(trap.slot, __NR_mmap, trial, nullptr, 0, 0);
  if (made < 0 && made > -4096) {
    return is_unfinished(made) ? again() : answer(made);
  }
  const uint64_t shift = a[3] >> kSizeShift & kSizeMask;
  const uint64_t page = uint64_t{1} << (shift != 0 ? shift : kUsualSize);
  const uint64_t undo[6] = {(uint64_t)made, (a[1] + page - 1) & ~(page - 1), 0, 0, 0, 0};
  own_request(trap.slot, __NR_munmap, undo, nullptr, 0, 0);
  return homeward_call(trap, kEnomem);
}

}  // namespace

Answer map_call(Trap& trap) {
  constexpr uint64_t kFromPool = kMapAnonymous | kMapHugetlb;
  if ((trap.args[3] & kFromPool) == kFromPool) {
    return map_from_pool(trap);
  }
  const bool shared = (trap.args[3] & kMapTypeMask & kMapShared) != 0;
  const Answer made = shared ? map_shared_call(trap) : map_private_file(trap);
  const bool pool = made.outcome == Outcome::kResult && made.result == kHomesPool;
  return pool ? homeward_call(trap, kEnodev) : made;
}

}  // namespace tess::stub
