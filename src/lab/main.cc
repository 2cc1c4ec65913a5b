// tess-lab: `tess lab` as a program of its own, for the lab's tests.
#include "base/log.h"
#include "lab/lab.h"

int main(int argc, char** argv) {
  tess::log::start("tess-lab");
  return tess::lab::main(argc, argv);
}
