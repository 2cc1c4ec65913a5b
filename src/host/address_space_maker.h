// Turns the address space of a blank body into that of an image: everything of the agent's away,
// this machine's vDSO aside, the image's mappings in place and empty. The body is parked; no
// seccomp filter is in force yet.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "host/batch.h"
#include "host/file_content.h"
#include "host/shared_memory.h"
#include "memory/address_space.h"
#include "memory/page_sink.h"
#include "stub/session.h"

namespace tess::host {

// Where the host's vDSO waits, in the hole between the control block and the slots.
inline constexpr uint64_t kVdsoParkOffset = stub::kControlOffset + (128 << 10);
// Descriptors of mapped files while they are needed: above every channel.
inline constexpr int kTemporaryFd = 5000;

class AddressSpaceMaker {
 public:
  struct Contents {
    FileContent& files;
    SharedMemory& shared;
  };
  // `pid` is the body's here, `home_pid` as the application sees it.
  AddressSpaceMaker(stub::Session& session, pid_t pid, int32_t home_pid, Contents contents,
                    std::span<const memory::Mapping> image);

  // Unmaps all but the region and parks this machine's vDSO in it.
  Result<> clear();
  // The vDSO that the process knows, at its old address.
  Result<> restore_vdso(const std::string& home_vdso, bool force_patch);
  // All other mappings, with their final protection.
  Result<> map_all();
  // Registers what can be filled through a userfaultfd.
  void register_all(memory::ProcessSink& sink) const;
  // Takes the right to write from what has lost it; after the pages, without which the kernel would
  // forget that it once was there.
  Result<> protect();
  // madvise and mlock; after the pages. The starts of mappings that this node does not lock.
  std::vector<uint64_t> advise_all();

 private:
  struct SharedFile {
    sys::Fd fd;
    std::vector<const memory::Mapping*> mappings;
  };
  Result<> map_anonymous();
  Result<> map_files();
  Result<> collect_files(std::vector<SharedFile>& files);
  Result<SharedFile*> live_file(const memory::Mapping& mapping, std::vector<SharedFile>& files);
  Result<> add_own_memory(const memory::Mapping& mapping, std::vector<SharedFile>& files);
  Result<> map_files_of(std::span<const SharedFile> files);

  stub::Session& session_;
  pid_t pid_;
  int32_t home_pid_;
  Contents contents_;
  std::span<const memory::Mapping> image_;
  std::vector<memory::Mapping> host_vdso_;  // where it is now
};

}  // namespace tess::host
