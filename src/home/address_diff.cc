#include "home/address_diff.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>

namespace tess::home {
namespace {

using memory::Mapping;
using memory::MappingKind;

struct AdviceBit {
  uint32_t bit;
  int on;
  int off;
};
constexpr std::array kAdvice = {
    AdviceBit{memory::kAdviseHugepage, MADV_HUGEPAGE, 0},
    AdviceBit{memory::kAdviseNoHugepage, MADV_NOHUGEPAGE, 0},
    AdviceBit{memory::kAdviseDontFork, MADV_DONTFORK, MADV_DOFORK},
    AdviceBit{memory::kAdviseDontDump, MADV_DONTDUMP, MADV_DODUMP},
    AdviceBit{memory::kAdviseWipeOnFork, MADV_WIPEONFORK, MADV_KEEPONFORK},
    AdviceBit{memory::kAdviseMergeable, MADV_MERGEABLE, MADV_UNMERGEABLE},
    AdviceBit{memory::kAdviseSequential, MADV_SEQUENTIAL, MADV_NORMAL},
    AdviceBit{memory::kAdviseRandom, MADV_RANDOM, MADV_NORMAL},
};

stub::SyscallRequest request(int64_t number, uint64_t a0, uint64_t a1, uint64_t a2 = 0,
                             uint64_t a3 = 0, uint64_t a4 = 0, uint64_t a5 = 0) {
  stub::SyscallRequest made{};
  made.number = number;
  const std::array<uint64_t, 6> args = {a0, a1, a2, a3, a4, a5};
  std::copy(args.begin(), args.end(), made.args);
  made.result = stub::kNotRun;
  return made;
}

bool same_backing(const Mapping& now, const Mapping& wanted) {
  if (now.kind != wanted.kind) {
    return false;
  }
  if (now.kind == MappingKind::kAnon) {
    return true;
  }
  return now.dev_major == wanted.dev_major && now.dev_minor == wanted.dev_minor &&
         now.inode == wanted.inode &&
         now.offset - now.start == wanted.offset - wanted.start;  // modulo 2^64 on purpose
}

Mapping cut(const Mapping& mapping, uint64_t start, uint64_t end) {
  Mapping part = mapping;
  part.offset = mapping.offset + (start - mapping.start);
  part.start = start;
  part.end = end;
  return part;
}

void adjust(const Mapping* now, const Mapping& wanted, AddressDiff& diff) {
  const uint64_t start = wanted.start;
  const uint64_t size = wanted.size();
  if (now != nullptr && now->prot != wanted.prot) {
    diff.after.push_back(request(SYS_mprotect, start, size, wanted.prot));
  }
  const uint32_t old_advice = now == nullptr ? 0 : now->madvise;
  const auto advise = [&](int advice) {
    diff.after.push_back(request(SYS_madvise, start, size, static_cast<uint64_t>(advice)));
  };
  const uint32_t gone = old_advice & ~wanted.madvise;
  const uint32_t fresh = wanted.madvise & ~old_advice;
  for (const AdviceBit& advice : kAdvice) {
    if ((gone & advice.bit) != 0 && advice.off != 0) {
      advise(advice.off);  // first: MADV_NORMAL takes either of two off
    }
  }
  for (const AdviceBit& advice : kAdvice) {
    if ((fresh & advice.bit) != 0) {
      advise(advice.on);
    }
  }
  const bool was_locked = now != nullptr && now->locked;
  const bool on_fault = (wanted.madvise & memory::kAdviseLockOnFault) != 0;
  if (wanted.locked && !was_locked) {
    diff.after.push_back(request(SYS_mlock2, start, size, on_fault ? MLOCK_ONFAULT : 0));
  } else if (!wanted.locked && was_locked) {
    diff.after.push_back(request(SYS_munlock, start, size));
  }
}

void map_new(const Mapping& wanted, AddressDiff& diff) {
  const bool has_object = wanted.kind == MappingKind::kAnonShared && wanted.inode != 0;
  if (wanted.kind == MappingKind::kFilePrivate || wanted.kind == MappingKind::kFileShared ||
      has_object) {
    diff.files.push_back(wanted);
    return;
  }
  const uint64_t sharing =
      wanted.kind == MappingKind::kAnonShared ? uint64_t{MAP_SHARED} : uint64_t{MAP_PRIVATE};
  const uint64_t kept = wanted.flags & (MAP_GROWSDOWN | MAP_NORESERVE);
  const bool was_writable = (wanted.madvise & memory::kWasWritable) != 0;
  diff.before.push_back(request(SYS_mmap, wanted.start, wanted.size(),
                                was_writable ? wanted.prot | PROT_WRITE : wanted.prot,
                                sharing | kept | MAP_ANONYMOUS | MAP_FIXED, ~uint64_t{0}));
  if (was_writable) {
    diff.last.push_back(request(SYS_mprotect, wanted.start, wanted.size(), wanted.prot));
  }
}

// Private memory that is one mapping away and several here: the kernel would not join them again,
// and calls that take one mapping only (mremap) would fail. What is in them comes with the image;
// only the stack has pages that stay, its arguments.
bool has_parts(const std::vector<Mapping>& now, const Mapping& wanted) {
  if (wanted.kind != MappingKind::kAnon || (wanted.flags & MAP_GROWSDOWN) != 0) {
    return false;
  }
  const auto first = memory::first_behind(now, wanted.start);
  return first != now.end() && std::next(first) != now.end() &&
         std::next(first)->start < wanted.end;
}

}  // namespace

AddressDiff diff_address_spaces(const std::vector<Mapping>& now,
                                const std::vector<Mapping>& wanted) {
  std::vector<uint64_t> borders;
  for (const auto* list : {&now, &wanted}) {
    for (const Mapping& mapping : *list) {
      borders.push_back(mapping.start);
      borders.push_back(mapping.end);
    }
  }
  std::sort(borders.begin(), borders.end());
  borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
  AddressDiff diff;
  for (size_t i = 0; i + 1 < borders.size(); ++i) {
    const uint64_t start = borders[i];
    const uint64_t end = borders[i + 1];
    const Mapping* const has = memory::mapping_at(now, start);
    const Mapping* const wants = memory::mapping_at(wanted, start);
    if ((has != nullptr && has->special()) || (wants != nullptr && wants->special())) {
      continue;
    }
    if (wants == nullptr) {
      if (has != nullptr) {
        diff.before.push_back(request(SYS_munmap, start, end - start));
      }
      continue;
    }
    if (start == wants->start && has_parts(now, *wants)) {
      map_new(*wants, diff);
      adjust(nullptr, *wants, diff);
      while (borders[i + 1] != wants->end) {
        ++i;
      }
      continue;
    }
    const Mapping part = cut(*wants, start, end);
    if (has != nullptr && same_backing(*has, *wants)) {
      adjust(has, part, diff);
    } else {
      map_new(part, diff);
      adjust(nullptr, part, diff);
    }
  }
  return diff;
}

}  // namespace tess::home
