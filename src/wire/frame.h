// Frames: a u32 big-endian length, then that many bytes of one serialized protobuf message; at most
// kFrameMax bytes. write_frame and read_frame block on a ByteStream (worker threads, tests);
// FrameReader takes bytes as they come and gives whole payloads (event loops). A length beyond the
// limit or a payload that does not parse is kBadInput: drop the peer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "wire/byte_stream.h"

namespace google::protobuf {
class MessageLite;
}

namespace tess::wire {

inline constexpr uint32_t kFrameMax = 64 << 20;

// The message with its length in front. kBadInput if it is larger than kFrameMax.
Result<std::string> encode_frame(const google::protobuf::MessageLite& message);
// Parses a payload (without the length).
Result<> decode_payload(std::span<const std::byte> payload, google::protobuf::MessageLite& message);

Result<> write_frame(ByteStream& stream, const google::protobuf::MessageLite& message,
                     Timeout timeout);
// Reads one frame and nothing beyond it. kDisconnected at a clean end of file as well as in the
// middle.
Result<> read_frame(ByteStream& stream, google::protobuf::MessageLite& message, Timeout timeout,
                    uint32_t max_size = kFrameMax);

// Takes bytes in pieces of any size. Memory grows with what has arrived, never with what a length
// promises.
class FrameReader {
 public:
  explicit FrameReader(uint32_t max_size = kFrameMax) : max_size_(max_size) {}
  void feed(std::span<const std::byte> bytes);
  // Next whole payload, nullopt if more bytes are needed. After kBadInput the reader stays broken.
  Result<std::optional<std::string>> next();
  size_t buffered() const { return buffer_.size() - start_; }

 private:
  std::string buffer_;
  size_t start_ = 0;  // consumed bytes at the front of buffer_
  uint32_t max_size_;
};

}  // namespace tess::wire
