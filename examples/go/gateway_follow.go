//go:build ignore

// Follows all completions over HTTP. Usage: go run gateway_follow.go CURSOR_FILE [HOW_MANY]
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	args := append(os.Args[1:], []string{"cursor", strconv.Itoa(math.MaxInt)}[len(os.Args)-1:]...)
	left, _ := strconv.Atoi(args[1])
	for left > 0 {
		left = follow(args[0], left)
		if left > 0 {
			time.Sleep(2 * time.Second) // The stream ends when the gateway restarts.
		}
	}
}

func follow(file string, left int) int {
	request, err := http.NewRequest("GET", env("GATEWAY_URL", "http://127.0.0.1:8080")+"/v1/completions?from=beginning", nil)
	check(err)
	request.Header.Set("Accept", "text/event-stream")
	if token := os.Getenv("GATEWAY_TOKEN"); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if cursor, err := os.ReadFile(file); err == nil {
		request.Header.Set("Last-Event-ID", string(cursor)) // Goes on after it; otherwise from the beginning.
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil || answer.StatusCode != http.StatusOK {
		log.Println("no stream:", answer, err)
		return left
	}
	defer answer.Body.Close()
	// A comment comes every 15 s, so 40 s of silence mean that the connection is lost.
	silence := time.AfterFunc(40*time.Second, func() { answer.Body.Close() })
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20) // A completion is longer than a Scanner's default line may be.
	event := map[string]string{}
	for left > 0 && lines.Scan() {
		silence.Reset(40 * time.Second)
		if field, value, _ := strings.Cut(lines.Text(), ":"); lines.Text() != "" {
			event[field] = strings.TrimPrefix(value, " ")
			continue // An event ends with an empty line.
		}
		if event["event"] == "completion" {
			var completion struct{ ID, Status string }
			check(json.Unmarshal([]byte(event["data"]), &completion))
			fmt.Println(completion.ID, completion.Status)
			check(os.WriteFile(file, []byte(event["id"]), 0o600)) // After the work: what is not noted comes again.
			left--
		} else if event["event"] != "" {
			log.Println(event["event"], event["data"]) // gap: completions were missed.
		}
		event = map[string]string{}
	}
	return left
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
