#include "memory/address_space.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "wire/agent.pb.h"

namespace tess::memory {
namespace {

const Mapping* find(const std::vector<Mapping>& mappings, const void* address) {
  const auto wanted = reinterpret_cast<uint64_t>(address);
  for (const Mapping& mapping : mappings) {
    if (mapping.start <= wanted && wanted < mapping.end) {
      return &mapping;
    }
  }
  return nullptr;
}

TEST(AddressSpace, ParsesEveryKindOfLine) {
  auto parsed = parse_address_space(
      "55e000000000-55e000001000 r-xp 00002000 08:01 1234   /usr/bin/with space\n"
      "Size:                  4 kB\n"
      "VmFlags: rd ex mr mw me hg dc dd wf mg lo\n"
      "7f0000000000-7f0000002000 rw-s 00000000 00:01 77   /dev/zero (deleted)\n"
      "VmFlags: rd wr sh mr mw me ms\n"
      "7f0000002000-7f0000003000 r--s 00001000 fe:00 99   /memfd:tess:fe:0:332383 (deleted)\n"
      "VmFlags: rd sh mr mw me ms\n"
      "7f0000003000-7f0000004000 rw-s 00001000 fe:00 99   /memfd:tess-s:8:11:5 (deleted)\n"
      "7f0000004000-7f0000005000 rw-s 00001000 fe:00 99   /memfd:tess-a:0:1:6 (deleted)\n"
      "7ffd88286000-7ffd882a7000 rw-p 00000000 00:00 0    [stack]\n"
      "VmFlags: rd wr mr mw me gd ac\n"
      "7ffd88300000-7ffd88304000 r--p 00000000 00:00 0    [vvar]\n"
      "7ffd88304000-7ffd88306000 r--p 00000000 00:00 0    [vvar_vclock]\n"
      "7ffd88306000-7ffd88308000 r-xp 00000000 00:00 0    [vdso]\n"
      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n");
  ASSERT_TRUE(parsed) << parsed.error().message();
  const auto& m = *parsed;
  ASSERT_EQ(m.size(), 10u);
  EXPECT_EQ(m[0].kind, MappingKind::kFilePrivate);
  EXPECT_EQ(m[0].path, "/usr/bin/with space");
  EXPECT_EQ(m[0].prot, static_cast<uint32_t>(PROT_READ | PROT_EXEC));
  EXPECT_EQ(m[0].offset, 0x2000u);
  EXPECT_EQ(m[0].inode, 1234u);
  EXPECT_TRUE(m[0].locked);
  EXPECT_EQ(m[0].madvise,
            static_cast<uint32_t>(kAdviseHugepage | kAdviseDontFork | kAdviseDontDump |
                                  kAdviseWipeOnFork | kAdviseMergeable));
  EXPECT_EQ(m[0].traits, 0u) << "may-write says nothing of a private mapping";
  EXPECT_EQ(m[1].kind, MappingKind::kAnonShared);
  EXPECT_EQ(m[1].traits, static_cast<uint32_t>(kTraitMayWrite));
  EXPECT_EQ(m[2].kind, MappingKind::kFileShared);
  EXPECT_EQ(m[2].dev_major, 0xfeu);
  EXPECT_EQ(m[2].inode, 332383u);
  EXPECT_EQ(m[2].traits, 0u);
  EXPECT_EQ(m[3].kind, MappingKind::kFileShared);
  EXPECT_EQ(m[3].dev_minor, 0x11u);
  EXPECT_EQ(m[4].kind, MappingKind::kAnonShared);
  EXPECT_EQ(m[4].inode, 6u);
  EXPECT_EQ(m[5].kind, MappingKind::kAnon);
  EXPECT_NE(m[5].flags & MAP_GROWSDOWN, 0u);
  EXPECT_EQ(m[6].kind, MappingKind::kVvar);
  EXPECT_EQ(m[7].kind, MappingKind::kVvar);
  EXPECT_EQ(m[8].kind, MappingKind::kVdso);
  EXPECT_EQ(m[9].kind, MappingKind::kVsyscall);
}

TEST(AddressSpace, RefusesLinesThatMakeNoSense) {
  for (const char* text : {"nonsense\n", "10-5 rw-p 0 0:0 0\n", "1000-2000 rw\n", "1000\n"}) {
    auto parsed = parse_address_space(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().kind(), ErrorKind::kBadInput);
  }
}

TEST(AddressSpace, SeesWhatThisProcessMaps) {
  const size_t size = 16 * kPageSize;
  void* noreserve =
      ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  void* advised = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_EQ(::madvise(advised, size, MADV_DONTFORK), 0);
  void* shared = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const int fd = ::open("/proc/self/exe", O_RDONLY);
  void* read_only = ::mmap(nullptr, kPageSize, PROT_READ, MAP_SHARED, fd, kPageSize);
  auto mappings = read_address_space(::getpid());
  ASSERT_TRUE(mappings) << mappings.error().message();
  ASSERT_TRUE(std::is_sorted(mappings->begin(), mappings->end(),
                             [](const auto& a, const auto& b) { return a.start < b.start; }));
  EXPECT_NE(find(*mappings, noreserve)->flags & MAP_NORESERVE, 0u);
  EXPECT_EQ(find(*mappings, advised)->madvise, static_cast<uint32_t>(kAdviseDontFork));
  EXPECT_EQ(find(*mappings, shared)->kind, MappingKind::kAnonShared);
  const Mapping* file = find(*mappings, read_only);
  EXPECT_EQ(file->kind, MappingKind::kFileShared);
  EXPECT_EQ(file->offset, kPageSize);
  EXPECT_EQ(file->traits & kTraitMayWrite, 0u);
  const auto break_before = reinterpret_cast<uint64_t>(::sbrk(0));
  auto fields = read_mm_fields(::getpid());
  ASSERT_TRUE(fields) << fields.error().message();
  EXPECT_EQ(find(*mappings, reinterpret_cast<void*>(fields->start_stack))->path, "[stack]");
  EXPECT_LT(fields->start_code, fields->end_code);
  EXPECT_LT(fields->arg_start, fields->arg_end);
  EXPECT_GE(break_before, fields->start_brk);
  EXPECT_GE(fields->brk, break_before);
  EXPECT_GE(fields->auxv.size(), 32u);
  ::munmap(noreserve, size);
  ::munmap(advised, size);
  ::munmap(shared, size);
  ::munmap(read_only, kPageSize);
  ::close(fd);
}

TEST(AddressSpace, AProcessThatIsGoneIsDisconnected) {
  auto mappings = read_address_space(0x3fffffff);
  ASSERT_FALSE(mappings);
  EXPECT_EQ(mappings.error().kind(), ErrorKind::kDisconnected);
}

TEST(AddressSpace, CutsARangeOut) {
  Mapping file;
  file.start = 0x10000;
  file.end = 0x20000;
  file.offset = 0x3000;
  file.kind = MappingKind::kFilePrivate;
  const auto rest = without_range(std::span(&file, 1), 0x12000, 0x18000);
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest[0].end, 0x12000u);
  EXPECT_EQ(rest[1].start, 0x18000u);
  EXPECT_EQ(rest[1].offset, 0xb000u);
  EXPECT_TRUE(without_range(std::span(&file, 1), 0, 0x30000).empty());
  EXPECT_EQ(without_range(std::span(&file, 1), 0x20000, 0x30000).size(), 1u);
}

TEST(AddressSpace, GoesOverTheWireUnchanged) {
  auto mappings = read_address_space(::getpid());
  ASSERT_TRUE(mappings);
  wire::ProcessImage image;
  image.set_region_base(0x2b0000000000);
  for (Mapping& mapping : *mappings) {
    mapping.traits = 0;
    to_wire(mapping, *image.add_vmas());
  }
  auto back = mappings_of(image);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(*back, *mappings);
}

TEST(AddressSpace, RefusesImpossibleImages) {
  const auto refuses = [](auto&& change) {
    wire::ProcessImage image;
    image.set_region_base(0x2b0000000000);
    for (uint64_t start : {0x10000, 0x20000}) {
      wire::Vma& vma = *image.add_vmas();
      vma.set_start(start);
      vma.set_end(start + 0x1000);
    }
    EXPECT_TRUE(mappings_of(image));
    change(image);
    auto mappings = mappings_of(image);
    return !mappings && mappings.error().kind() == ErrorKind::kBadInput;
  };
  EXPECT_TRUE(refuses([](auto& i) { i.mutable_vmas(0)->set_end(0x20001000); }));
  EXPECT_TRUE(refuses([](auto& i) { i.mutable_vmas(0)->set_start(0x10010); }));
  EXPECT_TRUE(refuses([](auto& i) { i.mutable_vmas(0)->set_end(0x10000); }));
  EXPECT_TRUE(refuses([](auto& i) { i.mutable_vmas(1)->set_end(0x800000000000); }));
  EXPECT_TRUE(refuses([](auto& i) { i.mutable_vmas(1)->set_offset(12); }));
  EXPECT_TRUE(refuses([](auto& i) { i.mutable_vmas(1)->set_content_hash("short"); }));
  EXPECT_TRUE(refuses([](auto& i) { i.set_region_base(0x10000); }));
  EXPECT_TRUE(
      refuses([](auto& i) { i.mutable_vmas(0)->set_kind(static_cast<wire::Vma::Kind>(99)); }));
}

}  // namespace
}  // namespace tess::memory
