// ioctl: what the third argument is, by number. First the numbers known by name (those older than
// the encoding, and those that lie in it), then the size and direction encoded in the number. A
// number that says nothing, with an argument that could be an address, is homeward: guessing
// could write to the wrong memory at home.
#include "stub/marshal_internal.h"

namespace tess::stub::marshal {
namespace {

enum Way : uint8_t {
  kPass,
  kRead,
  kWrite,
  kBoth,
  kRefuse
};  // kRead: the kernel writes for the caller

struct Known {
  uint32_t first;
  uint32_t last;
  uint16_t size;
  Way way;
};

// Ranges, ascending for the reader only.
constexpr Known kKnown[] = {
    {0x0001, 0x0001, 4, kBoth},            // FIBMAP
    {0x0002, 0x0002, 4, kRead},            // FIGETBSZ
    {0x0301, 0x0301, 16, kRead},           // HDIO_GETGEO
    {0x125d, 0x125d, 4, kWrite},           // BLKROSET
    {0x125e, 0x125e, 4, kRead},            // BLKROGET
    {0x125f, 0x125f, 0, kPass},            // BLKRRPART
    {0x1260, 0x1260, 8, kRead},            // BLKGETSIZE
    {0x1261, 0x1262, 0, kPass},            // BLKFLSBUF, BLKRASET
    {0x1263, 0x1263, 8, kRead},            // BLKRAGET
    {0x1264, 0x1264, 0, kPass},            // BLKFRASET
    {0x1265, 0x1265, 8, kRead},            // BLKFRAGET
    {0x1267, 0x1267, 2, kRead},            // BLKSECTGET
    {0x1268, 0x1268, 4, kRead},            // BLKSSZGET
    {0x1277, 0x1277, 16, kWrite},          // BLKDISCARD
    {0x1278, 0x127c, 4, kRead},            // BLKIOMIN ... BLKDISCARDZEROES
    {0x127d, 0x127d, 16, kWrite},          // BLKSECDISCARD
    {0x127e, 0x127e, 2, kRead},            // BLKROTATIONAL
    {0x127f, 0x127f, 16, kWrite},          // BLKZEROOUT
    {0x2285, 0x2285, 0, kRefuse},          // SG_IO: nested buffers
    {0x4b2f, 0x4b30, 0, kPass},            // KIOCSOUND, KDMKTONE
    {0x4b31, 0x4b31, 1, kRead},            // KDGETLED
    {0x4b32, 0x4b32, 0, kPass},            // KDSETLED
    {0x4b33, 0x4b33, 1, kRead},            // KDGKBTYPE
    {0x4b3a, 0x4b3a, 0, kPass},            // KDSETMODE
    {0x4b3b, 0x4b3b, 4, kRead},            // KDGETMODE
    {0x4b44, 0x4b44, 4, kRead},            // KDGKBMODE
    {0x4b45, 0x4b45, 0, kPass},            // KDSKBMODE
    {0x4b46, 0x4b46, 4, kBoth},            // KDGKBENT
    {0x4b64, 0x4b64, 1, kRead},            // KDGKBLED
    {0x4b65, 0x4b65, 0, kPass},            // KDSKBLED
    {0x4c00, 0x4c01, 0, kPass},            // LOOP_SET_FD, LOOP_CLR_FD
    {0x4c02, 0x4c02, 168, kWrite},         // LOOP_SET_STATUS
    {0x4c03, 0x4c03, 168, kRead},          // LOOP_GET_STATUS
    {0x4c04, 0x4c04, 232, kWrite},         // LOOP_SET_STATUS64
    {0x4c05, 0x4c05, 232, kRead},          // LOOP_GET_STATUS64
    {0x4c06, 0x4c09, 0, kPass},            // LOOP_CHANGE_FD ... LOOP_SET_BLOCK_SIZE
    {0x4c0a, 0x4c0a, 304, kWrite},         // LOOP_CONFIGURE
    {0x4c80, 0x4c82, 0, kPass},            // LOOP_CTL_*
    {0x5401, 0x5401, 36, kRead},           // TCGETS
    {0x5402, 0x5404, 36, kWrite},          // TCSETS, TCSETSW, TCSETSF
    {0x5405, 0x5405, 18, kRead},           // TCGETA
    {0x5406, 0x5408, 18, kWrite},          // TCSETA, TCSETAW, TCSETAF
    {0x5409, 0x540e, 0, kPass},            // TCSBRK, TCXONC, TCFLSH, TIOCEXCL, TIOCNXCL, TIOCSCTTY
    {0x540f, 0x540f, 4, kRead},            // TIOCGPGRP
    {0x5410, 0x5410, 4, kWrite},           // TIOCSPGRP
    {0x5411, 0x5411, 4, kRead},            // TIOCOUTQ
    {0x5412, 0x5412, 1, kWrite},           // TIOCSTI
    {0x5413, 0x5413, 8, kRead},            // TIOCGWINSZ
    {0x5414, 0x5414, 8, kWrite},           // TIOCSWINSZ
    {0x5415, 0x5415, 4, kRead},            // TIOCMGET
    {0x5416, 0x5418, 4, kWrite},           // TIOCMBIS, TIOCMBIC, TIOCMSET
    {0x5419, 0x5419, 4, kRead},            // TIOCGSOFTCAR
    {0x541a, 0x541a, 4, kWrite},           // TIOCSSOFTCAR
    {0x541b, 0x541b, 4, kRead},            // FIONREAD
    {0x541c, 0x541c, 0, kRefuse},          // TIOCLINUX: by subcode, console selection
    {0x541d, 0x541d, 0, kPass},            // TIOCCONS
    {0x541e, 0x541e, 72, kRead},           // TIOCGSERIAL
    {0x541f, 0x541f, 72, kWrite},          // TIOCSSERIAL
    {0x5420, 0x5421, 4, kWrite},           // TIOCPKT, FIONBIO
    {0x5422, 0x5422, 0, kPass},            // TIOCNOTTY
    {0x5423, 0x5423, 4, kWrite},           // TIOCSETD
    {0x5424, 0x5424, 4, kRead},            // TIOCGETD
    {0x5425, 0x5428, 0, kPass},            // TCSBRKP, TIOCSBRK, TIOCCBRK
    {0x5429, 0x5429, 4, kRead},            // TIOCGSID
    {0x542e, 0x542e, 32, kBoth},           // TIOCGRS485
    {0x542f, 0x542f, 32, kBoth},           // TIOCSRS485
    {0x40045436, 0x40045436, 0, kPass},    // TIOCSIG: says pointer, is a value
    {0x5437, 0x5437, 0, kPass},            // TIOCVHANGUP
    {0x5441, 0x5441, 0, kPass},            // TIOCGPTPEER
    {0x5450, 0x5451, 0, kPass},            // FIONCLEX, FIOCLEX
    {0x5452, 0x5452, 4, kWrite},           // FIOASYNC
    {0x5459, 0x5459, 4, kRead},            // TIOCSERGETLSR
    {0x545c, 0x545c, 0, kPass},            // TIOCMIWAIT
    {0x545d, 0x545d, 80, kRead},           // TIOCGICOUNT
    {0x5460, 0x5460, 8, kRead},            // FIOQSIZE
    {0x5600, 0x5600, 4, kRead},            // VT_OPENQRY
    {0x5601, 0x5601, 8, kRead},            // VT_GETMODE
    {0x5602, 0x5602, 8, kWrite},           // VT_SETMODE
    {0x5603, 0x5603, 6, kRead},            // VT_GETSTATE
    {0x5605, 0x5608, 0, kPass},            // VT_RELDISP, VT_ACTIVATE, VT_WAITACTIVE, VT_DISALLOCATE
    {0x8901, 0x8902, 4, kWrite},           // FIOSETOWN, SIOCSPGRP
    {0x8903, 0x8905, 4, kRead},            // FIOGETOWN, SIOCGPGRP, SIOCATMARK
    {0x8906, 0x8907, 16, kRead},           // SIOCGSTAMP, SIOCGSTAMPNS
    {0x8910, 0x8911, 40, kBoth},           // SIOCGIFNAME, SIOCSIFLINK
    {0x8913, 0x8934, 40, kBoth},           // SIOCGIFFLAGS ... SIOCDELMULTI, with one struct ifreq
    {0x8935, 0x8937, 40, kBoth},           // SIOCGIFINDEX ... SIOCGIFPFLAGS
    {0x8938, 0x8939, 40, kBoth},           // SIOCDIFADDR, SIOCSIFHWBROADCAST
    {0x8942, 0x8945, 40, kBoth},           // SIOCGIFTXQLEN ... SIOCGIFVLAN's neighbours
    {0x894b, 0x894b, 4, kRead},            // SIOCOUTQNSD
    {0x8953, 0x8955, 68, kBoth},           // SIOCDARP, SIOCGARP, SIOCSARP
    {0x8970, 0x8971, 40, kBoth},           // SIOCGIFMAP, SIOCSIFMAP
    {0x89a0, 0x89a1, 16, kWrite},          // SIOCBRADDBR, SIOCBRDELBR
    {0x89a2, 0x89a3, 40, kBoth},           // SIOCBRADDIF, SIOCBRDELIF
    {0xb701, 0xb703, 0, kPass},            // NS_GET_USERNS, NS_GET_PARENT, NS_GET_NSTYPE
    {0xb704, 0xb704, 4, kRead},            // NS_GET_OWNER_UID
    {0xff01, 0xff0a, 0, kPass},            // PIDFD_GET_*_NAMESPACE
    {0x400454c8, 0x400454c9, 0, kPass},    // TUNSETNOCSUM, TUNSETDEBUG
    {0x400454ca, 0x400454ca, 40, kBoth},   // TUNSETIFF: says int, is a struct ifreq
    {0x400454cb, 0x400454ce, 0, kPass},    // TUNSETPERSIST, OWNER, LINK, GROUP
    {0x400454d0, 0x400454d0, 0, kPass},    // TUNSETOFFLOAD
    {0x800454d2, 0x800454d2, 40, kRead},   // TUNGETIFF
    {0x400454d1, 0x400454d1, 0, kRefuse},  // TUNSETTXFILTER: open-ended
    {0x401054d5, 0x401054d6, 0, kRefuse},  // TUNATTACHFILTER, TUNDETACHFILTER: nested
    {0x40044590, 0x40044591, 0, kPass},    // EVIOCGRAB, EVIOCREVOKE
    {0x40044900, 0x40044900, 0, kPass},    // INOTIFY_IOC_SETNEXTWD
    {0x4008700c, 0x4008700c, 0, kPass},    // RTC_IRQP_SET
    {0x4008700e, 0x4008700e, 0, kPass},    // RTC_EPOCH_SET
    {0x40049409, 0x40049409, 0, kPass},    // FICLONE: a descriptor
    {0x80086601, 0x80086601, 4, kRead},    // FS_IOC_GETFLAGS: says long, is an int
    {0x40086602, 0x40086602, 4, kWrite},   // FS_IOC_SETFLAGS
    {0x80087601, 0x80087601, 4, kRead},    // FS_IOC_GETVERSION
    {0x40087602, 0x40087602, 4, kWrite},   // FS_IOC_SETVERSION
    {0x80081270, 0x80081270, 4, kRead},    // BLKBSZGET: says size_t, is an int
    {0x40081271, 0x40081271, 4, kWrite},   // BLKBSZSET
};

// Drivers whose structs hold pointers to more, or that work on mapped memory.
constexpr bool has_nested_pointers(uint32_t type) {
  return type == 'A' || type == 'U' || type == 'd' || type == 'N' || type == 'V' ||
         type == 0xaa /* userfaultfd */ || type == 0xae /* KVM */ || type == 0xb3 /* MMC */ ||
         type == 0x97 /* CephFS, its encryption */;
}

// struct ifreq whose ifr_data points to an ethtool command of this size; 0: not carried.
uint32_t ethtool_size(uint32_t command) {
  switch (command) {
    case 0x01:  // GSET
      return 44;
    case 0x03:  // GDRVINFO
      return 196;
    case 0x0e:  // GCOALESCE
      return 92;
    case 0x10:  // GRINGPARAM
      return 36;
    case 0x07:
    case 0x0a:
    case 0x14:
    case 0x16:
    case 0x18:
    case 0x1e:
    case 0x21:
    case 0x23:
    case 0x25:
    case 0x2b:  // struct ethtool_value
      return 8;
    default:
      return 0;
  }
}

int64_t plan_ethtool(Builder& b, uint8_t i) {
  const int32_t holder = plan_inout(b, i, b.args[i], 40, 16, kTrimSuccess);
  if (holder < 0) {
    return 0;
  }
  auto* data =
      in_scratch<uint64_t>(b, static_cast<uint32_t>(b.plan.routes[holder].in_address) + 16);
  uint32_t command = 0;
  const uint64_t address = *data;
  *data = kBadAddress;
  if (!copy_from_app(&command, address, 4)) {
    return 0;
  }
  const uint32_t size = ethtool_size(command);
  if (size == 0) {
    return -EOPNOTSUPP;
  }
  const int32_t target = plan_inout(b, kNoArg, address, size, size, kTrimSuccess);
  if (target >= 0) {
    add_fixup(b, static_cast<uint32_t>(holder), 16, static_cast<uint32_t>(target));
  }
  return 0;
}

int64_t plan_ifconf(Builder& b, uint8_t i) {  // struct ifconf: int bytes, pointer to them
  const int32_t holder = plan_inout(b, i, b.args[i], 16, 4, kTrimSuccess);
  if (holder < 0) {
    return 0;
  }
  const auto offset = static_cast<uint32_t>(b.plan.routes[holder].in_address);
  auto* length = in_scratch<int32_t>(b, offset);
  auto* buffer = in_scratch<uint64_t>(b, offset + 8);
  if (*buffer == 0 || *length < 0) {
    return 0;
  }
  constexpr int32_t kIfconfMax = 1 << 20;
  *length = *length > kIfconfMax ? kIfconfMax : *length;
  const int32_t target = plan_out(b, kNoArg, *buffer, static_cast<uint32_t>(*length), kTrimField);
  *buffer = kBadAddress;
  if (target >= 0) {
    b.plan.segments[target].trim_unit = static_cast<uint16_t>(holder);
    add_fixup(b, static_cast<uint32_t>(holder), 8, static_cast<uint32_t>(target));
  }
  return 0;
}

int64_t plan_route_entry(Builder& b, uint8_t i) {  // struct rtentry: rt_dev at 88
  const int32_t holder = plan_in(b, i, b.args[i], 120);
  if (holder < 0) {
    return 0;
  }
  auto* device =
      in_scratch<uint64_t>(b, static_cast<uint32_t>(b.plan.routes[holder].in_address) + 88);
  const int32_t target = plan_string(b, kNoArg, *device);
  *device = *device == 0 ? 0 : kBadAddress;
  if (target >= 0) {
    add_fixup(b, static_cast<uint32_t>(holder), 88, static_cast<uint32_t>(target));
  }
  return 0;
}

// A header that counts what follows it.
int64_t plan_counted(Builder& b, uint8_t i, uint32_t header, uint32_t count_at, uint32_t count_size,
                     uint32_t unit) {
  uint32_t count = 0;
  if (!copy_from_app(&count, b.args[i] + count_at, count_size)) {
    b.args[i] = b.args[i] == 0 ? 0 : kBadAddress;
    return 0;
  }
  constexpr uint32_t kCountedMax = 4 << 20;
  if (count > kCountedMax / unit) {
    return -EINVAL;
  }
  const uint64_t size = header + uint64_t{count} * unit;
  plan_inout(b, i, b.args[i], size, size, kTrimSuccess);
  return 0;
}

int64_t plan_sized(Builder& b, uint8_t i, Way way, uint32_t size) {
  switch (way) {
    case kRead:
      // The old content goes along: a driver may fill in less than the number says.
      plan_inout(b, i, b.args[i], size, size, kTrimSuccess);
      return 0;
    case kWrite:
      plan_in(b, i, b.args[i], size);
      return 0;
    case kBoth:
      plan_inout(b, i, b.args[i], size, size, kTrimNone);
      return 0;
    case kRefuse:
      return only_at_home(ENOTTY);
    default:
      return 0;
  }
}

}  // namespace

int64_t plan_ioctl(Builder& b, uint8_t i, uint32_t command) {
  enum : uint32_t {
    kIfconf = 0x8912,
    kEthtool = 0x8946,
    kAddRoute = 0x890b,
    kDeleteRoute = 0x890c,
    kFiemap = 0xc020660b,
    kDedupe = 0xc0189436,
  };
  constexpr uint32_t kDeviceMapper = 0xfd;
  switch (command) {
    case kIfconf:
      return plan_ifconf(b, i);
    case kEthtool:
      return plan_ethtool(b, i);
    case kAddRoute:
    case kDeleteRoute:
      return plan_route_entry(b, i);
    case kFiemap:
      return plan_counted(b, i, 32, 24, 4, 56);
    case kDedupe:
      return plan_counted(b, i, 24, 16, 2, 32);
    default:
      break;
  }
  for (const Known& known : kKnown) {
    if (command >= known.first && command <= known.last) {
      return plan_sized(b, i, known.way, known.size);
    }
  }
  const uint32_t type = command >> 8 & 0xff;
  const uint32_t size = command >> 16 & 0x3fff;
  const uint32_t direction = command >> 30;  // 1: the kernel reads, 2: it writes
  if (type == kDeviceMapper) {
    return plan_counted(b, i, 0, 12, 4, 1);
  }
  if (b.args[i] == 0) {
    return 0;
  }
  if (size == 0 || direction == 0 || has_nested_pointers(type)) {
    return only_at_home(ENOTTY);
  }
  return plan_sized(b, i, direction == 3 ? kBoth : direction == 2 ? kRead : kWrite, size);
}

}  // namespace tess::stub::marshal
