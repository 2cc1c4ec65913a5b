#include "syscalls/loopback.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>

#include "base/check.h"
#include "stub/marshal.h"
#include "syscalls/kinds.h"

namespace tess::stub {

// What the core provides, for memory of this process: the kernel's own check of each access.
namespace {

constexpr uint64_t kPage = 4096;

size_t transfer(void* ours, uint64_t app, size_t n, bool writing) {
  size_t done = 0;
  while (done < n) {
    const iovec local = {static_cast<char*>(ours) + done, n - done};
    const iovec remote = {reinterpret_cast<void*>(app + done), n - done};
    const ssize_t moved = writing ? ::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0)
                                  : ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0);
    if (moved <= 0) {
      break;
    }
    done += static_cast<size_t>(moved);
  }
  return done;
}

uint64_t accessible_bytes(uint64_t from, uint64_t n, bool writing) {
  uint64_t done = 0;
  while (done < n) {
    char byte;
    if (transfer(&byte, from + done, 1, false) != 1 ||
        (writing && transfer(&byte, from + done, 1, true) != 1)) {
      return done;
    }
    done = std::min(n, (from + done + kPage) / kPage * kPage - from);
  }
  return n;
}

}  // namespace

bool copy_from_app(void* to, uint64_t from, size_t n) {
  return transfer(to, from, n, false) == n;
}

bool copy_to_app(uint64_t to, const void* from, size_t n) {
  return transfer(const_cast<void*>(from), to, n, true) == n;
}

int64_t string_length_app(uint64_t from, size_t max) {
  char page[kPage];
  for (size_t length = 0; length < max;) {
    const size_t n = std::min<size_t>(max - length, kPage - (from + length) % kPage);
    if (!copy_from_app(page, from + length, n)) {
      return -EFAULT;
    }
    if (const void* nul = std::memchr(page, 0, n)) {
      return static_cast<int64_t>(length) + (static_cast<const char*>(nul) - page);
    }
    length += n;
  }
  return static_cast<int64_t>(max);
}

uint64_t readable_bytes_app(uint64_t from, uint64_t n) {
  return accessible_bytes(from, n, false);
}
uint64_t writable_bytes_app(uint64_t from, uint64_t n) {
  return accessible_bytes(from, n, true);
}

}  // namespace tess::stub

namespace tess::syscalls {
namespace {

using stub::Fixup;
using stub::Plan;
using stub::Reply;
using stub::Request;
using stub::Segment;
using Bytes = std::vector<std::byte>;

constexpr size_t padded(size_t n) {
  return (n + 7) / 8 * 8;
}

bool append(void* context, const void* from, size_t n) {
  auto& bytes = *static_cast<Bytes*>(context);
  const auto* data = static_cast<const std::byte*>(from);
  bytes.insert(bytes.end(), data, data + n);
  return true;
}

bool append_app(void* context, uint64_t from, size_t n) {
  auto& bytes = *static_cast<Bytes*>(context);
  const size_t old = bytes.size();
  bytes.resize(old + n);  // zeros where the copy ends early
  stub::copy_from_app(bytes.data() + old, from, n);
  return true;
}

struct Stream {
  std::span<const std::byte> rest;
};

bool take(void* context, void* to, size_t n) {
  auto& stream = *static_cast<Stream*>(context);
  if (stream.rest.size() < n) {
    return false;
  }
  if (n != 0) {
    std::memcpy(to, stream.rest.data(), n);
  }
  stream.rest = stream.rest.subspan(n);
  return true;
}

bool take_app(void* context, uint64_t to, size_t n, size_t* copied) {
  auto& stream = *static_cast<Stream*>(context);
  if (stream.rest.size() < n) {
    return false;
  }
  *copied = stub::writable_bytes_app(to, n);
  TESS_CHECK(stub::copy_to_app(to, stream.rest.data(), *copied), "a probed range fails");
  stream.rest = stream.rest.subspan(n);
  return true;
}

// The deputy: everything it knows comes from the request's bytes, nothing of which it believes.
class Deputy {
 public:
  explicit Deputy(std::span<const std::byte> request) : stream_{request} {}

  Bytes execute() {
    get(&request_, sizeof(request_));
    TESS_CHECK(stream_.rest.size() == request_.payload_size, "payload {} announced, {} there",
               request_.payload_size, stream_.rest.size());
    TESS_CHECK(request_.segment_count <= stub::kSegmentMax, "too many segments");
    segments_.resize(request_.segment_count);
    fixups_.resize(request_.fixup_count);
    get(segments_.data(), segments_.size() * sizeof(Segment));
    get(fixups_.data(), fixups_.size() * sizeof(Fixup));
    for (const Segment& segment : segments_) {
      receive(segment);
    }
    for (const Fixup& fixup : fixups_) {
      apply(fixup);
    }
    Args args;
    std::copy(std::begin(request_.args), std::end(request_.args), args.begin());
    for (size_t s = 0; s < segments_.size(); ++s) {
      if (segments_[s].arg != stub::kNoArg) {
        TESS_CHECK(segments_[s].arg < 6, "argument {}", segments_[s].arg);
        args[segments_[s].arg] = reinterpret_cast<uint64_t>(buffers_[s].get());
      }
    }
    return reply(direct_call(request_.op, args));
  }

 private:
  void get(void* to, size_t n) { TESS_CHECK(take(&stream_, to, n), "request too short"); }

  void receive(const Segment& segment) {
    const size_t size = std::max(segment.in_size, segment.out_size);
    auto buffer = std::make_unique<std::byte[]>(size);  // its own block: a sanitizer sees overruns
    std::memset(buffer.get(), 0xa5, size);
    get(buffer.get(), segment.in_size);
    uint64_t padding = 0;
    get(&padding, padded(segment.in_size) - segment.in_size);
    TESS_CHECK(padding == 0, "padding");
    buffers_.push_back(std::move(buffer));
  }

  void put_pointer(uint16_t holder, uint64_t offset, const std::byte* target) {
    TESS_CHECK(holder < segments_.size() && offset + 8 <= segments_[holder].in_size,
               "fixup at {} of segment {}", offset, holder);
    std::memcpy(buffers_[holder].get() + offset, &target, 8);
  }

  void apply(const Fixup& fixup) {
    TESS_CHECK(fixup.target < segments_.size(), "fixup to segment {}", fixup.target);
    const std::byte* target = buffers_[fixup.target].get();
    if (fixup.kind == stub::kFixupPointer) {
      put_pointer(fixup.holder, fixup.offset, target + fixup.target_offset);
      return;
    }
    const size_t size = segments_[fixup.target].in_size;
    uint64_t offset = fixup.offset;
    for (size_t at = fixup.target_offset; at < size; offset += 8) {
      put_pointer(fixup.holder, offset, target + at);
      while (at < size && target[at] != std::byte{0}) {
        ++at;
      }
      ++at;
    }
  }

  size_t returned_size(const Segment& segment, int64_t result) const {
    switch (segment.trim) {
      case stub::kTrimResult:
        return result < 0 ? 0
                          : std::min<uint64_t>(segment.out_size,
                                               static_cast<uint64_t>(result) * segment.trim_unit +
                                                   segment.trim_offset);
      case stub::kTrimSuccess:
        return result < 0 ? 0 : segment.out_size;
      case stub::kTrimField: {
        TESS_CHECK(segment.trim_unit < segments_.size(), "trim by {}", segment.trim_unit);
        const Segment& holder = segments_[segment.trim_unit];
        TESS_CHECK(segment.trim_offset + 4 <= std::max(holder.in_size, holder.out_size),
                   "trim at {}", segment.trim_offset);
        uint32_t length;
        std::memcpy(&length, buffers_[segment.trim_unit].get() + segment.trim_offset, 4);
        return result < 0 ? 0 : std::min(segment.out_size, length);
      }
      default:
        return segment.out_size;
    }
  }

  Bytes reply(int64_t result) {
    Bytes data;
    for (size_t s = 0; s < segments_.size(); ++s) {
      if (segments_[s].out_size != 0) {
        const auto size = static_cast<uint32_t>(returned_size(segments_[s], result));
        const uint32_t header[2] = {size, 0};
        append(&data, header, sizeof(header));
        append(&data, buffers_[s].get(), size);
        data.resize(padded(data.size()));
      }
    }
    Reply head{};
    head.result = result;
    head.payload_size = data.size();
    Bytes bytes;
    append(&bytes, &head, sizeof(head));
    append(&bytes, data.data(), data.size());
    return bytes;
  }

  Stream stream_;
  Request request_{};
  std::vector<Segment> segments_;
  std::vector<Fixup> fixups_;
  std::vector<std::unique_ptr<std::byte[]>> buffers_;
};

}  // namespace

int64_t direct_call(uint64_t number, const Args& args) {
  const long result =
      ::syscall(static_cast<long>(number), args[0], args[1], args[2], args[3], args[4], args[5]);
  return result == -1 ? -errno : result;
}

Carried carry(uint64_t number, const Args& args) {
  Carried carried;
  const SyscallInfo* info = syscall_info(number);
  TESS_CHECK(info, "system call {} is not in the table", number);
  auto plan = std::make_unique<Plan>();
  std::memset(static_cast<void*>(plan.get()), 0x5a,
              sizeof(Plan));  // plan_call needs no cleared memory
  carried.result = stub::plan_call(*plan, *info, args.data());
  if (carried.result <= stub::kPlanAtHome) {
    carried.result -= stub::kPlanAtHome;  // there is no other place to go to
  }
  if (carried.result != 0) {
    return carried;
  }
  TESS_CHECK(plan->request.segment_count <= stub::kPlanSegments &&
                 plan->request.fixup_count <= stub::kPlanFixups &&
                 plan->piece_count <= stub::kPlanPieces && plan->scratch_used <= stub::kPlanScratch,
             "the plan overflows");
  Bytes request;
  TESS_CHECK(stub::write_request(*plan, {&request, append, append_app}), "request not written");
  const Bytes reply = Deputy(request).execute();
  Reply head;
  Stream stream{reply};
  TESS_CHECK(take(&stream, &head, sizeof(head)), "reply too short");
  carried.result = head.result;
  TESS_CHECK(stub::finish_call(*plan, &carried.result, {&stream, take, take_app}),
             "the reply does not match the plan");
  TESS_CHECK(stream.rest.empty(), "{} bytes of the reply left", stream.rest.size());
  carried.request_bytes = request.size();
  carried.reply_bytes = reply.size();
  carried.asked_home = true;
  return carried;
}

}  // namespace tess::syscalls
