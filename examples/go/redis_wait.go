//go:build ignore

// Enqueues a job and waits for its end. Usage: go run redis_wait.go EMAIL [ID] [SECONDS]
package main

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/gomodule/redigo/redis"
)

func main() {
	defaults := []string{"ada@example.com", fmt.Sprintf("signup-%d", time.Now().UnixNano()), "10"}
	args := append(os.Args[1:], defaults[len(os.Args)-1:]...)
	email, id := args[0], args[1]
	seconds, _ := strconv.Atoi(args[2])
	caller := "203.0.113.9" // In a shop: the browser's address.
	// All jobs of one caller are in one partition.
	partitions, _ := strconv.Atoi(env("XCO_PARTITIONS", "1"))
	partition := crc32.ChecksumIEEE([]byte(caller)) % uint32(partitions)
	prefix := fmt.Sprintf("{%s:%d}", env("XCO_NAMESPACE", "xco"), partition)

	// BLPOP blocks its connection: one for each waiting request, whose read timeout is longer than the wait.
	readTimeout := redis.DialReadTimeout(time.Duration(seconds+5) * time.Second)
	conn, err := redis.DialURL(env("REDIS_URL", "redis://127.0.0.1:6379"), readTimeout)
	check(err)
	job, err := json.Marshal(map[string]any{"id": id, "type": "CheckUser", "caller_id": caller, "reply": true,
		"args": map[string]string{"email": email}})
	check(err)
	_, err = conn.Do("XADD", prefix+":jobs:interactive", "*", "job", job)
	check(err)
	answer, err := redis.Strings(conn.Do("BLPOP", prefix+":reply:"+id, seconds))
	if err == redis.ErrNil {
		// The job goes on. Run this again with the same id: a job with a known id is not done twice, and its reply comes
		// again. Or a program that follows the completions sees its end: redis_follow.go.
		fmt.Printf("%s has not ended after %d s\n", id, seconds)
		return
	}
	check(err)
	fmt.Println(answer[1]) // The completion. Look at its status, then at its outcome.
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
