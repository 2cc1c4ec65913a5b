# Sourced by ./check and ./demo: what both need before anything of ours can run.

say() { printf '\n==> %s\n' "$*"; }

# require_root PROGRAM: labs are made of namespaces, cgroups and mounts, so root is a plain necessity.
require_root() {
  if [ "$(id -u)" -ne 0 ]; then
    cat >&2 <<EOT
$1 needs root: it installs Debian packages, and it makes virtual nodes out of network, mount and pid
namespaces, cgroups and ptrace. Nothing outside those namespaces and this directory is changed.
Run it as root, for example:   sudo $1
EOT
    exit 1
  fi
}

# require_machine: fails early, in words, where Tessera cannot work at all.
require_machine() {
  if [ "$(uname -m)" != x86_64 ]; then
    echo "Tessera is for x86-64 Linux; this machine is $(uname -m)" >&2
    exit 1
  fi
  local kernel
  kernel=$(uname -r)
  if [ "$(printf '6.1\n%s\n' "$kernel" | sort -V | head -n 1)" != 6.1 ]; then
    echo "Tessera needs Linux 6.1 or newer; this kernel is $kernel" >&2
    exit 1
  fi
}

# build DIR [TARGET…]: configures once, then builds everything, or these targets.
build() {
  local dir=$1 launcher=()
  shift
  if [ ! -f "$dir/build.ninja" ]; then
    if command -v ccache >/dev/null; then
      launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_C_COMPILER_LAUNCHER=ccache)
    fi
    say "configure $dir"
    cmake -S . -B "$dir" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "${launcher[@]}" >"$dir.configure.log" 2>&1 ||
      { cat "$dir.configure.log" >&2; return 1; }
    rm -f "$dir.configure.log"
  fi
  say "build $dir"
  ninja -C "$dir" -j "$(nproc)" "$@"
}
