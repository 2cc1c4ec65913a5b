#include "wire/frame.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "wire/agent.pb.h"

namespace tess::wire {
namespace {

using namespace std::chrono_literals;

std::pair<sys::Fd, sys::Fd> stream_pair() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {sys::Fd(fds[0]), sys::Fd(fds[1])};
}

AgentHello hello(size_t token_size) {
  AgentHello message;
  message.set_protocol_version(3);
  message.set_job(0x1234567890abcdef);
  message.set_token(std::string(token_size, 't'));
  return message;
}

TEST(Frame, LengthIsBigEndian) {
  AgentHello message;
  message.set_node(std::string(300, 'n'));
  const auto frame = encode_frame(message);
  ASSERT_TRUE(frame);
  const size_t size = message.ByteSizeLong();
  EXPECT_EQ((*frame)[0], 0);
  EXPECT_EQ((*frame)[1], 0);
  EXPECT_EQ(static_cast<unsigned char>((*frame)[2]), size >> 8);
  EXPECT_EQ(static_cast<unsigned char>((*frame)[3]), size & 255);
  EXPECT_EQ(frame->size(), size + 4);
}

TEST(Frame, WrittenAndReadOverASocket) {
  auto [a, b] = stream_pair();
  FdStream writer(std::move(a));
  FdStream reader(std::move(b));
  // Larger than the socket's buffer, so that both sides wait for each other.
  const AgentHello sent = hello(5 << 20);
  std::thread thread([&] {
    EXPECT_TRUE(write_frame(writer, sent, 60s));
    EXPECT_TRUE(write_frame(writer, hello(0), 60s));
  });
  AgentHello first;
  AgentHello second;
  const auto first_result = read_frame(reader, first, 60s);
  const auto second_result = read_frame(reader, second, 60s);
  thread.join();
  ASSERT_TRUE(first_result) << first_result.error().message();
  ASSERT_TRUE(second_result);
  EXPECT_EQ(first.SerializeAsString(), sent.SerializeAsString());
  EXPECT_EQ(second.SerializeAsString(), hello(0).SerializeAsString());
}

TEST(Frame, ReadTimesOut) {
  auto [a, b] = stream_pair();
  FdStream reader(std::move(b));
  AgentHello message;
  const auto result = read_frame(reader, message, 20ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kRetry);
}

TEST(Frame, WriteTimesOutWhenNobodyReads) {
  auto [a, b] = stream_pair();
  FdStream writer(std::move(a));
  const auto result = write_frame(writer, hello(8 << 20), 20ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kRetry);
}

TEST(Frame, EndOfFileInTheMiddleIsDisconnected) {
  auto [a, b] = stream_pair();
  FdStream reader(std::move(b));
  const auto frame = encode_frame(hello(100));
  ASSERT_TRUE(sys::write_all(a, std::as_bytes(std::span(*frame).first(50))));
  a.reset();
  AgentHello message;
  const auto result = read_frame(reader, message, 60s);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kDisconnected);
}

TEST(Frame, WritingToAClosedPeerIsDisconnectedWithoutSigpipe) {
  auto [a, b] = stream_pair();
  FdStream writer(std::move(a));
  b.reset();
  const auto result = write_frame(writer, hello(10), 60s);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kDisconnected);
}

TEST(Frame, APromiseBeyondTheLimitIsRefused) {
  auto [a, b] = stream_pair();
  FdStream reader(std::move(b));
  const unsigned char header[4] = {4, 0, 0, 1};  // 64 MiB + 1
  ASSERT_TRUE(sys::write_all(a, std::as_bytes(std::span(header))));
  AgentHello message;
  const auto result = read_frame(reader, message, 60s);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kBadInput);
}

TEST(Frame, GarbageIsBadInput) {
  auto [a, b] = stream_pair();
  FdStream reader(std::move(b));
  const unsigned char bytes[] = {0, 0, 0, 3, 0xff, 0xff, 0xff};
  ASSERT_TRUE(sys::write_all(a, std::as_bytes(std::span(bytes))));
  AgentHello message;
  const auto result = read_frame(reader, message, 60s);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kBadInput);
}

TEST(FdStream, WorksOverAPipe) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  FdStream reader{sys::Fd(fds[0])};
  FdStream writer{sys::Fd(fds[1])};
  const std::string sent(300000, 'p');
  std::thread thread([&] { EXPECT_TRUE(writer.write_all(std::as_bytes(std::span(sent)), 60s)); });
  std::string received(sent.size(), '\0');
  const auto result = reader.read_exact(std::as_writable_bytes(std::span(received)), 60s);
  thread.join();
  ASSERT_TRUE(result);
  EXPECT_EQ(received, sent);
}

TEST(FrameReader, AnySplitGivesTheSameFrames) {
  std::string stream;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1000}}) {
    stream += *encode_frame(hello(size));
  }
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    FrameReader reader;
    std::vector<std::string> payloads;
    for (size_t at = 0; at < stream.size(); at += piece) {
      reader.feed(
          std::as_bytes(std::span(stream).subspan(at, std::min(piece, stream.size() - at))));
      while (true) {
        auto payload = reader.next();
        ASSERT_TRUE(payload);
        if (!*payload) {
          break;
        }
        payloads.push_back(std::move(**payload));
      }
    }
    ASSERT_EQ(payloads.size(), 3U);
    EXPECT_EQ(payloads[2], hello(1000).SerializeAsString());
    EXPECT_EQ(reader.buffered(), 0U);
  }
}

TEST(FrameReader, StaysBrokenAfterATooLongFrame) {
  FrameReader reader(16);
  const std::string frame = *encode_frame(hello(100));
  reader.feed(std::as_bytes(std::span(frame)));
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.next());
}

}  // namespace
}  // namespace tess::wire
