// Calls whose last argument is what a command argument says: fcntl, prctl, the *ctl family. What is
// listed nowhere here goes by value if the command takes none but values, and is refused as an
// unknown command otherwise.
#include "stub/marshal_internal.h"

namespace tess::stub::marshal {
namespace {

using namespace syscalls;

constexpr Arg fixed(Kind kind, uint32_t size) {
  return {.kind = kind, .size = size};
}
constexpr Arg kString = {.kind = Kind::kString};
constexpr Arg array(Kind kind, uint8_t count, uint32_t limit, uint8_t flags = 0) {
  return {.kind = kind, .ref = count, .flags = flags, .size = limit};
}

int64_t plan_fcntl(Builder& b, uint8_t i, int32_t command) {
  enum : int32_t {
    kGetLock = 5,
    kSetLock = 6,
    kSetLockWait = 7,
    kSetOwnerEx = 15,
    kGetOwnerEx = 16,
    kGetOwnerUids = 17,
    kOfdGetLock = 36,
    kOfdSetLock = 37,
    kOfdSetLockWait = 38,
    kGetRwHint = 1035,
    kSetRwHint = 1036,
    kGetFileRwHint = 1037,
    kSetFileRwHint = 1038,
  };
  switch (command) {
    case kGetLock:
    case kOfdGetLock:
      return plan_arg(b, i, fixed(Kind::kInOut, 32));
    case kSetLock:
    case kSetLockWait:
    case kOfdSetLock:
    case kOfdSetLockWait:
      return plan_arg(b, i, fixed(Kind::kIn, 32));
    case kSetOwnerEx:
    case kSetRwHint:
    case kSetFileRwHint:
      return plan_arg(b, i, fixed(Kind::kIn, 8));
    case kGetOwnerEx:
    case kGetOwnerUids:
    case kGetRwHint:
    case kGetFileRwHint:
      return plan_arg(b, i, fixed(Kind::kOut, 8));
    default:
      return 0;  // every other command takes an int
  }
}

int64_t plan_prctl(Builder& b, uint8_t i, int32_t option) {
  enum : int32_t {
    kGetDeathSignal = 2,
    kGetUnaligned = 5,
    kGetFpEmu = 9,
    kGetFpExc = 11,
    kSetName = 15,
    kGetName = 16,
    kGetEndian = 19,
    kSetSeccomp = 22,
    kGetTsc = 25,
    kSetMm = 35,
    kGetSubreaper = 37,
    kGetTidAddress = 40,
    kSchedCore = 62,
    kGetAuxv = 0x41555856,
    kSetVma = 0x53564d41,
  };
  switch (option) {
    case kGetDeathSignal:
    case kGetTsc:
    case kGetSubreaper:
      return plan_arg(b, i, fixed(Kind::kOut, 4));
    case kSetName:
      return plan_arg(b, i, kString);
    case kGetName:
      return plan_arg(b, i, fixed(Kind::kOut, 16));
    case kGetAuxv:
      return plan_arg(b, i, array(Kind::kArrayOut, 2, 4096, kTrimByResult));
    case kSetMm:
      return -EPERM;
    case kGetUnaligned:
    case kGetFpEmu:
    case kGetFpExc:
    case kGetEndian:
    case kSetSeccomp:     // the stub core's
    case kGetTidAddress:  // the stub core's
    case kSchedCore:
    case kSetVma:
      return -EINVAL;
    default:
      return 0;
  }
}

int64_t plan_ipc(Builder& b, uint8_t i, Kind kind, int32_t command) {
  enum : int32_t { kRemove = 0, kSet = 1, kStat = 2, kInfo = 3 };
  enum : int32_t {
    kSemGetAll = 13,
    kSemSetAll = 17,
    kSemStat = 18,
    kSemInfo = 19,
    kSemStatAny = 20,
    kMsgStat = 11,
    kMsgInfo = 12,
    kMsgStatAny = 13,
    kShmStat = 13,
    kShmInfo = 14,
    kShmStatAny = 15,
  };
  const bool sem = kind == Kind::kSemctl;
  const bool msg = kind == Kind::kMsgctl;
  const uint32_t status = sem ? 104 : msg ? 120 : 112;
  const int32_t last_stat = sem ? kSemStatAny : msg ? kMsgStatAny : kShmStatAny;
  const int32_t first_stat = sem ? kSemStat : msg ? kMsgStat : kShmStat;
  const int32_t more_info = sem ? kSemInfo : msg ? kMsgInfo : kShmInfo;
  if (command == kSet) {
    return plan_arg(b, i, fixed(Kind::kIn, status));
  }
  if (command == kStat || command == first_stat || command == last_stat) {
    return plan_arg(b, i, fixed(Kind::kOut, status));
  }
  if (command == more_info || command == kInfo) {
    const uint32_t shm_size = command == kInfo ? 72 : 48;
    return plan_arg(b, i, fixed(Kind::kOut, sem ? 40 : msg ? 32 : shm_size));
  }
  if (sem && (command == kSemGetAll || command == kSemSetAll)) {
    // The number of semaphores is known at home only: as much as SEMMSL could need, as far as it is
    // there.
    const uint64_t address = b.args[i];
    const uint64_t size = command == kSemSetAll ? readable_bytes_app(address, 64000)
                                                : writable_bytes_app(address, 64000);
    if (size < 2 && address != 0) {
      b.args[i] = kBadAddress;  // not even one value: no set is that small
    } else if (command == kSemSetAll) {
      plan_in(b, i, address, size);
    } else {
      plan_inout(b, i, address, size, size, kTrimSuccess);
    }
  }
  return 0;  // IPC_RMID, SETVAL, GETPID...: values
}

int64_t plan_keyctl(Builder& b, int32_t operation) {
  enum : int32_t {
    kJoinSession = 1,
    kUpdate = 2,
    kDescribe = 6,
    kSearch = 10,
    kRead = 11,
    kInstantiate = 12,
    kGetSecurity = 17,
    kRestrict = 29,
    kCapabilities = 31,
  };
  constexpr uint32_t kPayloadMax = 1 << 20;
  const Arg out = array(Kind::kArrayOut, 3, kPayloadMax, kTrimByResult);
  const Arg in = array(Kind::kArrayIn, 3, kPayloadMax);
  switch (operation) {
    case kJoinSession:
      return plan_arg(b, 1, kString);
    case kUpdate:
    case kInstantiate:
      return plan_arg(b, 2, in);
    case kDescribe:
    case kRead:
    case kGetSecurity:
      return plan_arg(b, 2, out);
    case kSearch:
    case kRestrict:
      plan_arg(b, 2, kString);
      return plan_arg(b, 3, kString);
    case kCapabilities:
      return plan_arg(b, 1, array(Kind::kArrayOut, 2, kPayloadMax, kTrimByResult));
    case 0:
    case 3:
    case 4:
    case 5:
    case 7:
    case 8:
    case 9:
    case 13:
    case 14:
    case 15:
    case 16:
    case 18:
    case 19:
    case 21:
    case 22:
    case 30:
      return 0;  // key serials, ids and flags only
    default:
      return -EOPNOTSUPP;  // nested vectors and public-key operations: as a kernel without them
  }
}

int64_t plan_quotactl(Builder& b, uint8_t i, uint32_t command) {
  const uint32_t subcommand = command >> 8;
  switch (subcommand) {
    case 0x800002:  // Q_QUOTAON
      return plan_arg(b, i, kString);
    case 0x800004:  // Q_GETFMT
      return plan_arg(b, i, fixed(Kind::kOut, 4));
    case 0x800005:  // Q_GETINFO
      return plan_arg(b, i, fixed(Kind::kOut, 24));
    case 0x800006:  // Q_SETINFO
      return plan_arg(b, i, fixed(Kind::kIn, 24));
    case 0x800007:  // Q_GETQUOTA
    case 0x800009:  // Q_GETNEXTQUOTA
      return plan_arg(b, i, fixed(Kind::kOut, 72));
    case 0x800008:  // Q_SETQUOTA
      return plan_arg(b, i, fixed(Kind::kIn, 72));
    case 0x5801:  // Q_XQUOTAON, Q_XQUOTAOFF, Q_XQUOTARM
    case 0x5802:
    case 0x5806:
      return plan_arg(b, i, fixed(Kind::kIn, 4));
    case 0x5803:  // Q_XGETQUOTA, Q_XGETNEXTQUOTA
    case 0x5809:
      return plan_arg(b, i, fixed(Kind::kOut, 112));
    case 0x5804:  // Q_XSETQLIM
      return plan_arg(b, i, fixed(Kind::kIn, 112));
    case 0x5805:  // Q_XGETQSTAT
      return plan_arg(b, i, fixed(Kind::kOut, 80));
    case 0x800001:  // Q_SYNC, Q_QUOTAOFF, Q_XQUOTASYNC
    case 0x800003:
    case 0x5807:
      b.args[i] = 0;
      return 0;
    default:
      return -EINVAL;
  }
}

int64_t plan_fsconfig(Builder& b, uint8_t i, uint32_t command) {
  enum : uint32_t { kSetString = 1, kSetBinary = 2, kSetPath = 3, kSetPathEmpty = 4 };
  switch (command) {
    case kSetString:
    case kSetPath:
    case kSetPathEmpty:
      return plan_arg(b, i, kString);
    case kSetBinary:
      return plan_arg(b, i, array(Kind::kArrayIn, 4, 1 << 20, kCountIsInt));
    default:
      b.args[i] = b.args[i] == 0 ? 0 : kBadAddress;  // must be NULL: EINVAL
      return 0;
  }
}

}  // namespace

int64_t plan_by_command(Builder& b, uint8_t i, const Arg& arg) {
  const auto command = static_cast<uint32_t>(b.args[arg.ref]);
  const auto signed_command = static_cast<int32_t>(command);
  constexpr int32_t kIpc64 = 0x100;
  constexpr uint32_t kRuleNetPort = 2;
  switch (arg.kind) {
    case Kind::kIoctl:
      return plan_ioctl(b, i, command);
    case Kind::kFcntl:
      return plan_fcntl(b, i, signed_command);
    case Kind::kPrctl:
      return plan_prctl(b, i, signed_command);
    case Kind::kSemctl:
    case Kind::kMsgctl:
    case Kind::kShmctl:
      return plan_ipc(b, i, arg.kind, signed_command & ~kIpc64);
    case Kind::kKeyctl:
      return plan_keyctl(b, signed_command);
    case Kind::kQuotactl:
      return plan_quotactl(b, i, command);
    case Kind::kFsconfig:
      return plan_fsconfig(b, i, command);
    case Kind::kLandlock:
      return plan_arg(b, i, fixed(Kind::kIn, command == kRuleNetPort ? 16 : 12));
    default:
      return -ENOSYS;
  }
}

}  // namespace tess::stub::marshal
