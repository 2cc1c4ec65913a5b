#include "wire/frame.h"

#include <google/protobuf/message_lite.h>

#include <algorithm>

namespace tess::wire {
namespace {

constexpr size_t kHeaderSize = 4;
constexpr size_t kReadPiece = 1 << 20;

uint32_t decode_length(const char* bytes) {
  const auto* b = reinterpret_cast<const unsigned char*>(bytes);
  return uint32_t{b[0]} << 24 | uint32_t{b[1]} << 16 | uint32_t{b[2]} << 8 | uint32_t{b[3]};
}

tl::unexpected<Error> too_long(uint32_t length, uint32_t max_size) {
  return fail(ErrorKind::kBadInput, "a frame of {} bytes, at most {} are allowed", length,
              max_size);
}

}  // namespace

Result<std::string> encode_frame(const google::protobuf::MessageLite& message) {
  const size_t size = message.ByteSizeLong();
  if (size > kFrameMax) {
    return fail(ErrorKind::kBadInput, "message of {} bytes does not fit into a frame", size);
  }
  std::string frame(kHeaderSize + size, '\0');
  for (size_t i = 0; i < kHeaderSize; ++i) {
    frame[i] = static_cast<char>(size >> (24 - 8 * i));
  }
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(frame.data() + kHeaderSize));
  return frame;
}

Result<> decode_payload(std::span<const std::byte> payload,
                        google::protobuf::MessageLite& message) {
  if (!message.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return fail(ErrorKind::kBadInput, "{} bytes are not a {}", payload.size(),
                message.GetTypeName());
  }
  return {};
}

Result<> write_frame(ByteStream& stream, const google::protobuf::MessageLite& message,
                     Timeout timeout) {
  TESS_TRY_ASSIGN(const std::string frame, encode_frame(message));
  return stream.write_all(std::as_bytes(std::span(frame)), timeout);
}

Result<> read_frame(ByteStream& stream, google::protobuf::MessageLite& message, Timeout timeout,
                    uint32_t max_size) {
  char header[kHeaderSize];
  TESS_TRY(stream.read_exact(std::as_writable_bytes(std::span(header)), timeout));
  const uint32_t length = decode_length(header);
  if (length > max_size) {
    return too_long(length, max_size);
  }
  // In pieces: a peer that promises 64 MiB and sends nothing costs 1 MiB.
  std::string payload;
  while (payload.size() < length) {
    const size_t old_size = payload.size();
    payload.resize(old_size + std::min<size_t>(kReadPiece, length - old_size));
    TESS_TRY(
        stream.read_exact(std::as_writable_bytes(std::span(payload).subspan(old_size)), timeout));
  }
  return decode_payload(std::as_bytes(std::span(payload)), message);
}

void FrameReader::feed(std::span<const std::byte> bytes) {
  if (start_ == buffer_.size()) {
    buffer_.clear();
    start_ = 0;
  } else if (start_ > buffer_.size() / 2) {
    buffer_.erase(0, start_);
    start_ = 0;
  }
  buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<std::optional<std::string>> FrameReader::next() {
  if (buffered() < kHeaderSize) {
    return std::nullopt;
  }
  const uint32_t length = decode_length(buffer_.data() + start_);
  if (length > max_size_) {
    return too_long(length, max_size_);
  }
  if (buffered() - kHeaderSize < length) {
    return std::nullopt;
  }
  std::string payload = buffer_.substr(start_ + kHeaderSize, length);
  start_ += kHeaderSize + length;
  return payload;
}

}  // namespace tess::wire
