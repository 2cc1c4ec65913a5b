"""Input data for the cases: made from fixed seeds, so that two runs get the same."""

import io
import random
import tarfile


def words(seed, lines):
    """Lines of `word number text`, well compressible but not trivially."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(900)]
    out = []
    for _ in range(lines):
        out.append(f"{rng.choice(vocabulary)} {rng.randint(0, 999999)} {' '.join(rng.choices(vocabulary, k=4))}\n")
    return "".join(out).encode()


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def tree(folder, seed=5, folders=12, files=30):
    """A folder tree of small files, links and empty folders."""
    rng = random.Random(seed)
    for f in range(folders):
        sub = folder / f"dir{f:02}" / "inner"
        sub.mkdir(parents=True)
        for n in range(files):
            (sub.parent if n % 2 else sub).joinpath(f"file{n:03}.{'txt' if n % 3 else 'dat'}").write_bytes(
                words(rng.random(), rng.randint(0, 60)))
        (sub / "link").symlink_to("../file001.txt")
        (folder / f"dir{f:02}" / "empty").mkdir()


def tarball(path, seed=6):
    with tarfile.open(path, "w") as out:
        for n in range(60):
            info = tarfile.TarInfo(f"pack/{n % 7}/entry{n}")
            data = words(seed + n, 400)
            info.size, info.mtime, info.mode = len(data), 1600000000, 0o644
            out.addfile(info, io.BytesIO(data))


def c_source(functions=110):
    """A C file big enough to keep a compiler busy for a second or two."""
    out = ["#include <stdio.h>", "#include <string.h>", "#include <stdlib.h>", "struct item { long key; double value; char name[24]; };"]
    for n in range(functions):
        out.append(f"""static long work{n}(struct item *items, int count) {{
  long sum = {n};
  for (int i = 0; i < count; i++) {{
    for (int j = i; j < count; j++) {{
      if (items[j].key % {n % 13 + 2} == {n % 5}) {{ sum += items[j].key * {n} ^ (long)items[i].value; }}
      else if (strcmp(items[i].name, items[j].name) {'<' if n % 2 else '>'} 0) {{ struct item t = items[i]; items[i] = items[j]; items[j] = t; }}
    }}
    switch (items[i].key & 7) {{ case 0: sum += 3; break; case 1: sum *= 5; break; case 5: sum ^= {n * 977}; break; default: sum -= i; }}
  }}
  return sum;
}}""")
    out.append("int main(void) {\n  struct item items[20];\n  long sum = 0;\n  for (int i = 0; i < 20; i++) {\n"
               "    items[i].key = i * 7919 % 101; items[i].value = i * 0.5;\n"
               "    snprintf(items[i].name, sizeof(items[i].name), \"n%d\", i * 31 % 17);\n  }")
    out += [f"  sum += work{n}(items, 20);" for n in range(functions)]
    out.append('  printf("%ld\\n", sum);\n  return 0;\n}')
    return "\n".join(out)


def make_project(folder, units=12):
    """A small C project with a makefile."""
    header = "\n".join(f"long unit{n}(long x);" for n in range(units))
    (folder / "units.h").write_text(header + "\n")
    for n in range(units):
        (folder / f"unit{n}.c").write_text(
            '#include "units.h"\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n' +
            "\n".join(f"static long part{p}(long x) {{ for (int i = 0; i < {p + 3}; i++) x = x * {n + 3} + (x >> 3) % {p + 2}; return x; }}"
                      for p in range(25)) +
            f"\nlong unit{n}(long x) {{ " + " ".join(f"x = part{p}(x);" for p in range(25)) + " return x; }\n")
    calls = "".join(f" x = unit{n}(x);" for n in range(units))
    (folder / "main.c").write_text(
        f'#include "units.h"\n#include <stdio.h>\nint main(void) {{ long x = 1;{calls} printf("%ld\\n", x); return 0; }}\n')
    objects = " ".join(f"unit{n}.o" for n in range(units)) + " main.o"
    (folder / "Makefile").write_text(
        f"CFLAGS = -O1\nprogram: {objects}\n\t@$(CC) -o $@ $^\n%.o: %.c units.h\n\t@$(CC) $(CFLAGS) -c -o $@ $<\n"
        f"clean:\n\t@rm -f program *.o\n.PHONY: clean\n")


def sql(rows=4000, portions=20):
    """SQL text with transactions, indexes, joins, aggregates; results are printed as it goes."""
    rng = random.Random(11)
    out = ["PRAGMA journal_mode=DELETE;", "CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, age INT);",
           "CREATE TABLE orders(id INTEGER PRIMARY KEY, person INT, amount REAL);", "CREATE INDEX by_person ON orders(person);"]
    per = rows // portions
    for p in range(portions):
        out.append("BEGIN;")
        for n in range(p * per, (p + 1) * per):
            out.append(f"INSERT INTO people VALUES({n}, 'name{rng.randint(0, 999)}', {rng.randint(1, 99)});")
            out.append(f"INSERT INTO orders(person, amount) VALUES({rng.randint(0, n)}, {rng.randint(1, 9999)}.25);")
        out.append("ROLLBACK;" if p % 5 == 4 else "COMMIT;")
        out.append("SELECT count(*), sum(amount), max(age) FROM people JOIN orders ON orders.person = people.id;")
        out.append("SELECT name, count(*) c FROM people GROUP BY name ORDER BY c DESC, name LIMIT 3;")
        out.append("UPDATE people SET age = age + 1 WHERE id % 7 = 3;")
    out.append("PRAGMA integrity_check;")
    return "\n".join(out).encode() + b"\n"
