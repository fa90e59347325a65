<?php // Enqueues a job over HTTP and waits for its end. Usage: php gateway_wait.php EMAIL [ID] [SECONDS]
[, $email, $id, $seconds] = $argv + [1 => 'ada@example.com', 'signup-' . bin2hex(random_bytes(8)), 10];
$url = (getenv('GATEWAY_URL') ?: 'http://127.0.0.1:8080') . '/v1/jobs';
// With an Idempotency-Key a request may be repeated: the job is done once.
$post = ['method' => 'POST', 'timeout' => $seconds + 5, 'ignore_errors' => true, 'header' => array_filter([
    'Content-Type: application/json', "Prefer: wait=$seconds", "Idempotency-Key: $id",
    getenv('GATEWAY_TOKEN') ? 'Authorization: Bearer ' . getenv('GATEWAY_TOKEN') : '',
]), 'content' => json_encode(['type' => 'CheckUser', 'caller_id' => '203.0.113.9', 'args' => ['email' => $email]])];

for ($attempt = 1; $attempt <= 5; $attempt++) {
    $body = file_get_contents($url, false, stream_context_create(['http' => $post]));
    $status = isset($http_response_header) ? (int) explode(' ', $http_response_header[0])[1] : 503;
    if ($status != 503 && $status != 429) {
        break;
    }
    // The lane is full, or Redis is away. The answer says how long it takes.
    preg_match('/^retry-after: *(\d+)/mi', implode("\n", $http_response_header ?? []), $after);
    sleep((int) ($after[1] ?? 1));
}
if ($status == 202) {   // Not in time. The job goes on; wait_url, without the token, is also for the customer's browser.
    $wait = ['ignore_errors' => true, 'timeout' => 30];     // It answers after 25 s at most: {"status":"pending"}.
    $body = file_get_contents(json_decode($body)->wait_url, false, stream_context_create(['http' => $wait]));
    $status = (int) explode(' ', $http_response_header[0])[1];
}
echo $body, "\n";       // The completion; of wait_url only status, outcome and error.kind. With 422: what is wrong.
exit($status == 200 ? 0 : 1);
