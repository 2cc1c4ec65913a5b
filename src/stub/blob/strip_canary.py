#!/usr/bin/env python3
"""Takes the stack-protector's reads of %fs:0x28 out of an object file.

The blob runs with the application's %fs, which may be 0 (before its C library has set it), so code in the blob must not read it. Debian's BearSSL is
compiled with the stack protector: `mov %fs:0x28,%reg` becomes `xor %reg,%reg`, and `sub` or `xor` with %fs:0x28 becomes `test %reg,%reg`, so each
check compares zero with zero. Fails if any other use of %fs is left.

usage: strip_canary.py IN.o OUT.o
"""
import re
import subprocess
import sys

NOP = {6: bytes.fromhex("660f1f440000"), 7: bytes.fromhex("0f1f8000000000")}


def main(source, target):
    data = bytearray(open(source, "rb").read())
    # 64 REX.W op modrm(00 reg 100) sib 25 disp32 28000000
    pattern = re.compile(rb"\x64([\x48\x4c])([\x8b\x2b\x33])([\x04\x0c\x14\x1c\x24\x2c\x34\x3c])\x25\x28\x00\x00\x00")
    count = 0
    for match in pattern.finditer(bytes(data)):
        rex, op, modrm = (match.group(i)[0] for i in (1, 2, 3))
        reg = modrm >> 3
        if op == 0x8B:
            if rex == 0x4C:
                new = bytes([0x45, 0x31, 0xC0 | reg << 3 | reg]) + NOP[6]
            else:
                new = bytes([0x31, 0xC0 | reg << 3 | reg]) + NOP[7]
        else:
            new = bytes([0x4D if rex == 0x4C else 0x48, 0x85, 0xC0 | reg << 3 | reg]) + NOP[6]
        assert len(new) == 9
        data[match.start():match.end()] = new
        count += 1
    open(target, "wb").write(data)
    listing = subprocess.run(["objdump", "-d", target], check=True, capture_output=True, text=True).stdout
    if "%fs:" in listing:
        sys.exit(f"{source}: a use of %fs is left that this script does not know")
    print(f"{source}: {count} stack-protector accesses removed")


if __name__ == "__main__":
    main(*sys.argv[1:])
