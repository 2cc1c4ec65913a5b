// Memory that stands for one object at home (a file, shared anonymous memory) and that bodies map
// shared: the memory itself, and what home is known to have, page by page, so that what bodies have
// changed can be told without asking the kernel for it. Not thread-safe. docs/adr/0005.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::memory {

class SharedFile {
 public:
  // `name` as body_file_name gives it. `size` is the object's: beyond it there is no memory.
  static Result<SharedFile> create(const std::string& name, uint64_t size);

  const sys::Fd& fd() const { return fd_; }
  uint64_t size() const { return size_; }

  // True if the content of [offset, offset + size), as far as the object reaches, has been filled.
  bool knows(uint64_t offset, uint64_t size) const;
  std::vector<std::pair<uint64_t, uint64_t>> known_ranges() const {  // start and end
    return {known_.begin(), known_.end()};
  }
  // Home's content of [offset, offset + size): the runs, and zeros between them. What bodies have
  // changed meanwhile stays. Offsets of runs are multiples of a page, runs lie within the range.
  struct Run {
    uint64_t offset;
    std::span<const std::byte> data;
  };
  Result<> fill(uint64_t offset, uint64_t size, std::span<const Run> runs);
  // These bytes have been written at home; wherever they are, whatever their number.
  Result<> update(uint64_t offset, std::span<const std::byte> bytes);
  // The object has another size now.
  Result<> resize(uint64_t size);

  // Gives every page of [offset, offset + size) that differs from what home has, in stretches of at
  // most `run_max` bytes, and takes it for granted that home gets it. The last page ends with the
  // object.
  using Take = std::function<Result<>(uint64_t offset, std::span<const std::byte> bytes)>;
  static constexpr uint64_t kToTheEnd = ~uint64_t{0};
  Result<> collect(uint64_t run_max, const Take& take, uint64_t offset = 0,
                   uint64_t size = kToTheEnd);

  // Stretches of the file that may hold data.
  using Extents = std::vector<std::pair<uint64_t, uint64_t>>;
  static Extents data_extents(const sys::Fd& fd, uint64_t from, uint64_t to);

 private:
  using Hash = std::pair<uint64_t, uint64_t>;
  class Collector;

  SharedFile(sys::Fd fd, uint64_t size) : fd_(std::move(fd)), size_(size) {}
  static std::optional<Hash> hash_page(std::span<const std::byte> page);  // nullopt: all zero
  std::optional<Hash> recorded(uint64_t page) const;
  void record(uint64_t page, std::optional<Hash> hash);
  Result<> fill_page(uint64_t page, std::span<const std::byte> content, bool fresh);
  Result<> update_page(uint64_t offset, std::span<const std::byte> bytes);
  Result<> read_page(uint64_t page, std::span<std::byte> into) const;
  Result<> write(uint64_t offset, std::span<const std::byte> bytes);
  Result<> collect_holes(uint64_t from, uint64_t to, const Extents& extents, Collector& dirty);
  void add_known(uint64_t offset, uint64_t end);
  bool page_known(uint64_t page) const;

  sys::Fd fd_;
  uint64_t size_;
  std::map<uint64_t, uint64_t> known_;        // filled ranges, start to end
  std::unordered_map<uint64_t, Hash> pages_;  // what home has; a page that is not here is zero
};

}  // namespace tess::memory
