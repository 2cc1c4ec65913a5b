// The mailbox: what threads tell the agent, and ask of it.
#include "stub/blob/mailbox.h"

namespace tess::stub {
namespace {

inline constexpr int kSolSocket = 1;
inline constexpr int kScmRights = 1;
inline constexpr int kMsgCmsgCloexec = 0x40000000;
inline constexpr int kMsgNosignal = 0x4000;

struct Iovec {
  void* base;
  size_t size;
};
struct Msghdr {
  void* name;
  uint32_t name_size;
  uint32_t pad;
  Iovec* parts;
  size_t part_count;
  void* ancillary;
  size_t ancillary_size;
  int flags;
};
struct Cmsg {
  size_t length;
  int level;
  int type;
  int32_t fds[kFdsMax + 2];
};

}  // namespace

long receive_message(int32_t mailbox, void* into, size_t size, int32_t* fds, uint32_t* fd_count) {
  alignas(8) Cmsg ancillary;
  Iovec part{into, size};
  Msghdr message{};
  message.parts = &part;
  message.part_count = 1;
  message.ancillary = &ancillary;
  message.ancillary_size = sizeof(ancillary);
  long n;
  do {
    n = sys(__NR_recvmsg, mailbox, &message, kMsgCmsgCloexec);
  } while (n == kEintr);
  *fd_count = 0;
  if (n > 0 && message.ancillary_size >= 16 && ancillary.level == kSolSocket &&
      ancillary.type == kScmRights) {
    *fd_count = (uint32_t)((ancillary.length - 16) / 4);
    for (uint32_t i = 0; i < *fd_count; ++i) {
      fds[i] = ancillary.fds[i];
    }
  }
  return n;
}

long send_message(int32_t mailbox, const void* head, size_t head_size, const void* more,
                  size_t size) {
  Iovec parts[2] = {{const_cast<void*>(head), head_size}, {const_cast<void*>(more), size}};
  Msghdr message{};
  message.parts = parts;
  message.part_count = size != 0 ? 2 : 1;
  return sys(__NR_sendmsg, mailbox, &message, kMsgNosignal);
}

void note(Slot* slot, Note kind, uint32_t value, int64_t result) {
  MailboxNote message{};
  message.kind = kind;
  message.slot = slot->index;
  message.tid = slot->thread.tid;
  message.value = value;
  message.result = result;
  sys(__NR_sendto, priv(slot).mailbox_fd, &message, sizeof(message), kMsgNosignal, 0, 0);
}

long ask_agent(Slot* slot, MailboxNote question, ChannelAnswer* answer, int32_t* fds, uint32_t max,
               uint32_t* fd_count, const void* more, size_t size) {
  ControlBlock& control = control_of(slot);
  question.slot = slot->index;
  question.tid = slot->thread.tid;
  int32_t received[kFdsMax + 2];
  *fd_count = 0;
  lock(&control.mailbox_lock);
  const int32_t mailbox = priv(slot).mailbox_fd;
  long n = send_message(mailbox, &question, sizeof(question), more, size);
  if (n > 0) {
    n = receive_message(mailbox, answer, sizeof(*answer), received, fd_count);
  }
  for (uint32_t i = 0; i < *fd_count && control.role == kRoleBody; ++i) {
    received[i] = out_of_the_way(control, received[i]);
  }
  unlock(&control.mailbox_lock);
  for (uint32_t i = 0; i < *fd_count; ++i) {
    if (i < max) {
      fds[i] = received[i];
    } else {
      sys(__NR_close, received[i]);
    }
  }
  *fd_count = *fd_count < max ? *fd_count : max;
  return n == (long)sizeof(*answer) ? 0 : kEagain;  // the agent is gone
}

long request_channel(Slot* slot, uint64_t id, bool with_mailbox, NewChannel* out) {
  ChannelAnswer answer;
  int32_t fds[2];
  uint32_t fd_count = 0;
  const uint32_t wanted = with_mailbox ? 2 : 1;
  MailboxNote question{};
  question.kind = Note::kNeedChannel;
  question.value = with_mailbox ? 1 : 0;
  question.id = id;
  const long asked = ask_agent(slot, question, &answer, fds, wanted, &fd_count);
  if (asked < 0) {
    return asked;  // no more threads or children while away
  }
  if (answer.result < 0 || fd_count < wanted) {
    for (uint32_t i = 0; i < fd_count; ++i) {
      sys(__NR_close, fds[i]);
    }
    return answer.result < 0 ? answer.result : kNoDescriptor;
  }
  out->channel_fd = fds[0];
  out->mailbox_fd = with_mailbox ? fds[1] : -1;
  out->id = answer.id;
  out->keys = answer.keys;
  return 0;
}

int64_t ask_shared(Slot* slot, Note kind, uint32_t value, uint64_t id, const void* more,
                   size_t size, int32_t* fd) {
  MailboxNote question{};
  question.kind = kind;
  question.value = value;
  question.id = id;
  ChannelAnswer answer;
  int32_t received = -1;
  uint32_t count = 0;
  const long asked =
      ask_agent(slot, question, &answer, &received, fd != nullptr ? 1 : 0, &count, more, size);
  if (fd != nullptr) {
    *fd = count != 0 ? received : -1;
  }
  return asked == 0 ? answer.result : asked;
}

}  // namespace tess::stub
