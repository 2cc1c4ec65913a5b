// The seccomp filter of a body, made from the table. Local calls run natively (mmap, futex and
// clock_gettime on a condition); the stub's own calls are let through from its two syscall
// instructions only; everything else, numbers unknown to any kernel too, traps into the stub.
// Another architecture (int 0x80) traps whatever its number, which means another call.
// Unconditional calls are decided before the instruction pointer is looked at, so that the kernel's
// cache of constant answers knows them and need not run the filter at all.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

namespace tess::syscalls {

// Addresses after the stub's `syscall` instructions (BlobHeader::syscall_site and cp_site,
// relocated to the region).
std::vector<sock_filter> body_filter(uint64_t syscall_site, uint64_t cp_site);

// What the stub may call from there, beside the local calls; ascending.
std::span<const uint16_t> stub_calls();

}  // namespace tess::syscalls
