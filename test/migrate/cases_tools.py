"""Cases of programs as Debian ships them: streams that the harness feeds, and loops of short programs under a shell."""

import functools
from pathlib import Path

import inputs
from case import Case, output, portions

SOURCES = Path(__file__).resolve().parent / "programs"


@functools.lru_cache(None)
def _words(seed, lines):
    return inputs.words(seed, lines)


def stream(name, about, argv, lines=60000, data=None, count=20, **more):
    """A program that works on its standard input; every portion is followed by moves while it chews."""
    def steps(_work):
        return portions(data() if data else _words(name, lines), count)
    more.setdefault("needs", (argv[0],))
    return Case(name, about, argv, finish="eof", steps=steps, **more)


def loop(name, about, body, needs, setup=None, **more):
    """Rounds of short programs under sh: each round's output must equal the first one's; any process of the tree moves."""
    text = ("round() {\n" + body + "\n}\nfirst=$(round) || exit 1\necho \"$first\"\necho ready\n"
            "while [ ! -e stop ]; do\n  again=$(round) || exit 1\n"
            "  [ \"$again\" = \"$first\" ] || { echo \"round differs: $again\"; exit 1; }\ndone\necho all rounds alike\n")
    fields = dict(ready=output(b"ready\n"), ready_text="its first round to end", who="any", proof=b"all rounds alike")
    fields.update(more)
    return Case(name, about, ["sh", "-c", text], setup=setup, needs=tuple(needs), **fields)


def setup_gcc(work):
    (work / "big.c").write_text(inputs.c_source())


def setup_diff(work):
    lines = _words("diff", 30000).splitlines(keepends=True)
    (work / "old").write_bytes(b"".join(lines))
    (work / "new").write_bytes(b"".join(x.upper() if n % 97 == 3 else x for n, x in enumerate(lines) if n % 61))


def bc_data():
    return b"".join(b"scale=%d\n4*a(1)\ne(%d)\nl(%d)\n" % (180 + n % 5, n, n + 2) for n in range(60)) + b"quit\n"


TOOLS = [
    stream("awk", "awk: fields, arrays, formats", ["awk", """
        { count[$1]++; sum[$1] += $2; for (i = 3; i <= NF; i++) len += length($i) }
        NR % 5000 == 0 { printf "%d %d %.3f\\n", NR, len, sum[$1] / count[$1] }
        END { for (k in count) print k, count[k], sum[k] > "report"; print NR, "lines" }"""], proof=b"60000 lines"),
    stream("sed", "sed: expressions, hold space, a file written", ["sed", "-n", "-e", "s/\\([a-e]\\)\\([a-z]*\\)/\\2\\1/g", "-e", "y/xyz/XYZ/",
           "-e", "/^[a-m]/{h;d}", "-e", "/X/{G;w marked", "-e", "}", "-e", "1~40p"]),
    stream("bc", "bc: long numbers", ["bc", "-l"], data=bc_data, count=30, proof=b"3.14159265358979"),
    stream("perl", "perl: hashes, regexes, files, a child", ["perl", str(SOURCES / "stream.pl")], lines=30000,
           proof=b"perl: 30000 lines"),
    stream("gzip", "gzip: a stream in, a stream out", ["gzip", "-9", "-n", "-c"], lines=150000),
    stream("xz-threads", "xz with two threads", ["xz", "-T2", "-1", "--block-size=262144", "-c"], lines=150000),
    stream("sort", "sort of more than its memory, with temporary files", ["sort", "-S", "1M", "-T", ".", "--parallel=2", "-k2n",
           "-o", "sorted"], lines=150000),
    stream("openssl-dgst", "openssl: digest of a stream", ["openssl", "dgst", "-sha3-512", "-hex"], lines=250000),
    stream("sqlite", "sqlite3: a file database, transactions and their journal", ["sqlite3", "-batch", "data.db"],
           data=inputs.sql, count=24, proof=b"ok\n", deadline=90),
    stream("pipeline", "a pipeline of four programs under sh", ["sh", "-c",
           "tr a-m A-M | sort -S 2M -T . -k1,1 -k2n | tee middle | uniq -c | sha256sum"], who="any"),
    loop("gcc", "gcc compiling, linking and the result running", "gcc -O1 -o prog.tmp big.c && mv prog.tmp prog && ./prog && rm prog",
         ["gcc"], setup_gcc, deadline=120),
    loop("make-j4", "make -j4 of a small project", "make -s -j4 && ./program && make -s clean", ["make", "gcc"],
         lambda work: inputs.make_project(work), deadline=120),
    loop("tar-gzip", "tar and gzip through pipes, unpacked and compared",
         "tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - tree | gzip -n | tee pack.tgz | sha256sum &&"
         " mkdir out && tar -xzf pack.tgz -C out && diff -r tree out/tree && rm -r out pack.tgz && echo same",
         ["tar", "gzip", "diff"], lambda work: inputs.tree(work / "tree")),
    loop("find", "find, xargs, grep, wc over a tree", "find tree -type f -name '*.txt' -size +0 -print0 | sort -z | xargs -0 -n 20 grep -c e"
         " | sort | sha256sum && find tree -type l -printf '%p %l\\n' | sort | head -3 && find tree -type d -empty | wc -l", ["find", "xargs"],
         lambda work: inputs.tree(work / "tree")),
    loop("diff", "diff and patch of big files", "diff old new > change; patch -s -o patched old change && cmp patched new &&"
         " wc -l < change && rm patched change", ["diff", "patch"], setup_diff),
    loop("openssl-loop", "openssl: ciphers and digests again and again",
         "openssl enc -aes-256-cbc -K 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff -iv 0102030405060708090a0b0c0d0e0f10"
         " -in plain | openssl dgst -sha256 -r && openssl dgst -blake2b512 -r plain && openssl kdf -keylen 16 -kdfopt digest:SHA2-256"
         " -kdfopt pass:x -kdfopt salt:saltsalt -kdfopt iter:20000 PBKDF2", ["openssl"],
         lambda work: (work / "plain").write_bytes(inputs.noise(3, 2 << 20))),
    Case("busybox", "a static busybox shell and its applets",
         ["busybox", "sh", "-c", "r() { busybox seq 1 3000 | busybox awk '{s+=$1*$1} END {print s}'; busybox seq 1 500 | busybox sort -r |"
          " busybox md5sum; busybox printf 'x%05d\\n' 7; }; f=$(r); echo \"$f\"; echo ready; while [ ! -e stop ]; do [ \"$(r)\" = \"$f\" ] ||"
          " exit 1; done; echo all alike"],
         ready=output(b"ready\n"), ready_text="its first round to end", proof=b"all alike", needs=("busybox",), who="any"),
]
