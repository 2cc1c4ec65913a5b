#!/bin/bash
# Installs the Debian packages of scripts/packages.txt that are missing.
#   scripts/install-deps.sh            installs (needs root, and the network only if something is missing)
#   scripts/install-deps.sh --build    only those that building needs
#   scripts/install-deps.sh --missing  only prints what is missing, one a line; exit status 1 if anything is
set -euo pipefail
cd "$(dirname "$0")/.."

last='$'
[ "${1:-}" = --build ] && last='/^\[test\]/'
packages() { sed -n "1,${last}p" scripts/packages.txt | sed -e 's/#.*//' -e '/^\[/d' -e 's/[[:space:]]//g' -e '/^$/d'; }

if ! command -v dpkg-query >/dev/null; then
  echo "install-deps: this is not Debian (no dpkg); install the equivalents of scripts/packages.txt yourself" >&2
  exit 1
fi

missing=()
while read -r package; do
  if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" != installed ]; then
    missing+=("$package")
  fi
done < <(packages)

if [ "${1:-}" = --missing ]; then
  [ ${#missing[@]} -eq 0 ] && exit 0
  printf '%s\n' "${missing[@]}"
  exit 1
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "install-deps: not root, and these packages are missing. As root run:" >&2
  echo "  apt-get install ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# One lock wait for a machine that is just running its own unattended upgrade.
apt=(apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
echo "installing ${#missing[@]} Debian packages: ${missing[*]}"
if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/tmp/tessera-apt.$$ 2>&1; then
  # Stale package lists are the usual cause on a fresh machine: refresh once and try again.
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } \
    >>/tmp/tessera-apt.$$ 2>&1; then
    cat /tmp/tessera-apt.$$ >&2
    rm -f /tmp/tessera-apt.$$
    echo "install-deps: apt-get failed, see above" >&2
    exit 1
  fi
fi
rm -f /tmp/tessera-apt.$$
