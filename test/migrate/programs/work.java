// A Java program: threads, monitors, garbage collection, the just-in-time compiler, files, timers.
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;

class Work {
  static long compute(int seed) {
    Map<Integer, List<Long>> map = new HashMap<>();
    long x = seed;
    for (int i = 0; i < 20000; i++) {
      x = x * 6364136223846793005L + 1442695040888963407L;
      map.computeIfAbsent((int) ((x >>> 40) % 97), k -> new ArrayList<>()).add(x);
    }
    long sum = 0;
    for (List<Long> list : map.values()) {
      for (long v : list) {
        sum ^= v;
      }
    }
    return sum;
  }

  static String round() throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(4);
    List<Future<Long>> parts = new ArrayList<>();
    for (int i = 0; i < 24; i++) {
      int seed = i;
      parts.add(pool.submit(() -> compute(seed)));
    }
    StringBuilder text = new StringBuilder();
    for (Future<Long> part : parts) {
      text.append(Long.toHexString(part.get(60, TimeUnit.SECONDS))).append('\n');
    }
    pool.shutdown();
    Object monitor = new Object();
    long before = System.nanoTime();
    synchronized (monitor) {
      monitor.wait(3);
    }
    if (System.nanoTime() - before < 2_000_000) {
      throw new IllegalStateException("woke early");
    }
    System.gc();
    Files.writeString(Path.of("java-file"), text);
    return Integer.toHexString(Files.readString(Path.of("java-file")).hashCode());
  }

  public static void main(String[] args) throws Exception {
    String first = round();
    System.out.println("ready " + first);
    System.out.flush();
    while (!Files.exists(Path.of("stop"))) {
      if (!round().equals(first)) {
        System.out.println("round differs");
        System.exit(1);
      }
    }
    System.out.println("java: all rounds alike");
  }
}
