// The frame reader and every message's parser against foreign bytes. Built with libFuzzer
// (TESS_LIBFUZZER) it is a fuzz target; otherwise a test that mutates real streams with a fixed
// seed.
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <random>

#include "wire/agent.pb.h"
#include "wire/cluster.pb.h"
#include "wire/frame.h"
#include "wire/node.pb.h"

namespace {

// Whatever comes, the reader ends, holds no more than it was given, and gives back the same frames
// for every split.
void check_stream(std::span<const std::byte> data, size_t piece) {
  tess::wire::FrameReader reader(1 << 20);
  size_t delivered = 0;
  for (size_t at = 0; at < data.size(); at += piece) {
    reader.feed(data.subspan(at, std::min(piece, data.size() - at)));
    while (true) {
      const auto payload = reader.next();
      if (!payload) {
        return;
      }
      if (!*payload) {
        break;
      }
      delivered += (*payload)->size() + 4;
      const auto bytes = std::as_bytes(std::span(**payload));
      tess::wire::LinkMessage link;
      tess::wire::AgentUp up;
      tess::wire::AgentDown down;
      tess::wire::ClusterMessage cluster;
      (void)tess::wire::decode_payload(bytes, link);
      (void)tess::wire::decode_payload(bytes, up);
      (void)tess::wire::decode_payload(bytes, down);
      (void)tess::wire::decode_payload(bytes, cluster);
    }
  }
  if (delivered + reader.buffered() != data.size()) {
    __builtin_trap();
  }
}

}  // namespace

#ifdef TESS_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 1) {
    check_stream(std::as_bytes(std::span(data + 1, size - 1)), size_t{data[0]} + 1);
  }
  return 0;
}
#else
namespace {

std::string sample_stream() {
  tess::wire::LinkMessage link;
  link.set_operation(7);
  link.mutable_send_image()->set_address("10.0.0.1");
  link.mutable_send_image()->set_token(std::string(32, 'x'));
  tess::wire::AgentUp up;
  auto* process = up.mutable_job_status()->add_process();
  process->set_pid(12);
  process->set_command("sleep 10");
  tess::wire::ClusterMessage cluster;
  cluster.mutable_hello()->set_node("n1");
  return *tess::wire::encode_frame(link) + *tess::wire::encode_frame(up) +
         *tess::wire::encode_frame(cluster);
}

TEST(FrameFuzz, MutatedStreams) {
  google::protobuf::SetLogHandler(nullptr);  // bad UTF-8 would be reported thousands of times
  std::mt19937 random(20240917);
  const std::string sample = sample_stream();
  for (int round = 0; round < 20000; ++round) {
    std::string stream = sample;
    for (unsigned i = random() % 8; i > 0; --i) {
      stream[random() % stream.size()] = static_cast<char>(random());
    }
    stream.resize(random() % (stream.size() + 1));
    check_stream(std::as_bytes(std::span(stream)), random() % 64 + 1);
  }
}

TEST(FrameFuzz, RandomBytes) {
  google::protobuf::SetLogHandler(nullptr);
  std::mt19937 random(7);
  for (int round = 0; round < 5000; ++round) {
    std::string stream(random() % 300, '\0');
    for (char& c : stream) {
      c = static_cast<char>(random() % 4 == 0 ? random() : 0);
    }
    check_stream(std::as_bytes(std::span(stream)), random() % 16 + 1);
  }
}

}  // namespace
#endif
