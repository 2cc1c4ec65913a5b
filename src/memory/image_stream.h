// A migration stream after its AgentHello, both ends. The order, every message one frame
// (wire/frame.h):
//   source: ProcessImage
//   target: WantFiles (indices into image.vmas, rising; a home target wants none)
//   source: for each wanted vma PageRuns with the file's clean bytes at the addresses of the vma,
//   then one PageRun of byte_count 0;
//           then PageRuns with the pages of the process; then PagesEnd
//   target: PagesEnd with the bytes it has taken, as receipt; the source then knows that the stream
//   was read to its end, and how fast
// A PageRun is followed by `stored_count` raw bytes that unpack (codec) to `byte_count`.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "memory/address_space.h"
#include "memory/page_sink.h"
#include "wire/byte_stream.h"

namespace tess::memory {

inline constexpr uint32_t kRunMax = 1 << 20;
inline constexpr std::chrono::seconds kStreamTimeout{30};  // without progress

// What went through a connection while its reader was reading: not what had come before, while the
// target was busy with something else, nor the time that took. In bytes on the wire.
struct Flow {
  uint64_t bytes = 0;
  std::chrono::nanoseconds time{0};

  void add(const Flow& more) {
    bytes += more.bytes;
    time += more.time;
  }
};

struct StreamStats {
  uint64_t page_bytes = 0;    // bytes of process memory carried
  uint64_t file_bytes = 0;    // bytes of clean file content carried
  uint64_t stored_bytes = 0;  // what these took on the wire
  uint64_t reused_bytes = 0;  // clean file bytes the target had already
  Flow flow;                  // both ends have that of the target; nothing if it does not say
};

enum class Compression { kNever, kAlways, kAdaptive };

// ---- source ----
// Fills content_hash of private file mappings, and of shared ones that nobody can write, from the
// files behind /proc/PID/map_files: their clean pages are then not pages of the process.
// `cache_dir` keeps hashes by file identity; empty: no cache. A file that cannot be read stays
// without a hash, and all its pages travel with the process.
Result<> hash_file_content(pid_t pid, std::span<Mapping> mappings, const std::string& cache_dir);
// Instead of it when the target is home, which has every file: marks the same mappings without
// reading them.
void mark_clean_at_home(std::span<Mapping> mappings);

// The whole exchange. The process is parked; `image.vmas` is what read_address_space said, without
// the stub region, after one of the two calls above.
Result<StreamStats> send_image(wire::ByteStream& stream, pid_t pid, const wire::ProcessImage& image,
                               Compression compression = Compression::kAdaptive);

// ---- target ----
Result<> receive_header(wire::ByteStream& stream, wire::ProcessImage& image);
Result<> send_want(wire::ByteStream& stream, std::span<const uint32_t> vma_indices);
// Gives the bytes of each wanted vma in order. Only when something was wanted or not: must be
// called once in any case.
using ContentTaker =
    std::function<Result<>(uint32_t vma_index, uint64_t offset_in_vma, std::span<const std::byte>)>;
Result<StreamStats> receive_content(wire::ByteStream& stream, const wire::ProcessImage& image,
                                    std::span<const uint32_t> wanted, const ContentTaker& take);
// Runs outside the image's vmas are kBadInput. Sends the receipt at the end; `before` is what
// flowed until then, of file content.
Result<StreamStats> receive_pages(wire::ByteStream& stream, const wire::ProcessImage& image,
                                  PageSink& sink, const Flow& before = {});

}  // namespace tess::memory
