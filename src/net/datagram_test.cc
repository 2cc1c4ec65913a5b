#include "net/datagram.h"

#include <gtest/gtest.h>

namespace tess::net {
namespace {

using namespace std::chrono_literals;

// On a port that nothing else has: one that TCP gives out may be taken by a datagram socket.
Result<DatagramSocket> open_somewhere(Endpoint& at) {
  while (true) {
    const auto listener = listen_tcp("127.0.0.1", 0);
    at = local_endpoint(*listener).value();
    auto opened = DatagramSocket::open(at);
    if (opened || opened.error().sys_errno() != EADDRINUSE) {
      return opened;
    }
  }
}

TEST(DatagramSocket, SendsAndReceivesWithTheSender) {
  Endpoint at_a;
  Endpoint at_b;
  auto a = open_somewhere(at_a);
  auto b = open_somewhere(at_b);
  ASSERT_TRUE(a && b);
  DatagramAddress to;
  to.ip = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
  to.port = at_b.port;
  const std::array<uint8_t, 3> text{1, 2, 3};
  ASSERT_TRUE(a->send(text, to));
  ASSERT_TRUE(wait_fd(b->fd(), 1 /* POLLIN */, 60s).value_or(false));
  size_t count = 0;
  b->receive([&](std::span<const uint8_t> bytes, const DatagramAddress& from,
                 std::chrono::microseconds queued) {
    ++count;
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), text.begin(), text.end()));
    EXPECT_EQ(from.port, at_a.port);
    EXPECT_EQ(from.ip, to.ip);
    EXPECT_GE(queued.count(), 0);
    EXPECT_LT(queued, 60s);
  });
  EXPECT_EQ(count, 1u);
}

TEST(DatagramSocket, RefusesWhatIsNotAnAddress) {
  EXPECT_FALSE(DatagramSocket::open({"localhost", 7117}));
}

}  // namespace
}  // namespace tess::net
