// What home asks of a guest.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>

#include "base/log.h"
#include "host/capture.h"
#include "host/fault_points.h"
#include "host/guest.h"
#include "host/restore.h"
#include "host/sandbox_init.h"
#include "memory/address_space.h"
#include "memory/image_stream.h"
#include "memory/transfer_note.h"
#include "sys/clock.h"
#include "sys/unix_socket.h"
#include "wire/agent.pb.h"
#include "wire/agent_process.h"
#include "wire/frame.h"
#include "wire/version.h"

namespace tess::host {
namespace {

constexpr std::chrono::seconds kChannelTimeout{10};
constexpr std::chrono::seconds kFreezeTimeout{20};
constexpr wire::Timeout kConnectTimeout{5'000};

// The stub reads and writes its channel with blocking calls.
Result<> make_blocking(const sys::Fd& fd) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return fail_errno("make a channel blocking");
  }
  return {};
}

uint64_t inode_of(const sys::Fd& fd) {
  struct stat st {};
  ::fstat(fd.get(), &st);
  return st.st_ino;
}

}  // namespace

void Guest::handle(const wire::LinkMessage& message) {
  Result<> done;
  switch (message.body_case()) {
    case wire::LinkMessage::kAssign:
      done = assign(message);
      break;
    case wire::LinkMessage::kCommit:
      done = commit(message);
      break;
    case wire::LinkMessage::kFreeze:
      done = freeze(message);
      break;
    case wire::LinkMessage::kSendImage:
      done = send_image(message);
      break;
    case wire::LinkMessage::kThaw:
      done = thaw(message);
      break;
    case wire::LinkMessage::kSignal:
      done = signal(message);
      break;
    case wire::LinkMessage::kDiscard:
      discard(message);
      break;
    default:
      done = fail(ErrorKind::kBadInput, "a body cannot do this");
  }
  if (!done) {
    services_.link.send_failed(message.operation(), pid(), done.error().message());
  }
}

Result<> Guest::assign(const wire::LinkMessage& message) {
  const wire::AssignChannels& wanted = message.assign();
  if (state_ != State::kParked || wanted.tid_size() != wanted.channel_size()) {
    return fail(ErrorKind::kBadInput, "channels are assigned to a body that is not ready");
  }
  TESS_TRY(services_.faults.at(kBeforeAssign));
  for (int i = 0; i < wanted.tid_size(); ++i) {
    TESS_TRY(place_channel(wanted.tid(i), wanted.channel(i)));
  }
  return {};
}

Result<> Guest::place_channel(int32_t tid, uint64_t channel_id) {
  TESS_TRY_ASSIGN(const auto slots, session_->slots());
  const auto slot = std::find_if(slots.begin(), slots.end(), [tid](const auto& candidate) {
    return candidate.tid == tid && candidate.state == stub::kSlotParked;
  });
  if (slot == slots.end()) {
    return fail(ErrorKind::kBadInput, "the body has no thread {}", tid);
  }
  TESS_TRY_ASSIGN(const Channel channel, services_.channels.take(channel_id, kChannelTimeout));
  TESS_TRY(make_blocking(channel.socket));
  const int ours[] = {channel.socket.get()};
  const int32_t target[] = {kBodyFdBase + 1 + static_cast<int32_t>(slot->index)};
  TESS_TRY(session_->place_fds(ours, target));
  const uint64_t address = stub::slot_address(session_->region_base(), slot->index);
  TESS_TRY(session_->memory().put(address + offsetof(stub::Slot, channel_fd), target[0]));
  return session_->memory().put(address + offsetof(stub::Slot, keys), channel.keys);
}

Result<> Guest::commit(const wire::LinkMessage& message) {
  if (state_ != State::kParked || freezing_ != 0) {
    return fail(ErrorKind::kBadInput, "a body is to run that is not ready");
  }
  TESS_TRY(services_.faults.at(kBeforeCommit));
  // A sandbox that has been here longer may be a little behind what the process has seen elsewhere:
  // time must not jump back.
  sys::catch_up(image_->home_monotonic_ns() - services_.sandbox.monotonic_ns());
  if (const auto threads = threads_of(process_.outer_pid); threads) {
    for (const wire::Thread& thread : image_->threads()) {
      stub::ThreadContext context;
      std::memcpy(&context, thread.context().data(), sizeof(context));
      for (const ThreadIds& ids : *threads) {
        if (ids.inside == context.tid && thread.nice() != 0) {
          ::setpriority(PRIO_PROCESS, static_cast<id_t>(ids.outside), thread.nice());
        }
      }
    }
  }
  stopped_ = stopped_ || message.commit().stopped();
  TESS_TRY(ask_for_signals());
  TESS_TRY(release(stub::kPhaseBody));
  state_ = State::kRunning;
  TESS_TRY(services_.faults.at(kAfterCommit));
  answer(message.operation(), [](wire::LinkMessage& reply) { reply.mutable_running(); });
  return {};
}

// Signals that have come while it rested are there before it goes on, as a program expects that was
// stopped meanwhile: each thread asks for them first.
Result<> Guest::ask_for_signals() {
  constexpr uint64_t kSettings =
      offsetof(stub::Slot, thread) + offsetof(stub::ThreadContext, settings);
  for (const wire::Thread& thread : image_->threads()) {
    const uint64_t at = stub::slot_address(session_->region_base(), thread.slot()) + kSettings;
    TESS_TRY_ASSIGN(const uint32_t settings, session_->memory().get<uint32_t>(at));
    TESS_TRY(session_->memory().put(at, settings | stub::kSignalsWait));
  }
  return {};
}

Result<> Guest::freeze(const wire::LinkMessage& message) {
  if (state_ == State::kParked) {
    return fail(ErrorKind::kBadInput, "the body is parked already");
  }
  if (freezing_ != 0) {
    return fail(ErrorKind::kBadInput, "the body is being parked already");
  }
  TESS_TRY(services_.faults.at(kBeforeFreeze));
  TESS_TRY(session_->set_freeze(true));
  freezing_ = message.operation();
  thaw_when_parked_ = false;
  freeze_deadline_ = Clock::now() + kFreezeTimeout;
  kick_all();
  if (stopped_) {
    (void)send_signal(SIGCONT);  // the kick is delivered before any application code runs
  }
  return {};
}

void Guest::abandon_freeze() {
  services_.link.send_failed(std::exchange(freezing_, 0), pid(),
                             "not all threads of the body came to rest in time");
  // Those that have parked can only be released together with the rest: that happens when the last
  // one parks.
  thaw_when_parked_ = true;
}

Result<> Guest::send_image(const wire::LinkMessage& message) {
  const wire::SendImage& order = message.send_image();
  if (state_ != State::kParked) {
    return fail(ErrorKind::kBadInput, "the image of a running body is wanted");
  }
  TESS_TRY(services_.faults.at(kBeforeSend));
  auto image = std::make_shared<wire::ProcessImage>(*image_);
  image->set_pid(pid());
  TESS_TRY(capture(services_.sandbox, process_.outer_pid, *session_, order.to_home(), *image));
  auto stream = net::TlsStream::connect(services_.tls, order.address(),
                                        static_cast<uint16_t>(order.port()), kConnectTimeout);
  if (!stream) {
    return fail_with(std::move(stream.error()), "connect to {}", order.node());
  }
  if (!order.node().empty() && (*stream)->peer_name() != order.node()) {
    return fail(ErrorKind::kNotPossible, "{}:{} has the certificate of {}, not of {}",
                order.address(), order.port(), (*stream)->peer_name(), order.node());
  }
  wire::AgentHello hello;
  hello.set_protocol_version(wire::protocol_version());
  hello.set_job(services_.job);
  hello.set_token(order.token());
  hello.set_kind(wire::AgentHello::STREAM);
  hello.set_operation(message.operation());
  hello.set_node(services_.tls.node_name());
  TESS_TRY(wire::write_frame(**stream, hello, kConnectTimeout));
  // Connecting has taken its time.
  image->set_home_monotonic_ns(services_.sandbox.monotonic_ns());
  image->set_home_boottime_ns(services_.sandbox.boottime_ns());
  TESS_TRY_ASSIGN(const memory::StreamStats stats,
                  memory::send_image(**stream, process_.outer_pid, *image));
  image_ = image;
  TESS_TRY(services_.faults.at(kAfterSend));
  log::info("host", "event=sent pid={} to={} pages={} stored={}", pid(), order.node(),
            stats.page_bytes, stats.stored_bytes);
  services_.tell_tessd(memory::transfer_note(pid(), order.node(), true, stats.flow));
  answer(message.operation(), [&](wire::LinkMessage& reply) {
    reply.mutable_done()->set_bytes_sent(stats.stored_bytes);
  });
  return {};
}

Result<> Guest::thaw(const wire::LinkMessage& message) {
  TESS_TRY(services_.faults.at(kBeforeThaw));
  if (state_ == State::kParked) {
    TESS_TRY(release(stub::kPhaseContinue));
    state_ = State::kRunning;
  } else if (freezing_ != 0 || thaw_when_parked_) {
    freezing_ = 0;
    thaw_when_parked_ = true;
    kick_all();
  }
  if (stopped_ && state_ == State::kRunning) {
    TESS_TRY(send_signal(SIGSTOP));
  }
  answer(message.operation(), [](wire::LinkMessage& reply) { reply.mutable_done(); });
  return {};
}

// Out of rest; stopped if the process at home is. Each thread is told by itself, since one that
// only follows the others may run for a moment.
Result<> Guest::release(stub::Phase phase) {
  if (!stopped_) {
    return session_->release(phase);
  }
  return session_->release_stopped(phase, [this] {
    const auto threads = threads_of(process_.outer_pid);
    for (const ThreadIds& ids : threads.value_or(std::vector<ThreadIds>())) {
      ::syscall(SYS_tgkill, process_.outer_pid, ids.outside, SIGSTOP);
    }
  });
}

Result<> Guest::send_signal(int number) {
  if (::syscall(SYS_pidfd_send_signal, process_.pidfd.get(), number, nullptr, 0) != 0 &&
      errno != ESRCH) {
    return fail_errno("send signal {} to the body", number);
  }
  return {};
}

Result<> Guest::signal(const wire::LinkMessage& message) {
  const int number = message.signal().signal();
  if (number != SIGSTOP && number != SIGCONT && number != SIGKILL) {
    return fail(ErrorKind::kBadInput, "signal {} is not for a body", number);
  }
  stopped_ = number == SIGSTOP || (stopped_ && number != SIGCONT);
  if (number == SIGSTOP && (state_ == State::kParked || freezing_ != 0)) {
    return {};  // it rests anyway; stopped when it thaws
  }
  return send_signal(number);
}

// Answered by finish(), when pid 1 has reaped the process and its pid is free again.
void Guest::discard(const wire::LinkMessage& message) {
  quiet_exit_ = true;
  discard_ = message.operation();
  freezing_ = 0;
  end_body(process_);
  process_gone_ = true;
  gone_since_ = Clock::now();
}

void Guest::give_shared(const stub::MailboxNote& note) {
  stub::ChannelAnswer reply{};
  reply.id = note.id;
  const auto fd = services_.shared.open(pid(), note.id, note.value == 1);
  if (!fd) {
    const int error = fd.error().sys_errno();
    reply.result = -(error != 0 ? error : ENODEV);
    log::info("host", "event=not_shared pid={} reason=\"{}\"", pid(), fd.error().message());
    (void)session_->answer_channel(reply, {});
    return;
  }
  const int fds[] = {fd->get()};
  (void)session_->answer_channel(reply, fds);
}

// The first mapping, from page `value` on, of the segment that is attached at `id`: the segment is
// that of the first memory from there on that lies as far behind `id` as in its object, as it is
// for shmdt.
void Guest::tell_shared_size(const stub::MailboxNote& note) {
  constexpr uint64_t kPagesMax = uint64_t{1} << 31;
  stub::ChannelAnswer reply{};
  reply.id = note.id;
  if (const auto mappings = memory::read_address_space(process_.outer_pid); mappings) {
    const memory::Mapping* first = nullptr;
    for (const memory::Mapping& mapping : *mappings) {
      if (mapping.kind != memory::MappingKind::kAnonShared || mapping.start < note.id ||
          mapping.start - note.id != mapping.offset) {
        continue;
      }
      first = first == nullptr ? &mapping : first;
      const uint64_t page = mapping.offset / memory::kPageSize;
      const uint64_t pages = mapping.size() / memory::kPageSize;
      if (page >= note.value && page < kPagesMax && pages < kPagesMax &&
          mapping.inode == first->inode && mapping.dev_major == first->dev_major &&
          mapping.dev_minor == first->dev_minor) {
        reply.result = static_cast<int64_t>(page << 32 | pages);
        break;
      }
    }
  }
  (void)session_->answer_channel(reply, {});
}

void Guest::give_channel(const stub::MailboxNote& note) {
  stub::ChannelAnswer reply{};
  auto channel = services_.channels.take_spare(kChannelTimeout);
  if (channel) {
    if (auto blocking = make_blocking(channel->socket); !blocking) {
      channel = tl::unexpected(std::move(blocking.error()));
    }
  }
  if (!channel) {
    log::warn("host", "event=no_channel pid={} reason=\"{}\"", pid(), channel.error().message());
    reply.result = -EAGAIN;
    (void)session_->answer_channel(reply, {});
    return;
  }
  reply.id = channel->id;
  reply.keys = channel->keys;
  if (note.value == 0) {
    const int fds[] = {channel->socket.get()};
    (void)session_->answer_channel(reply, fds);
    return;
  }
  auto mailbox = sys::make_socket_pair(SOCK_SEQPACKET);
  if (!mailbox) {
    reply.result = -EAGAIN;
    (void)session_->answer_channel(reply, {});
    return;
  }
  auto child = std::make_shared<Guest>(services_);
  child->start_child(std::move(mailbox->first), inode_of(mailbox->second), session_->region_base(),
                     image_);
  services_.born(std::move(child));
  const int fds[] = {channel->socket.get(), mailbox->second.get()};
  (void)session_->answer_channel(reply, fds);
}

}  // namespace tess::host
