//go:build ignore

// Enqueues a job over HTTP and waits for its end. Usage: go run gateway_wait.go EMAIL [ID] [SECONDS]
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	defaults := []string{"ada@example.com", fmt.Sprintf("signup-%d", time.Now().UnixNano()), "10"}
	args := append(os.Args[1:], defaults[len(os.Args)-1:]...)
	email, id, seconds := args[0], args[1], args[2]
	job, err := json.Marshal(map[string]any{"type": "CheckUser", "caller_id": "203.0.113.9",
		"args": map[string]string{"email": email}})
	check(err)
	wait, _ := strconv.Atoi(seconds)
	client := &http.Client{Timeout: time.Duration(wait+30) * time.Second}

	var answer *http.Response
	for attempt := 1; attempt <= 5; attempt++ {
		request, err := http.NewRequest("POST", env("GATEWAY_URL", "http://127.0.0.1:8080")+"/v1/jobs", bytes.NewReader(job))
		check(err)
		request.Header.Set("Content-Type", "application/json")
		if token := os.Getenv("GATEWAY_TOKEN"); token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		request.Header.Set("Prefer", "wait="+seconds)
		request.Header.Set("Idempotency-Key", id) // The request may be repeated: the job is done once.
		answer, err = client.Do(request)
		check(err)
		if answer.StatusCode != http.StatusServiceUnavailable && answer.StatusCode != http.StatusTooManyRequests {
			break
		}
		// The lane is full, or Redis is away. The answer says how long it takes.
		answer.Body.Close()
		after, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		time.Sleep(time.Duration(after) * time.Second)
	}
	if answer.StatusCode == http.StatusAccepted {
		// Not in time. The job goes on; wait_url, without the token, is also for the customer's browser.
		var accepted struct {
			WaitURL string `json:"wait_url"`
		}
		check(json.NewDecoder(answer.Body).Decode(&accepted))
		answer, err = client.Get(accepted.WaitURL) // It answers after 25 s at most: {"status":"pending"}.
		check(err)
	}
	body, err := io.ReadAll(answer.Body)
	check(err)
	fmt.Println(string(body)) // The completion; of wait_url only status, outcome and error.kind. With 422: what is wrong.
	if answer.StatusCode != http.StatusOK {
		os.Exit(1)
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
