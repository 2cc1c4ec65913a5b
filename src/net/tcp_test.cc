#include "net/tcp.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "net/test_pair.h"

namespace tess::net {
namespace {

using namespace std::chrono_literals;

TEST(Endpoint, Parse) {
  EXPECT_EQ(Endpoint::parse("10.0.0.1:80", 7117), (Endpoint{"10.0.0.1", 80}));
  EXPECT_EQ(Endpoint::parse("10.0.0.1", 7117), (Endpoint{"10.0.0.1", 7117}));
  EXPECT_EQ(Endpoint::parse("[::1]:80", 7117), (Endpoint{"::1", 80}));
  EXPECT_EQ(Endpoint::parse("fe80::1", 7117), (Endpoint{"fe80::1", 7117}));
  for (const char* bad : {"", ":80", "h:", "h:99999", "h:8x", "[::1", "[::1]80"}) {
    const auto result = Endpoint::parse(bad, 1);
    if (std::string(bad) == "h:") {
      EXPECT_TRUE(result);  // an empty port means the default one
    } else {
      EXPECT_FALSE(result) << bad;
    }
  }
  EXPECT_EQ((Endpoint{"::1", 80}).to_string(), "[::1]:80");
}

TEST(Tcp, ConnectAcceptAndTuning) {
  const auto listener = listen_tcp("127.0.0.1", 0);
  ASSERT_TRUE(listener) << listener.error().message();
  const auto at = local_endpoint(*listener);
  ASSERT_TRUE(at);
  EXPECT_NE(at->port, 0);
  const auto client = connect_tcp("127.0.0.1", at->port, 60s);
  ASSERT_TRUE(client) << client.error().message();
  const auto server = accept_tcp(*listener, 60s);
  ASSERT_TRUE(server);
  EXPECT_EQ(*peer_endpoint(*server), *local_endpoint(*client));
  for (const auto* fd : {&*client, &*server}) {
    EXPECT_NE(::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(::fcntl(fd->get(), F_GETFL) & O_NONBLOCK, 0);
    int value = 0;
    socklen_t size = sizeof(value);
    ::getsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &value, &size);
    EXPECT_EQ(value, 1);
    ::getsockopt(fd->get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &size);
    EXPECT_EQ(value, 15000);
    ::getsockopt(fd->get(), SOL_SOCKET, SO_KEEPALIVE, &value, &size);
    EXPECT_EQ(value, 1);
  }
}

TEST(Tcp, AcceptTimesOut) {
  const auto listener = listen_tcp("127.0.0.1", 0);
  const auto nobody = accept_tcp(*listener, 10ms);
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().kind(), ErrorKind::kRetry);
}

TEST(Tcp, RefusedSaysSo) {
  const ClosedPort port;
  const auto refused = connect_tcp("127.0.0.1", port.number(), 60s);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().sys_errno(), ECONNREFUSED);
  EXPECT_NE(refused.error().message().find("refused"), std::string::npos);
}

TEST(Tcp, UnansweredTimesOut) {
  // A listener whose queue is full drops further SYNs.
  const auto listener = listen_tcp("127.0.0.1", 0);
  ASSERT_EQ(::listen(listener->get(), 0), 0);
  const uint16_t port = local_endpoint(*listener)->port;
  std::vector<sys::Fd> waiting;
  for (int i = 0; i < 10; ++i) {
    auto one = connect_tcp("127.0.0.1", port, 50ms);
    if (!one) {
      EXPECT_EQ(one.error().sys_errno(), ETIMEDOUT);
      EXPECT_NE(one.error().message().find("timed out"), std::string::npos);
      return;
    }
    waiting.push_back(std::move(*one));
  }
  FAIL() << "every connection was taken";
}

TEST(Tcp, BadAddressSaysSo) {
  EXPECT_EQ(start_connect({"no-such-address", 1}).error().kind(), ErrorKind::kBadInput);
}

}  // namespace
}  // namespace tess::net
