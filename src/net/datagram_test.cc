#include "net/datagram.h"

#include <gtest/gtest.h>

namespace tess::net {
namespace {

using namespace std::chrono_literals;

Endpoint free_port() {
  const auto listener = listen_tcp("127.0.0.1", 0);
  return *local_endpoint(*listener);
}

TEST(DatagramSocket, SendsAndReceivesWithTheSender) {
  const Endpoint at_a = free_port();
  const Endpoint at_b = free_port();
  auto a = DatagramSocket::open(at_a);
  auto b = DatagramSocket::open(at_b);
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
