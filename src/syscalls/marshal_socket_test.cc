// Sockets: addresses, messages with control data, options.
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <vector>

#include "syscalls/marshal_test_util.h"

namespace tess::syscalls {
namespace {

struct Pair {
  explicit Pair(int type) { EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0); }
  ~Pair() {
    ::close(fds[0]);
    ::close(fds[1]);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  int fds[2];
};

TEST(MarshalSocket, tcp_addresses) {
  expect_same([](const Caller& call, Trace& trace) {
    const int64_t listener = call(SYS_socket, AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    trace.result("bind", call(SYS_bind, listener, &address, sizeof(address)));
    trace.result("bind short", call(SYS_bind, listener, &address, 3));
    trace.result("bind long", call(SYS_bind, listener, &address, 129));
    trace.result("bind negative", call(SYS_bind, listener, &address, -1));
    trace.result("bind nowhere", call(SYS_bind, listener, kNowhere, 16));
    trace.result("listen", call(SYS_listen, listener, 5));
    socklen_t length = sizeof(address);
    trace.result("getsockname", call(SYS_getsockname, listener, &address, &length));
    trace.result("length", length);
    const int64_t client = call(SYS_socket, AF_INET, SOCK_STREAM, 0);
    trace.result("connect", call(SYS_connect, client, &address, sizeof(address)));
    struct {
      sockaddr_in peer;
      char guard[16];
    } room;
    std::memset(&room, 0x77, sizeof(room));
    length = 6;  // too short: cut, and the true length told
    const int64_t served = call(SYS_accept4, listener, &room, &length, SOCK_CLOEXEC);
    trace.result("accept4", served < 0 ? served : 0);
    trace.result("length", length);
    trace.memory("family", &room, 2);
    trace.memory("beyond", &room.peer.sin_addr.s_addr + 1, 24);
    length = 100;
    trace.result("getpeername", call(SYS_getpeername, client, &room, &length));
    trace.result("length", length);
    int value = 1;
    trace.result("setsockopt",
                 call(SYS_setsockopt, client, IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value)));
    value = -1;
    length = sizeof(value);
    trace.result("getsockopt",
                 call(SYS_getsockopt, client, IPPROTO_TCP, TCP_NODELAY, &value, &length));
    trace.result("value", value);
    length = 1;
    trace.result("short", call(SYS_getsockopt, client, SOL_SOCKET, SO_TYPE, &value, &length));
    trace.memory("value", &value, 4);
    trace.result("negative", call(SYS_setsockopt, client, SOL_SOCKET, SO_LINGER, &value, -1));
    trace.result("bad length pointer",
                 call(SYS_getsockopt, client, SOL_SOCKET, SO_TYPE, &value, kNowhere));
    trace.result("bad value", call(SYS_getsockopt, client, SOL_SOCKET, SO_TYPE, kNowhere, &length));
    trace.result("send", call(SYS_sendto, served, "stream", 6, 0, nullptr, 0));
    char text[16] = {};
    length = sizeof(room);
    trace.result("recvfrom", call(SYS_recvfrom, client, text, 16, 0, &room, &length));
    trace.result("length", length);
    trace.memory("text", text, 16);
    for (const int64_t fd : {listener, client, served}) {
      call(SYS_close, fd);
    }
  });
}

TEST(MarshalSocket, datagrams) {
  expect_same([](const Caller& call, Trace& trace) {
    const int64_t a = call(SYS_socket, AF_INET, SOCK_DGRAM, 0);
    const int64_t b = call(SYS_socket, AF_INET, SOCK_DGRAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    call(SYS_bind, b, &address, sizeof(address));
    socklen_t length = sizeof(address);
    call(SYS_getsockname, b, &address, &length);
    trace.result("sendto", call(SYS_sendto, a, "datagram", 8, 0, &address, sizeof(address)));
    char text[4] = {};
    sockaddr_in from{};
    length = sizeof(from);
    trace.result("cut", call(SYS_recvfrom, b, text, 4, MSG_TRUNC, &from, &length));
    trace.memory("text", text, 4);
    trace.result("from", from.sin_family * 100 + static_cast<int>(length));
    trace.result("empty", call(SYS_recvfrom, b, text, 4, MSG_DONTWAIT, &from, &length));
    const GuardedPages pages;
    trace.result("partly bad",
                 call(SYS_sendto, a, pages.end() - 4, 8, 0, &address, sizeof(address)));
    trace.result("nothing came", call(SYS_recvfrom, b, text, 4, MSG_DONTWAIT, nullptr, nullptr));
    call(SYS_close, a);
    call(SYS_close, b);
  });
}

TEST(MarshalSocket, messages_with_descriptors) {
  expect_same([](const Caller& call, Trace& trace) {
    const Pair pair(SOCK_STREAM);
    const int on = 1;
    ::setsockopt(pair.fds[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
    const OwnedFd passed(::memfd_create("passed", 0));
    ASSERT_EQ(::write(passed, "inside", 6), 6);
    char part1[] = "two ";
    char part2[] = "parts";
    iovec out[2] = {{part1, 4}, {part2, 5}};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = out;
    message.msg_iovlen = 2;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = passed;
    std::memcpy(CMSG_DATA(header), &number, sizeof(number));
    trace.result("sendmsg", call(SYS_sendmsg, pair.fds[0], &message, 0));
    char in1[3] = {};
    char in2[20] = {};
    iovec in[2] = {{in1, 3}, {in2, 20}};
    alignas(cmsghdr) char received[256];
    std::memset(received, 0x11, sizeof(received));
    msghdr answer{};
    answer.msg_iov = in;
    answer.msg_iovlen = 2;
    answer.msg_control = received;
    answer.msg_controllen = sizeof(received);
    answer.msg_flags = -1;
    trace.result("recvmsg", call(SYS_recvmsg, pair.fds[1], &answer, MSG_CMSG_CLOEXEC));
    trace.memory("in1", in1, 3);
    trace.memory("in2", in2, 20);
    trace.result("controllen", static_cast<int64_t>(answer.msg_controllen));
    trace.result("flags", answer.msg_flags);
    trace.memory("beyond", received + answer.msg_controllen, 256 - answer.msg_controllen);
    bool found = false;
    for (cmsghdr* c = CMSG_FIRSTHDR(&answer); c; c = CMSG_NXTHDR(&answer, c)) {
      trace.result("cmsg", c->cmsg_type * 1000 + static_cast<int>(c->cmsg_len));
      if (c->cmsg_type == SCM_RIGHTS) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        char content[6] = {};
        trace.result("through it", ::pread(fd, content, 6, 0));
        trace.memory("content", content, 6);
        ::close(fd);
        found = true;
      }
    }
    EXPECT_TRUE(found);
  });
}

TEST(MarshalSocket, message_errors) {
  expect_same([](const Caller& call, Trace& trace) {
    const Pair pair(SOCK_DGRAM);
    char text[8] = "message";
    iovec io = {text, 8};
    msghdr message{};
    message.msg_iov = &io;
    message.msg_iovlen = 1;
    trace.result("nowhere", call(SYS_sendmsg, pair.fds[0], kNowhere, 0));
    trace.result("bad fd", call(SYS_sendmsg, -1, kNowhere, 0));
    message.msg_iov = reinterpret_cast<iovec*>(kNowhere);
    trace.result("bad iovec", call(SYS_sendmsg, pair.fds[0], &message, 0));
    message.msg_iovlen = 2000;
    trace.result("too many", call(SYS_sendmsg, pair.fds[0], &message, 0));
    message.msg_iov = &io;
    message.msg_iovlen = 1;
    message.msg_control = kNowhere;
    message.msg_controllen = 24;
    trace.result("bad control", call(SYS_sendmsg, pair.fds[0], &message, 0));
    message.msg_control = nullptr;
    message.msg_controllen = 0;
    message.msg_name = kNowhere;
    message.msg_namelen = 16;
    trace.result("bad name", call(SYS_sendmsg, pair.fds[0], &message, 0));
    message.msg_namelen = static_cast<socklen_t>(-1);
    trace.result("negative name", call(SYS_sendmsg, pair.fds[0], &message, 0));
    message.msg_name = nullptr;
    message.msg_namelen = 0;
    message.msg_iovlen = 0;
    trace.result("empty datagram", call(SYS_sendmsg, pair.fds[0], &message, 0));
    trace.result("arrives", call(SYS_recvmsg, pair.fds[1], &message, MSG_DONTWAIT));
    trace.result("nothing", call(SYS_recvmsg, pair.fds[1], &message, MSG_DONTWAIT));
    message.msg_iovlen = 1;
    io.iov_base = kNowhere;
    trace.result("bad data", call(SYS_sendmsg, pair.fds[0], &message, 0));
  });
}

TEST(MarshalSocket, many_messages) {
  expect_same([](const Caller& call, Trace& trace) {
    const int64_t a = call(SYS_socket, AF_INET, SOCK_DGRAM, 0);
    const int64_t b = call(SYS_socket, AF_INET, SOCK_DGRAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    call(SYS_bind, b, &address, sizeof(address));
    socklen_t length = sizeof(address);
    call(SYS_getsockname, b, &address, &length);
    std::vector<std::string> texts;
    std::vector<iovec> parts(20);
    std::vector<mmsghdr> messages(10);
    for (size_t i = 0; i < 10; ++i) {
      texts.push_back(std::string(i * 100, static_cast<char>('a' + i)));
    }
    for (size_t i = 0; i < 10; ++i) {
      parts[2 * i] = {texts[i].data(), texts[i].size() / 2};
      parts[2 * i + 1] = {texts[i].data(), texts[i].size() - texts[i].size() / 2};
      messages[i].msg_hdr = {&address, sizeof(address), &parts[2 * i], 2, nullptr, 0, 0};
      messages[i].msg_len = 12345;
    }
    trace.result("sendmmsg", call(SYS_sendmmsg, a, messages.data(), 10, 0));
    for (const auto& message : messages) {
      trace.result("sent", message.msg_len);
    }
    std::vector<std::string> rooms(12, std::string(64 << 10, '-'));
    std::vector<sockaddr_in> names(12);
    std::vector<iovec> into(12);
    std::vector<mmsghdr> received(12);
    for (size_t i = 0; i < 12; ++i) {
      into[i] = {rooms[i].data(), rooms[i].size()};
      received[i].msg_hdr = {&names[i], sizeof(names[i]), &into[i], 1, nullptr, 0, -1};
      received[i].msg_len = 54321;
    }
    timespec timeout = {5, 0};
    trace.result("recvmmsg", call(SYS_recvmmsg, b, received.data(), 12, MSG_WAITFORONE, &timeout));
    for (size_t i = 0; i < 12; ++i) {
      trace.result("got", received[i].msg_len);
      trace.result("name", names[i].sin_family * 100 + received[i].msg_hdr.msg_namelen);
      trace.result("flags", received[i].msg_hdr.msg_flags);
      trace.memory("data", rooms[i].data(), 1000);
    }
    trace.result("none", call(SYS_sendmmsg, a, messages.data(), 0, 0));
    trace.result("nowhere", call(SYS_sendmmsg, a, kNowhere, 3, 0));
    messages[1].msg_hdr.msg_iov = reinterpret_cast<iovec*>(kNowhere);
    trace.result("second bad", call(SYS_sendmmsg, a, messages.data(), 3, 0));
    call(SYS_close, a);
    call(SYS_close, b);
  });
}

TEST(MarshalSocket, what_comes_back_of_many_messages_is_what_was_received) {
  const Pair pair(SOCK_DGRAM);
  ASSERT_EQ(::send(pair.fds[0], "one", 3, 0), 3);
  std::vector<std::string> rooms(16, std::string(64 << 10, '-'));
  std::vector<iovec> into(16);
  std::vector<mmsghdr> received(16);
  for (size_t i = 0; i < 16; ++i) {
    into[i] = {rooms[i].data(), rooms[i].size()};
    received[i].msg_hdr.msg_iov = &into[i];
    received[i].msg_hdr.msg_iovlen = 1;
  }
  const Carried carried =
      carry(SYS_recvmmsg, {static_cast<uint64_t>(pair.fds[1]),
                           reinterpret_cast<uint64_t>(received.data()), 16, MSG_WAITFORONE, 0});
  EXPECT_EQ(carried.result, 1);
  EXPECT_LT(carried.reply_bytes, 4096U);
}

TEST(MarshalSocket, more_messages_than_a_plan_holds_are_sent_in_parts) {
  const Pair pair(SOCK_DGRAM);
  std::vector<char> byte(1);
  iovec io = {byte.data(), 1};
  std::vector<mmsghdr> messages(200);
  for (auto& message : messages) {
    message.msg_hdr.msg_iov = &io;
    message.msg_hdr.msg_iovlen = 1;
  }
  const int64_t sent = Caller(true)(SYS_sendmmsg, pair.fds[0], messages.data(), 200, MSG_DONTWAIT);
  EXPECT_GT(sent, 0);
  EXPECT_LE(sent, 64);
}

TEST(MarshalSocket, messages_with_names_control_and_many_pieces_fit_a_plan) {
  expect_same([](const Caller& call, Trace& trace) {
    const OwnedFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage name{};  // its whole length is given: together more than a plan's scratch
    auto& address = reinterpret_cast<sockaddr_in&>(name);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(9);
    alignas(cmsghdr) char control[12 * CMSG_SPACE(sizeof(in_pktinfo))] = {};
    for (size_t at = 0; at < sizeof(control); at += CMSG_SPACE(sizeof(in_pktinfo))) {
      cmsghdr packet_info{};
      packet_info.cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
      packet_info.cmsg_level = IPPROTO_IP;
      packet_info.cmsg_type = IP_PKTINFO;
      std::memcpy(control + at, &packet_info, sizeof(packet_info));
    }
    std::vector<iovec> pieces(16, iovec{&address, 1});
    std::vector<mmsghdr> messages(64);
    for (auto& message : messages) {
      message.msg_hdr = {
          &name, sizeof(name), pieces.data(), pieces.size(), control, sizeof(control), 0};
    }
    trace.result("sendmmsg", call(SYS_sendmmsg, int{socket}, messages.data(), 64, 0) > 0);
  });
}

TEST(MarshalSocket, packet_filter_option) {
  expect_same([](const Caller& call, Trace& trace) {
    const Pair pair(SOCK_DGRAM);
    sock_filter code[] = {{BPF_RET | BPF_K, 0, 0, 3}};  // three bytes of each datagram
    sock_fprog program = {1, code};
    trace.result("attach", call(SYS_setsockopt, pair.fds[1], SOL_SOCKET, SO_ATTACH_FILTER, &program,
                                sizeof(program)));
    trace.result("send", call(SYS_sendto, pair.fds[0], "datagram", 8, 0, nullptr, 0));
    char text[9] = {};
    trace.result("receive", call(SYS_recvfrom, pair.fds[1], text, 8, 0, nullptr, nullptr));
    trace.memory("text", text, sizeof(text));
    sock_filter back[4] = {};
    socklen_t count = 4;
    trace.result("get",
                 call(SYS_getsockopt, pair.fds[1], SOL_SOCKET, SO_ATTACH_FILTER, back, &count));
    trace.result("count", count);
    trace.memory("code", back, 8);
    program.filter = reinterpret_cast<sock_filter*>(kNowhere);
    trace.result("bad", call(SYS_setsockopt, pair.fds[1], SOL_SOCKET, SO_ATTACH_FILTER, &program,
                             sizeof(program)));
  });
}

TEST(MarshalSocket, interface_lists) {
  expect_same([](const Caller& call, Trace& trace) {
    const OwnedFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifconf list{};
    trace.result("size", call(SYS_ioctl, int{socket}, SIOCGIFCONF, &list));
    trace.result("bytes", list.ifc_len);
    ifreq entries[4];
    std::memset(entries, 0x22, sizeof(entries));
    list.ifc_len = sizeof(entries);
    list.ifc_req = entries;
    trace.result("list", call(SYS_ioctl, int{socket}, SIOCGIFCONF, &list));
    trace.result("bytes", list.ifc_len);
    trace.result("pointer kept", list.ifc_req == entries);
    trace.memory("entries", entries, sizeof(entries));
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    trace.result("index", call(SYS_ioctl, int{socket}, SIOCGIFINDEX, &request));
    trace.memory("request", &request, sizeof(request));
    trace.result("none such", call(SYS_ioctl, int{socket}, SIOCGIFFLAGS, kNowhere));
  });
}

TEST(MarshalSocket, zero_copy_is_declined) {
  const Pair pair(SOCK_STREAM);
  const Caller call(true);
  msghdr message{};
  int on = 1;
  EXPECT_EQ(call(SYS_sendmsg, pair.fds[0], &message, MSG_ZEROCOPY), -ENOBUFS);
  EXPECT_EQ(call(SYS_setsockopt, pair.fds[0], SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)),
            -EOPNOTSUPP);
}

}  // namespace
}  // namespace tess::syscalls
