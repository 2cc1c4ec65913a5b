// The words of table.def's last column, as constexpr values. Only table.cc and the documentation
// include this.
#pragma once

#include "syscalls/kinds.h"

namespace tess::syscalls::words {

struct Word {
  Arg arg;
  Timeout timeout = Timeout::kNone;
};

constexpr Word value{};
constexpr Word fd{{.kind = Kind::kFd}};
constexpr Word dirfd{{.kind = Kind::kDirfd}};
constexpr Word path{{.kind = Kind::kString}};  // any NUL-terminated string

constexpr Word in(uint32_t size) {
  return {{.kind = Kind::kIn, .size = size}};
}
constexpr Word out(uint32_t size) {
  return {{.kind = Kind::kOut, .size = size}};
}
constexpr Word inout(uint32_t size) {
  return {{.kind = Kind::kInOut, .size = size}};
}

// Data of a transfer: may be shortened. `count` is the index of the argument that counts.
constexpr Word write_from(uint8_t count) {
  return {{.kind = Kind::kBufferIn, .ref = count}};
}
constexpr Word read_into(uint8_t count) {
  return {{.kind = Kind::kBufferOut, .ref = count}};
}

constexpr Word counted(Kind kind, uint8_t count, uint8_t unit, uint32_t limit, uint8_t flags) {
  return {{.kind = kind, .ref = count, .unit = unit, .flags = flags, .size = limit}};
}
// More than `limit` bytes in: the kernel refuses such a count before it looks at the data.
constexpr Word array_in(uint8_t count, uint8_t unit, uint32_t limit, uint8_t flags = 0) {
  return counted(Kind::kArrayIn, count, unit, limit, flags);
}
// More than `limit` bytes out: never filled; the count is lowered.
constexpr Word array_out(uint8_t count, uint8_t unit, uint32_t limit, uint8_t flags = 0) {
  return counted(Kind::kArrayOut, count, unit, limit, flags);
}
constexpr Word array_inout(uint8_t count, uint8_t unit, uint32_t limit, uint8_t flags = 0) {
  return counted(Kind::kArrayInOut, count, unit, limit, flags);
}
constexpr Word epoll_events(uint8_t count) {
  return array_out(count, 12, 12 << 16, kTrimByResult | kCountIsInt | kSizeIsInt);
}
constexpr Word message_queue_in(uint8_t count) {
  return array_in(count, 1, 16 << 20, kPlusLong);
}
constexpr Word message_queue_out(uint8_t count) {
  return array_out(count, 1, 16 << 20, kTrimByResult | kPlusLong);
}

constexpr Word iovec_in(uint8_t count) {
  return {{.kind = Kind::kIovecIn, .ref = count}};
}
constexpr Word iovec_out(uint8_t count) {
  return {{.kind = Kind::kIovecOut, .ref = count}};
}
constexpr Word message_in(uint8_t flags) {
  return {{.kind = Kind::kMessageIn, .ref = flags}};
}
constexpr Word message_out(uint8_t flags) {
  return {{.kind = Kind::kMessageOut, .ref = flags}};
}
constexpr Word messages_in(uint8_t count) {
  return {{.kind = Kind::kMessagesIn, .ref = count}};
}
constexpr Word messages_out(uint8_t count) {
  return {{.kind = Kind::kMessagesOut, .ref = count}};
}

constexpr Word sockaddr_in(uint8_t length) {
  return array_in(length, 1, 128, kCountIsInt);
}
constexpr Word sockaddr_out(uint8_t length) {
  return {{.kind = Kind::kSockaddrOut, .ref = length}};
}
constexpr Word socklen{{.kind = Kind::kSocklen}};
constexpr Word option_in(uint8_t length) {
  return {{.kind = Kind::kOptionIn, .ref = length}};
}
constexpr Word option_out(uint8_t length) {
  return {{.kind = Kind::kOptionOut, .ref = length}};
}

constexpr Word poll_fds(uint8_t count) {
  return {{.kind = Kind::kPollFds, .ref = count}};
}
constexpr Word fd_set_of(uint8_t count) {
  return {{.kind = Kind::kFdSet, .ref = count}};
}
constexpr Word sigmask_pair{{.kind = Kind::kSigmaskPair}};
constexpr Word strings{{.kind = Kind::kStrings}};
constexpr Word message_queue_event{{.kind = Kind::kMessageQueueEvent}};
constexpr Word file_handle{{.kind = Kind::kFileHandle}};
constexpr Word mount_id{{.kind = Kind::kMountId}};
constexpr Word capabilities{{.kind = Kind::kCapabilities}};
constexpr Word sized_struct{{.kind = Kind::kSizedStruct}};
constexpr Word by_command(Kind kind, uint8_t command) {
  return {{.kind = kind, .ref = command}};
}

constexpr Word timeout_ms{{}, Timeout::kMilliseconds};
constexpr Word timeout_timespec_in{{.kind = Kind::kIn, .size = 16}, Timeout::kTimespec};
// The kernel writes back what is left, if it can.
constexpr Word timeout_timespec{{.kind = Kind::kTimeLeft, .size = 16}, Timeout::kTimespec};
// Only written when the call is interrupted: what was left to sleep.
constexpr Word time_left{{.kind = Kind::kTimeLeft, .size = 16}};
constexpr Word timeout_timeval{{.kind = Kind::kTimeLeft, .size = 16}, Timeout::kTimeval};

}  // namespace tess::syscalls::words
