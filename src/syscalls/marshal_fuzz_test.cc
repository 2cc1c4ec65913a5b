// Random arguments for every call of the table: a plan stays within its bounds, sends what it
// announces, and lets no address of the application travel.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "stub/marshal.h"
#include "syscalls/kinds.h"
#include "syscalls/names.h"

namespace tess::syscalls {
namespace {

constexpr size_t kArena = 1 << 20;
constexpr size_t kGuard = 4096;

// Application memory full of small numbers and of pointers to itself, with a bad page behind it.
class Application {
 public:
  explicit Application(uint32_t seed) : random_(seed) {
    base_ = static_cast<char*>(::mmap(nullptr, kArena + kGuard, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::mprotect(base_ + kArena, kGuard, PROT_NONE);
  }
  ~Application() { ::munmap(base_, kArena + kGuard); }
  Application(const Application&) = delete;
  Application& operator=(const Application&) = delete;

  void scramble() {
    for (size_t at = 0; at < kArena; at += 8) {
      const uint64_t word = this->word();
      std::memcpy(base_ + at, &word, 8);
    }
  }
  uint64_t word() {
    switch (random_() % 8) {
      case 0:
        return 0;
      case 1:
      case 2:
        return random_() % 64;
      case 3:
        return random_() % 100000;
      case 4:
        return uint64_t{random_()} << 32 | random_();
      case 5:
        return address() + kArena - random_() % 64;  // near the bad page
      default:
        return address() + random_() % kArena;
    }
  }
  bool contains(uint64_t value) const { return value - address() < kArena + kGuard; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(base_); }

 private:
  std::mt19937 random_;
  char* base_;
};

struct Sent {
  uint64_t bytes = 0;
};

bool count(void* context, const void*, size_t n) {
  static_cast<Sent*>(context)->bytes += n;
  return true;
}
bool count_app(void* context, uint64_t, size_t n) {
  static_cast<Sent*>(context)->bytes += n;
  return true;
}

void check_bounds(const stub::Plan& plan) {
  const stub::Request& request = plan.request;
  ASSERT_LE(request.segment_count, stub::kPlanSegments);
  ASSERT_LE(request.fixup_count, stub::kPlanFixups);
  ASSERT_LE(plan.piece_count, stub::kPlanPieces);
  ASSERT_LE(plan.scratch_used, stub::kPlanScratch);
  uint64_t total = 0;
  for (uint32_t s = 0; s < request.segment_count; ++s) {
    const stub::Segment& segment = plan.segments[s];
    total += segment.in_size;
    ASSERT_LE(segment.in_size, stub::kTransferMax);
    ASSERT_LE(segment.out_size, stub::kTransferMax);
    if (segment.trim == stub::kTrimField) {
      ASSERT_LT(segment.trim_unit, request.segment_count);
      ASSERT_LE(segment.trim_offset + 4, plan.segments[segment.trim_unit].in_size);
    }
    const stub::Route& route = plan.routes[s];
    if (route.in == stub::Place::kScratch) {
      ASSERT_LE(route.in_address + segment.in_size, plan.scratch_used);
    }
    if (route.out == stub::Place::kScratch) {
      ASSERT_LE(route.out_address + segment.out_size, plan.scratch_used);
    }
  }
  ASSERT_LE(total, uint64_t{2} * stub::kTransferMax);
  for (uint32_t f = 0; f < request.fixup_count; ++f) {
    const stub::Fixup& fixup = plan.fixups[f];
    ASSERT_LT(fixup.holder, request.segment_count);
    ASSERT_LT(fixup.target, request.segment_count);
    ASSERT_LE(fixup.offset + 8, plan.segments[fixup.holder].in_size);
  }
}

bool by_command(Kind kind) {
  return kind >= Kind::kIoctl;
}

void plan_once(Application& application, const SyscallInfo& info, stub::Plan& plan) {
  uint64_t args[6];
  for (uint64_t& arg : args) {
    arg = application.word();
  }
  if (stub::plan_call(plan, info, args) != 0) {
    return;
  }
  check_bounds(plan);
  for (uint8_t i = 0; i < 6; ++i) {
    if ((info.pointer_mask >> i & 1) && !by_command(info.args[i].kind)) {
      EXPECT_FALSE(application.contains(plan.request.args[i])) << "argument " << int{i};
    }
  }
  Sent sent;
  ASSERT_TRUE(stub::write_request(plan, {&sent, count, count_app}));
  EXPECT_EQ(sent.bytes, sizeof(stub::Request) + plan.request.payload_size);
}

TEST(MarshalFuzz, every_call_with_random_arguments) {
  Application application(20240607);
  auto plan = std::make_unique<stub::Plan>();
  for (int round = 0; round < 12; ++round) {
    application.scramble();
    for (uint64_t number = 0; number < kTableSize; ++number) {
      const SyscallInfo* info = syscall_info(number);
      if (!info || info->pointer_mask == 0) {
        continue;
      }
      SCOPED_TRACE(syscall_name(number));
      for (int i = 0; i < 4; ++i) {
        plan_once(application, *info, *plan);
        if (testing::Test::HasFailure()) {
          return;
        }
      }
    }
  }
}

// The structured ones again: headers whose counts make sense more often.
TEST(MarshalFuzz, messages_and_vectors) {
  Application application(77);
  auto plan = std::make_unique<stub::Plan>();
  for (int round = 0; round < 300; ++round) {
    if (round % 20 == 0) {
      application.scramble();
    }
    for (const uint64_t number : {19, 20, 46, 47, 59, 72, 299, 307, 295, 16, 54, 55, 270}) {
      SCOPED_TRACE(syscall_name(number));
      plan_once(application, *syscall_info(number), *plan);
      if (testing::Test::HasFailure()) {
        return;
      }
    }
  }
}

}  // namespace
}  // namespace tess::syscalls
