// Big-endian bytes, written into and read from a span with every bound checked. ByteWriter: the
// caller asks room() first; overrunning is our bug. ByteReader: foreign bytes; beyond the end it
// gives zeros and failed() says so.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"

namespace tess::cluster {

using Bytes = std::span<const uint8_t>;

class ByteWriter {
 public:
  explicit ByteWriter(std::span<uint8_t> out) : out_(out) {}

  void u8(uint8_t v) { number(v, 1); }
  void u16(uint16_t v) { number(v, 2); }
  void u24(uint32_t v) { number(v, 3); }
  void u32(uint32_t v) { number(v, 4); }
  void u40(uint64_t v) { number(v, 5); }
  void u48(uint64_t v) { number(v, 6); }
  void u64(uint64_t v) { number(v, 8); }
  void bytes(Bytes data) {
    TESS_CHECK(data.size() <= room(), "{} bytes into {}", data.size(), room());
    std::copy(data.begin(), data.end(), out_.begin() + static_cast<ptrdiff_t>(size_));
    size_ += data.size();
  }
  size_t size() const { return size_; }
  size_t room() const { return out_.size() - size_; }
  Bytes written() const { return out_.first(size_); }
  void overwrite_u8(size_t at, uint8_t v) {
    TESS_CHECK(at < size_, "at {} of {}", at, size_);
    out_[at] = v;
  }

 private:
  void number(uint64_t v, size_t width) {
    TESS_CHECK(width <= room(), "{} bytes into {}", width, room());
    for (size_t i = 0; i < width; ++i) {
      out_[size_ + i] = static_cast<uint8_t>(v >> (8 * (width - 1 - i)));
    }
    size_ += width;
  }

  std::span<uint8_t> out_;
  size_t size_ = 0;
};

class ByteReader {
 public:
  explicit ByteReader(Bytes in) : in_(in) {}

  uint8_t u8() { return static_cast<uint8_t>(number(1)); }
  uint16_t u16() { return static_cast<uint16_t>(number(2)); }
  uint32_t u24() { return static_cast<uint32_t>(number(3)); }
  uint32_t u32() { return static_cast<uint32_t>(number(4)); }
  uint64_t u40() { return number(5); }
  uint64_t u48() { return number(6); }
  uint64_t u64() { return number(8); }
  // Empty if there are fewer.
  Bytes bytes(size_t count) {
    if (count > left()) {
      fail();
      return {};
    }
    const Bytes out = in_.subspan(at_, count);
    at_ += count;
    return out;
  }
  size_t left() const { return in_.size() - at_; }
  bool failed() const { return failed_; }
  void fail() {
    failed_ = true;
    at_ = in_.size();
  }

 private:
  uint64_t number(size_t width) {
    if (width > left()) {
      fail();
      return 0;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < width; ++i) {
      v = v << 8 | in_[at_ + i];
    }
    at_ += width;
    return v;
  }

  Bytes in_;
  size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace tess::cluster
