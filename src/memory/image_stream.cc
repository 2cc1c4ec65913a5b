#include "memory/image_stream.h"

#include <fcntl.h>
#include <lz4.h>
#include <unistd.h>

#include <algorithm>

#include "memory/content_hash.h"
#include "memory/page_source.h"
#include "memory/proc_file.h"
#include "wire/agent.pb.h"
#include "wire/frame.h"

namespace tess::memory {
namespace {

using Clock = std::chrono::steady_clock;
constexpr wire::Timeout kTimeout = kStreamTimeout;
constexpr uint32_t kCodecRaw = 0;
constexpr uint32_t kCodecLz4 = 1;
constexpr uint32_t kFrameSmall = 1 << 20;  // WantFiles of 100,000 mappings

bool has_clean_content(const Mapping& mapping) {
  return (mapping.traits & kTraitDevice) == 0 && mapping.kind == MappingKind::kFilePrivate;
}

Result<sys::Fd> open_mapped_file(pid_t pid, const Mapping& mapping) {
  return open_proc(pid, fmt::format("map_files/{:x}-{:x}", mapping.start, mapping.end), O_RDONLY);
}

// Writes runs, compressing them when that is the faster way over this connection.
class RunWriter {
 public:
  RunWriter(wire::ByteStream& stream, Compression compression)
      : stream_(stream), compression_(compression) {}

  Result<> write(uint64_t address, std::span<const std::byte> bytes) {
    wire::PageRun run;
    run.set_address(address);
    run.set_byte_count(bytes.size());
    run.set_codec(kCodecRaw);
    std::span<const std::byte> stored = bytes;
    if (wants_compression(bytes.size())) {
      const auto start = Clock::now();
      packed_.resize(static_cast<size_t>(LZ4_compressBound(static_cast<int>(bytes.size()))));
      const int packed = LZ4_compress_default(
          reinterpret_cast<const char*>(bytes.data()), reinterpret_cast<char*>(packed_.data()),
          static_cast<int>(bytes.size()), static_cast<int>(packed_.size()));
      pack_time_ += Clock::now() - start;
      pack_in_ += bytes.size();
      pack_out_ += packed > 0 ? static_cast<uint64_t>(packed) : bytes.size();
      if (packed > 0 && static_cast<size_t>(packed) < bytes.size() / 8 * 7) {
        run.set_codec(kCodecLz4);
        stored = std::span(packed_).first(static_cast<size_t>(packed));
      }
    }
    run.set_stored_count(stored.size());
    TESS_TRY_ASSIGN(const std::string head, wire::encode_frame(run));
    buffer_ += head;
    if (stored.size() < kGather) {
      buffer_.append(reinterpret_cast<const char*>(stored.data()), stored.size());
      stored = {};
    }
    ++runs_;
    if (stored.empty() && buffer_.size() < kGather) {
      return {};
    }
    TESS_TRY(flush());
    return send(stored);
  }

  Result<> end_section() {
    TESS_TRY_ASSIGN(const std::string end, wire::encode_frame(wire::PageRun()));
    buffer_ += end;
    return flush();
  }
  uint64_t written() const { return written_; }

 private:
  // Small runs travel together: scattered pages would otherwise cost two writes each.
  static constexpr size_t kGather = 256 << 10;

  Result<> flush() {
    TESS_TRY(send(std::as_bytes(std::span(buffer_))));
    buffer_.clear();
    return {};
  }
  Result<> send(std::span<const std::byte> bytes) {
    const auto start = Clock::now();
    TESS_TRY(stream_.write_all(bytes, kTimeout));
    write_time_ += Clock::now() - start;
    written_ += bytes.size();
    return {};
  }

  // Bytes per second that compression would have to beat is what the connection takes: measured on
  // the first 8 MiB. From then on, one run in 16 is tried even when it did not pay before, as data
  // changes.
  bool wants_compression(size_t size) const {
    if (compression_ != Compression::kAdaptive || size < 2 * kPageSize) {
      return compression_ == Compression::kAlways && size > 0;
    }
    if (written_ < (8u << 20)) {
      return false;
    }
    if (pack_in_ == 0 || runs_ % 16 == 0) {
      return true;
    }
    const double wire_rate = static_cast<double>(written_) / seconds(write_time_);
    const double pack_rate = static_cast<double>(pack_in_) / seconds(pack_time_);
    const double left = static_cast<double>(pack_out_) / static_cast<double>(pack_in_);
    return 1.0 / pack_rate + left / wire_rate < 0.9 / wire_rate;
  }
  static double seconds(Clock::duration time) {
    return std::max(1e-9, std::chrono::duration<double>(time).count());
  }

  wire::ByteStream& stream_;
  Compression compression_;
  std::vector<std::byte> packed_;
  std::string buffer_;
  Clock::duration pack_time_{}, write_time_{};
  uint64_t pack_in_ = 0, pack_out_ = 0, written_ = 0, runs_ = 0;
};

class RunReader {
 public:
  explicit RunReader(wire::ByteStream& stream) : stream_(stream), early_(stream.unread()) {}

  // Reads one run; an empty span ends the section.
  Result<std::span<const std::byte>> next(uint64_t& address) {
    wire::PageRun run;
    TESS_TRY(wire::read_frame(stream_, run, kTimeout, 4096));
    address = run.address();
    if (run.byte_count() == 0) {
      return std::span<const std::byte>{};
    }
    if (run.byte_count() > kRunMax || run.stored_count() > run.byte_count() ||
        run.stored_count() == 0 ||
        (run.codec() == kCodecRaw && run.stored_count() != run.byte_count()) ||
        run.codec() > kCodecLz4) {
      return fail(ErrorKind::kBadInput, "the stream has an impossible page run at {:x}", address);
    }
    stored_.resize(run.stored_count());
    TESS_TRY(stream_.read_exact(stored_, kTimeout));
    stored_total_ += stored_.size();
    if (run.codec() == kCodecRaw) {
      return std::span<const std::byte>(stored_);
    }
    unpacked_.resize(run.byte_count());
    const int got = LZ4_decompress_safe(
        reinterpret_cast<const char*>(stored_.data()), reinterpret_cast<char*>(unpacked_.data()),
        static_cast<int>(stored_.size()), static_cast<int>(unpacked_.size()));
    if (got != static_cast<int>(run.byte_count())) {
      return fail(ErrorKind::kBadInput, "a compressed page run at {:x} does not unpack", address);
    }
    return std::span<const std::byte>(unpacked_);
  }
  uint64_t stored_total() const { return stored_total_; }
  // Since this was made.
  Flow flow() const {
    const uint64_t flowed = stored_total_ - std::min<uint64_t>(stored_total_, early_);
    return flowed == 0 ? Flow{} : Flow{flowed, Clock::now() - start_};
  }

 private:
  wire::ByteStream& stream_;
  const Clock::time_point start_ = Clock::now();
  const size_t early_;
  std::vector<std::byte> stored_, unpacked_;
  uint64_t stored_total_ = 0;
};

Result<uint64_t> send_file_range(RunWriter& writer, pid_t pid, const Mapping& mapping) {
  TESS_TRY_ASSIGN(const sys::Fd file, open_mapped_file(pid, mapping));
  std::vector<std::byte> buffer(std::min<uint64_t>(mapping.size(), kRunMax));
  uint64_t done = 0;
  while (done < mapping.size()) {
    const ssize_t n =
        ::pread(file.get(), buffer.data(), std::min<uint64_t>(buffer.size(), mapping.size() - done),
                static_cast<off_t>(mapping.offset + done));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("read {}", mapping.path);
    }
    if (n == 0) {
      break;  // the file ends inside the mapping
    }
    TESS_TRY(writer.write(mapping.start + done, std::span(buffer).first(static_cast<size_t>(n))));
    done += static_cast<uint64_t>(n);
  }
  return done;
}

// What the target says of it; it cannot have got more than was sent.
Flow believable_flow(const wire::PagesEnd& receipt, uint64_t sent) {
  constexpr uint64_t kLongest = uint64_t{86'400} * 1'000'000'000;
  const bool makes_sense = receipt.flow_bytes() <= sent && receipt.flow_ns() <= kLongest;
  return makes_sense ? Flow{receipt.flow_bytes(), std::chrono::nanoseconds(receipt.flow_ns())}
                     : Flow{};
}

}  // namespace

Result<> hash_file_content(pid_t pid, std::span<Mapping> mappings, const std::string& cache_dir) {
  const ContentHasher hasher(cache_dir);
  for (Mapping& mapping : mappings) {
    mapping.content_hash.clear();
    if (!has_clean_content(mapping)) {
      continue;
    }
    auto file = open_mapped_file(pid, mapping);
    if (!file) {
      if (file.error().kind() == ErrorKind::kDisconnected) {
        return tl::unexpected(std::move(file.error()));
      }
      continue;
    }
    auto hash = hasher.hash(*file, mapping.offset, mapping.size());
    if (hash) {
      mapping.content_hash = hash->hash;
    }
  }
  return {};
}

void mark_clean_at_home(std::span<Mapping> mappings) {
  for (Mapping& mapping : mappings) {
    if (has_clean_content(mapping)) {
      mapping.content_hash.assign(32, '\0');
    }
  }
}

Result<StreamStats> send_image(wire::ByteStream& stream, pid_t pid, const wire::ProcessImage& image,
                               Compression compression) {
  TESS_TRY_ASSIGN(const std::vector<Mapping> mappings, mappings_of(image));
  TESS_TRY(wire::write_frame(stream, image, kTimeout));
  wire::WantFiles want;
  TESS_TRY(wire::read_frame(stream, want, kTimeout, kFrameSmall));
  StreamStats stats;
  RunWriter writer(stream, compression);
  int64_t last = -1;
  for (const uint32_t index : want.vma_index()) {
    if (index >= mappings.size() || index <= last || mappings[index].content_hash.empty()) {
      return fail(ErrorKind::kBadInput, "the target wants the file of mapping {} of {}", index,
                  mappings.size());
    }
    last = index;
    TESS_TRY_ASSIGN(const uint64_t sent, send_file_range(writer, pid, mappings[index]));
    stats.file_bytes += sent;
  }
  TESS_TRY(writer.end_section());
  TESS_TRY_ASSIGN(const PageSource source, PageSource::open(pid));
  for (const Mapping& mapping : mappings) {
    if (mapping.shared() && mapping.content_hash.empty()) {
      continue;  // travels by itself, once for all that map it: docs/adr/0005
    }
    TESS_TRY(source.read_pages(mapping, kRunMax,
                               [&](uint64_t address, std::span<const std::byte> pages) {
                                 stats.page_bytes += pages.size();
                                 return writer.write(address, pages);
                               }));
    if (!mapping.content_hash.empty()) {
      stats.reused_bytes += mapping.size();
    }
  }
  TESS_TRY(writer.end_section());
  stats.reused_bytes -= std::min(stats.reused_bytes, stats.file_bytes);
  stats.stored_bytes = writer.written();
  wire::PagesEnd end;
  end.set_total_bytes(stats.page_bytes);
  TESS_TRY(wire::write_frame(stream, end, kTimeout));
  wire::PagesEnd receipt;
  TESS_TRY(wire::read_frame(stream, receipt, kTimeout, kFrameSmall));
  if (receipt.total_bytes() != stats.page_bytes) {
    return fail(ErrorKind::kBadInput, "the target took {} bytes of pages of {}",
                receipt.total_bytes(), stats.page_bytes);
  }
  stats.flow = believable_flow(receipt, stats.stored_bytes);
  return stats;
}

Result<> receive_header(wire::ByteStream& stream, wire::ProcessImage& image) {
  return wire::read_frame(stream, image, kTimeout);
}

Result<> send_want(wire::ByteStream& stream, std::span<const uint32_t> vma_indices) {
  wire::WantFiles want;
  want.mutable_vma_index()->Add(vma_indices.begin(), vma_indices.end());
  return wire::write_frame(stream, want, kTimeout);
}

Result<StreamStats> receive_content(wire::ByteStream& stream, const wire::ProcessImage& image,
                                    std::span<const uint32_t> wanted, const ContentTaker& take) {
  TESS_TRY_ASSIGN(const std::vector<Mapping> mappings, mappings_of(image));
  StreamStats stats;
  RunReader reader(stream);
  size_t at = 0;  // in wanted
  while (true) {
    uint64_t address = 0;
    TESS_TRY_ASSIGN(const std::span<const std::byte> bytes, reader.next(address));
    if (bytes.empty()) {
      break;
    }
    while (at < wanted.size() && address >= mappings[wanted[at]].end) {
      ++at;
    }
    if (at == wanted.size() || address < mappings[wanted[at]].start ||
        bytes.size() > mappings[wanted[at]].end - address) {
      return fail(ErrorKind::kBadInput, "the stream has file content at {:x} that nobody wanted",
                  address);
    }
    TESS_TRY(take(wanted[at], address - mappings[wanted[at]].start, bytes));
    stats.file_bytes += bytes.size();
  }
  stats.stored_bytes = reader.stored_total();
  stats.flow = reader.flow();
  for (const Mapping& mapping : mappings) {
    stats.reused_bytes += mapping.content_hash.empty() ? 0 : mapping.size();
  }
  for (const uint32_t index : wanted) {
    stats.reused_bytes -= mappings[index].size();
  }
  return stats;
}

Result<StreamStats> receive_pages(wire::ByteStream& stream, const wire::ProcessImage& image,
                                  PageSink& sink, const Flow& before) {
  TESS_TRY_ASSIGN(const std::vector<Mapping> mappings, mappings_of(image));
  StreamStats stats;
  RunReader reader(stream);
  while (true) {
    uint64_t address = 0;
    TESS_TRY_ASSIGN(const std::span<const std::byte> pages, reader.next(address));
    if (pages.empty()) {
      break;
    }
    const auto mapping =
        std::upper_bound(mappings.begin(), mappings.end(), address,
                         [](uint64_t value, const Mapping& m) { return value < m.end; });
    if (mapping == mappings.end() || address < mapping->start ||
        pages.size() > mapping->end - address || mapping->special() ||
        (address | pages.size()) % kPageSize != 0) {
      return fail(ErrorKind::kBadInput, "the stream has pages at {:x} outside every mapping",
                  address);
    }
    TESS_TRY(sink.put(address, pages));
    stats.page_bytes += pages.size();
  }
  stats.stored_bytes = reader.stored_total();
  stats.flow = before;
  stats.flow.add(reader.flow());
  wire::PagesEnd end;
  TESS_TRY(wire::read_frame(stream, end, kTimeout, 4096));
  if (end.total_bytes() != stats.page_bytes) {
    return fail(ErrorKind::kBadInput, "the source sent {} bytes of pages, {} arrived",
                end.total_bytes(), stats.page_bytes);
  }
  end.set_flow_bytes(stats.flow.bytes);
  end.set_flow_ns(static_cast<uint64_t>(stats.flow.time.count()));
  TESS_TRY(wire::write_frame(stream, end, kTimeout));
  return stats;
}

}  // namespace tess::memory
