//go:build ignore

// Follows all completions as a member of a group. Usage: go run redis_follow.go GROUP MEMBER [HOW_MANY]
package main

import (
	"fmt"
	"log"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

func main() {
	args := append(os.Args[1:], []string{"shop", "member-1", strconv.Itoa(math.MaxInt)}[len(os.Args)-1:]...)
	group, member := args[0], args[1]
	left, _ := strconv.Atoi(args[2])
	// Longer than the 5 s that a read blocks.
	conn, err := redis.DialURL(env("REDIS_URL", "redis://127.0.0.1:6379"), redis.DialReadTimeout(10*time.Second))
	check(err)
	partitions, _ := strconv.Atoi(env("XCO_PARTITIONS", "1"))
	var streams, from []any
	for partition := 0; partition < partitions; partition++ {
		stream := fmt.Sprintf("{%s:%d}:completions", env("XCO_NAMESPACE", "xco"), partition)
		if _, err := conn.Do("XGROUP", "CREATE", stream, group, "0", "MKSTREAM"); err != nil &&
			!strings.HasPrefix(err.Error(), "BUSYGROUP") { // The group exists.
			log.Fatal(err)
		}
		streams, from = append(streams, stream), append(from, "0") // First what this member has read and not acknowledged.
	}
	for left > 0 {
		limit := left
		if limit > 100 {
			limit = 100
		}
		command := append([]any{"GROUP", group, member, "COUNT", limit, "BLOCK", 5000, "STREAMS"}, streams...)
		read, err := redis.Values(conn.Do("XREADGROUP", append(command, from...)...))
		if err != nil && err != redis.ErrNil {
			log.Fatal(err)
		}
		busy := map[string]bool{}
		for _, reply := range read {
			pair, _ := redis.Values(reply, nil)
			stream, _ := redis.String(pair[0], nil)
			entries, _ := redis.Values(pair[1], nil)
			busy[stream] = len(entries) > 0
			for _, entry := range entries {
				parts, _ := redis.Values(entry, nil)
				if fields, err := redis.StringMap(parts[1], nil); err == nil { // Otherwise it was trimmed before it was acknowledged.
					fmt.Println(fields["id"], fields["status"]) // May come twice: make your own work safe to repeat.
					left--
				}
				_, err := conn.Do("XACK", stream, group, parts[0]) // Last: what is not acknowledged comes again.
				check(err)
			}
		}
		for i, stream := range streams {
			if !busy[stream.(string)] {
				from[i] = ">" // Then what no member has read.
			}
		}
	}
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
