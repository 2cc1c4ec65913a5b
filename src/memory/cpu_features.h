// What the processor lets a process use, as bytes that travel in an image, and whether another
// machine has it all. The bytes are versioned and the same size on every machine; unknown versions
// are answered in words, never guessed.
#pragma once

#include <string>
#include <string_view>

namespace tess::memory {

// CPUID feature leaves, XCR0 and the XSAVE layout of this machine: what every native process here
// may be using.
std::string host_cpu_features();

// Empty if a process that may use `process` can run where `host` is offered; else a sentence that
// names what is missing.
std::string explain_missing(std::string_view process, std::string_view host);

}  // namespace tess::memory
