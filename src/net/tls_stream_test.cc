#include "net/tls_stream.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <future>
#include <random>
#include <thread>

#include "net/test_certificates.h"
#include "net/test_pair.h"
#include "net/tls_context.h"

namespace tess::net {
namespace {

using namespace std::chrono_literals;

std::vector<std::byte> random_bytes(size_t size) {
  std::mt19937_64 random(size);
  std::vector<std::byte> bytes(size);
  for (auto& byte : bytes) {
    byte = static_cast<std::byte>(random());
  }
  return bytes;
}

TEST(TlsStream, BothSeeTheOthersName) {
  const TestCluster cluster;
  const Pair pair = connect_pair(cluster.context("n1"), cluster.context("n2"));
  ASSERT_TRUE(pair.client) << pair.client.error().message();
  ASSERT_TRUE(pair.server) << pair.server.error().message();
  EXPECT_EQ((*pair.client)->peer_name(), "n2");
  EXPECT_EQ((*pair.server)->peer_name(), "n1");
}

TEST(TlsStream, LargeDataBothWaysAtOnce) {
  const TestCluster cluster;
  const Pair pair = connect_pair(cluster.context("n1"), cluster.context("n2"));
  TlsStream& a = **pair.client;
  TlsStream& b = **pair.server;
  const auto sent = random_bytes(20 << 20);
  // Four threads: each end reads and writes at the same time, and no buffer holds everything.
  std::vector<std::future<bool>> all;
  for (TlsStream* stream : {&a, &b}) {
    all.push_back(std::async(std::launch::async,
                             [&, stream] { return stream->write_all(sent, 60s).has_value(); }));
    all.push_back(std::async(std::launch::async, [&, stream] {
      std::vector<std::byte> received(sent.size());
      return stream->read_exact(received, 60s).has_value() && received == sent;
    }));
  }
  for (auto& one : all) {
    EXPECT_TRUE(one.get());
  }
}

TEST(TlsStream, ForeignClusterIsRefusedByName) {
  const TestCluster ours;
  const TestCluster theirs;
  const Pair pair = connect_pair(ours.context("n1"), theirs.context("n2"));
  ASSERT_FALSE(pair.client);
  ASSERT_FALSE(pair.server);
  EXPECT_EQ(pair.client.error().kind(), ErrorKind::kNotPossible);
  EXPECT_EQ(pair.server.error().kind(), ErrorKind::kNotPossible);
  EXPECT_NE(pair.client.error().message().find("not one of this cluster"), std::string::npos)
      << pair.client.error().message();
  EXPECT_NE(pair.server.error().message().find("refuses this node's certificate"),
            std::string::npos)
      << pair.server.error().message();
}

TEST(TlsStream, AClientWithoutCertificateIsRefused) {
  const TestCluster cluster;
  const TlsContext server = cluster.context("n2");
  const auto listener = listen_tcp("127.0.0.1", 0);
  const uint16_t port = local_endpoint(*listener)->port;
  auto accepted = std::async(std::launch::async, [&]() -> StreamResult {
    TESS_TRY_ASSIGN(sys::Fd fd, accept_tcp(*listener, 60s));
    return TlsStream::accept(server, std::move(fd), 60s);
  });
  const auto fd = connect_tcp("127.0.0.1", port, 60s);
  ASSERT_TRUE(fd);
  ASSERT_TRUE(wait_fd(fd->get(), 4 /* POLLOUT */, 60s));
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL* ssl = SSL_new(context);
  SSL_set_fd(ssl, fd->get());
  while (SSL_connect(ssl) != 1) {
    ASSERT_TRUE(*wait_fd(fd->get(), 1 /* POLLIN */, 60s));
  }
  const auto result = accepted.get();
  SSL_free(ssl);
  SSL_CTX_free(context);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kNotPossible);
  EXPECT_NE(result.error().message().find("no certificate"), std::string::npos);
}

TEST(TlsStream, Tls12IsRefused) {
  const TestCluster cluster;
  const TlsContext server = cluster.context("n2");
  const auto listener = listen_tcp("127.0.0.1", 0);
  const uint16_t port = local_endpoint(*listener)->port;
  auto accepted = std::async(std::launch::async, [&]() -> StreamResult {
    TESS_TRY_ASSIGN(sys::Fd fd, accept_tcp(*listener, 60s));
    return TlsStream::accept(server, std::move(fd), 60s);
  });
  const auto fd = connect_tcp("127.0.0.1", port, 60s);
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
  SSL* ssl = SSL_new(context);
  SSL_set_fd(ssl, fd->get());
  SSL_connect(ssl);
  const auto result = accepted.get();
  SSL_free(ssl);
  SSL_CTX_free(context);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kNotPossible) << result.error().message();
  EXPECT_NE(result.error().message().find("does not speak TLS 1.3"), std::string::npos);
}

TEST(TlsStream, SomethingElseOnThePortSaysWrongProtocol) {
  const TestCluster cluster;
  const auto listener = listen_tcp("127.0.0.1", 0);
  const uint16_t port = local_endpoint(*listener)->port;
  auto other = std::async(std::launch::async, [&] {
    const auto fd = accept_tcp(*listener, 60s);
    const std::string_view text = "SSH-2.0-OpenSSH_9.2\r\n";
    EXPECT_TRUE(sys::write_all(*fd, std::as_bytes(std::span(text))));
    EXPECT_TRUE(*wait_fd(fd->get(), 1 /* POLLIN */, 60s));
  });
  const auto result = TlsStream::connect(cluster.context("n1"), "127.0.0.1", port, 60s);
  other.get();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kNotPossible);
  EXPECT_NE(result.error().message().find("does not speak TLS 1.3"), std::string::npos)
      << result.error().message();
}

TEST(TlsStream, ASilentPeerTimesOutTheHandshake) {
  const TestCluster cluster;
  const auto listener = listen_tcp("127.0.0.1", 0);
  const auto result =
      TlsStream::connect(cluster.context("n1"), "127.0.0.1", local_endpoint(*listener)->port, 50ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kRetry);
}

TEST(TlsStream, ReadSomeAndPending) {
  const TestCluster cluster;
  const Pair pair = connect_pair(cluster.context("n1"), cluster.context("n2"));
  TlsStream& a = **pair.client;
  TlsStream& b = **pair.server;
  std::byte buffer[4];
  EXPECT_EQ(b.read_some(buffer, 0ms), 0U);
  EXPECT_FALSE(b.pending());
  const auto sent = random_bytes(10);
  ASSERT_TRUE(a.write_all(sent, 60s));
  ASSERT_TRUE(*wait_fd(b.fd(), 1 /* POLLIN */, 60s));
  EXPECT_EQ(b.read_some(buffer, 0ms), 4U);
  EXPECT_TRUE(b.pending());
  EXPECT_EQ(b.read_some(buffer, 0ms), 4U);
  EXPECT_EQ(b.read_some(buffer, 0ms), 2U);
  EXPECT_EQ(b.read_some(buffer, 0ms), 0U);
  EXPECT_FALSE(b.pending());
}

TEST(TlsStream, TimeoutsWhenNothingMoves) {
  const TestCluster cluster;
  const Pair pair = connect_pair(cluster.context("n1"), cluster.context("n2"));
  std::byte one[1];
  const auto read = (*pair.client)->read_exact(one, 20ms);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind(), ErrorKind::kRetry);
  const std::vector<std::byte> much(64 << 20);
  const auto written = (*pair.client)->write_all(much, 20ms);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind(), ErrorKind::kRetry);
}

TEST(TlsStream, ShutdownWakesTheReaderOfBothSides) {
  const TestCluster cluster;
  const Pair pair = connect_pair(cluster.context("n1"), cluster.context("n2"));
  TlsStream& a = **pair.client;
  TlsStream& b = **pair.server;
  auto read = [](TlsStream& stream) {
    std::byte one[1];
    return stream.read_exact(one, 60s).error().kind();
  };
  auto reader_a = std::async(std::launch::async, [&] { return read(a); });
  auto reader_b = std::async(std::launch::async, [&] { return read(b); });
  a.shutdown();
  EXPECT_EQ(reader_a.get(), ErrorKind::kDisconnected);
  EXPECT_EQ(reader_b.get(), ErrorKind::kDisconnected);
  std::byte one[1]{};
  EXPECT_EQ(a.write_all(one, 60s).error().kind(), ErrorKind::kDisconnected);
}

TEST(TlsStream, WhatWasWrittenBeforeShutdownArrives) {
  const TestCluster cluster;
  Pair pair = connect_pair(cluster.context("n1"), cluster.context("n2"));
  const auto sent = random_bytes(100000);
  ASSERT_TRUE((*pair.client)->write_all(sent, 60s));
  pair.client->reset();
  std::vector<std::byte> received(sent.size());
  ASSERT_TRUE((*pair.server)->read_exact(received, 60s));
  EXPECT_EQ(received, sent);
  EXPECT_EQ((*pair.server)->read_exact(std::span(received).first(1), 60s).error().kind(),
            ErrorKind::kDisconnected);
}

TEST(TlsContext, MissingFilesAreNamed) {
  const auto result = TlsContext::load("/nonexistent");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("/nonexistent/ca.crt"), std::string::npos);
  EXPECT_NE(result.error().message().find("tess init"), std::string::npos);
}

}  // namespace
}  // namespace tess::net
