// Writes docs/syscalls.md: tess-syscalls-md FILE
#include <fstream>

#include "syscalls/document.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    return 2;
  }
  std::ofstream file(argv[1], std::ios::trunc);
  file << tess::syscalls::syscalls_document();
  file.close();
  return file ? 0 : 1;
}
