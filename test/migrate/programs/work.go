// A Go program: goroutines on several threads, channels, timers, garbage collection, preemption signals, files, a child process.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

type node struct {
	left, right *node
	value       int
}

func tree(depth, value int) *node {
	if depth == 0 {
		return &node{nil, nil, value}
	}
	return &node{tree(depth-1, 2*value), tree(depth-1, 2*value+1), value}
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.value + n.left.sum() + n.right.sum()
}

func round() string {
	jobs, results := make(chan int), make(chan string, 64)
	var workers sync.WaitGroup
	for w := 0; w < 4; w++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for job := range jobs {
				x := uint64(job)
				for i := 0; i < 200000; i++ { // no function calls: only a signal can preempt it
					x = x*6364136223846793005 + 1442695040888963407
				}
				results <- fmt.Sprintf("%d:%x:%d", job, x, tree(10, job).sum())
			}
		}()
	}
	for i := 0; i < 40; i++ {
		jobs <- i
	}
	close(jobs)
	workers.Wait()
	close(results)
	all := make([]string, 40)
	for r := range results {
		var i int
		fmt.Sscanf(r, "%d", &i)
		all[i] = r
	}
	runtime.GC()
	before := time.Now()
	select {
	case <-time.After(3 * time.Millisecond):
	case <-time.After(30 * time.Second):
		panic("time")
	}
	if time.Since(before) < 3*time.Millisecond {
		panic("woke early")
	}
	out, err := exec.Command("echo", "from a child").Output()
	if err != nil || string(out) != "from a child\n" {
		panic(fmt.Sprint(err, string(out)))
	}
	f, err := os.Create("go-file")
	if err != nil {
		panic(err)
	}
	w := bufio.NewWriter(f)
	for _, line := range all {
		fmt.Fprintln(w, line)
	}
	w.Flush()
	f.Close()
	data, err := os.ReadFile("go-file")
	if err != nil || strings.Count(string(data), "\n") != 40 {
		panic("file")
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

func main() {
	first := round()
	fmt.Println("ready", first)
	for {
		if _, err := os.Stat("stop"); err == nil {
			break
		}
		if again := round(); again != first {
			fmt.Println("round differs")
			os.Exit(1)
		}
	}
	fmt.Println("go: all rounds alike")
}
