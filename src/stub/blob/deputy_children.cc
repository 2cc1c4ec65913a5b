// CPU time and memory of children: home's kernel counts only what the deputies use. A process that
// ends tells the agent what its body has used; the agent writes it into the parent's control block
// before the parent can have reaped it, and the parent's deputy adds it to what the kernel says.
#include "stub/blob/deputy_call.h"

namespace tess::stub {
namespace {

inline constexpr int64_t kWorthTelling = 1'000'000;
inline constexpr uint64_t kMuchKb = 4096;    // memory worth telling of
inline constexpr size_t kMaxrssOffset = 32;  // in struct rusage

struct Timeval {
  int64_t seconds;
  int64_t microseconds;
};

void add_time(uint8_t* timeval, int64_t ns) {
  Timeval t;
  memcpy(&t, timeval, sizeof(t));
  int64_t sum = t.seconds * kSecondNs + t.microseconds * 1000 + ns;
  sum = sum > 0 ? sum : 0;
  t = {sum / kSecondNs, sum % kSecondNs / 1000};
  memcpy(timeval, &t, sizeof(t));
}

// `data` is a struct rusage.
void add_rusage(uint8_t* data, int64_t user_ns, int64_t system_ns, uint64_t maxrss_kb) {
  add_time(data, user_ns);
  add_time(data + 16, system_ns);
  uint64_t known;
  memcpy(&known, data + kMaxrssOffset, sizeof(known));
  known = known > maxrss_kb ? known : maxrss_kb;
  memcpy(data + kMaxrssOffset, &known, sizeof(known));
}

bool take_ended(Slot* slot, int32_t pid, bool consume, ControlBlock::EndedChild* ended) {
  ControlBlock& control = control_of(slot);
  for (ControlBlock::EndedChild& child : control.ended) {
    if (__atomic_load_n(&child.pid, __ATOMIC_ACQUIRE) == pid) {
      *ended = child;
      if (consume) {
        control.children_user_ns += child.user_ns;
        control.children_system_ns += child.system_ns;
        if (child.maxrss_kb > control.children_maxrss_kb) {
          control.children_maxrss_kb = child.maxrss_kb;
        }
        __atomic_store_n(&child.pid, 0, __ATOMIC_RELEASE);
      }
      return true;
    }
  }
  return false;
}

uint8_t* segment_of(Call& call, uint8_t arg, uint32_t size) {
  for (uint32_t i = 0; i < call.request.segment_count; ++i) {
    if (call.segments[i].arg == arg && call.segments[i].out_size >= size) {
      return call.data[i];
    }
  }
  return nullptr;
}

}  // namespace

// User and system time of the whole process as its body has told, children included, minus what
// home's kernel will count; and memory, as a parent is told the most that it or a child has had.
void tell_ending(Slot* slot, int64_t user_ns, int64_t system_ns, uint64_t maxrss_kb) {
  const ControlBlock& control = control_of(slot);
  if (priv(slot).vfork_child != 0) {
    return;
  }
  uint8_t usage[144] = {};
  sys(__NR_getrusage, 0, usage);
  Timeval own[2];
  memcpy(own, usage, sizeof(own));
  const int64_t user =
      user_ns - own[0].seconds * kSecondNs - own[0].microseconds * 1000 + control.children_user_ns;
  const int64_t system = system_ns - own[1].seconds * kSecondNs - own[1].microseconds * 1000 +
                         control.children_system_ns;
  uint64_t known_kb;
  memcpy(&known_kb, usage + kMaxrssOffset, sizeof(known_kb));
  const uint64_t most_kb =
      maxrss_kb > control.children_maxrss_kb ? maxrss_kb : control.children_maxrss_kb;
  if (user + system < kWorthTelling && most_kb < known_kb + kMuchKb) {
    return;
  }
  MailboxNote said{};
  said.kind = Note::kEnding;
  said.value = (uint32_t)most_kb;
  said.result = user;
  said.id = (uint64_t)system;
  ask_for_word(slot, said);
}

// After wait4 or waitid: `rusage` is argument 3 of the one, 4 of the other.
void correct_wait(Slot* slot, Call& call) {
  constexpr uint64_t kWnowait = 0x01000000;
  const Request& r = call.request;
  int32_t pid = 0;
  bool consume = true;
  uint8_t* usage = nullptr;
  if (r.op == __NR_wait4) {
    pid = (int32_t)call.result;
    usage = segment_of(call, 3, 144);
  } else {
    const uint8_t* info = segment_of(call, 2, 20);
    constexpr uint64_t kPPid = 1;
    if (call.result == 0 && info != nullptr) {
      memcpy(&pid, info + 16, 4);
    } else if (call.result == 0 && r.args[0] == kPPid) {
      pid = (int32_t)r.args[1];
    }
    consume = (r.args[3] & kWnowait) == 0;
    usage = segment_of(call, 4, 144);
  }
  ControlBlock::EndedChild ended;
  if (pid > 0 && take_ended(slot, pid, consume, &ended) && usage != nullptr) {
    add_rusage(usage, ended.user_ns, ended.system_ns, ended.maxrss_kb);
  }
}

// After getrusage(RUSAGE_CHILDREN) or times.
void correct_children(Slot* slot, Call& call) {
  constexpr int64_t kTickNs = 10'000'000;
  const ControlBlock& control = control_of(slot);
  if (call.request.op == __NR_getrusage) {
    uint8_t* usage = segment_of(call, 1, 144);
    if (call.result == 0 && (int)call.request.args[0] == -1 && usage != nullptr) {
      add_rusage(usage, control.children_user_ns, control.children_system_ns,
                 control.children_maxrss_kb);
    }
    return;
  }
  uint8_t* ticks = segment_of(call, 0, 32);
  if (ticks != nullptr) {
    int64_t value[4];
    memcpy(value, ticks, sizeof(value));
    value[2] += control.children_user_ns / kTickNs;
    value[3] += control.children_system_ns / kTickNs;
    memcpy(ticks, value, sizeof(value));
  }
}

}  // namespace tess::stub
