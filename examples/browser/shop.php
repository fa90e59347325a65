<?php // The shop's own endpoint. It alone has the gateway's token. Usage: php -S 127.0.0.1:8000 shop.php
if ($_SERVER['REQUEST_METHOD'] !== 'POST' || $_SERVER['REQUEST_URI'] !== '/signup') {
    return false;                                           // PHP's own server serves index.html.
}
$job = ['type' => 'CreateUser', 'caller_id' => $_SERVER['REMOTE_ADDR'], 'args' => [
    'customer_reference' => 'web-' . bin2hex(random_bytes(8)),
    'user' => ['email' => $_POST['email'] ?? '', 'first_name' => $_POST['first_name'] ?? ''],
]];
$url = (getenv('GATEWAY_URL') ?: 'http://127.0.0.1:8080') . '/v1/jobs';
$answer = file_get_contents($url, false, stream_context_create(['http' => [
    'method' => 'POST', 'timeout' => 5, 'ignore_errors' => true, 'content' => json_encode($job), 'header' => array_filter([
        'Content-Type: application/json',
        getenv('GATEWAY_TOKEN') ? 'Authorization: Bearer ' . getenv('GATEWAY_TOKEN') : '',
        // The page makes one key for each form, so that a second click is no second signup.
        'Idempotency-Key: signup-' . preg_replace('/[^0-9a-f-]/', '', $_POST['key'] ?? ''),
    ]),
]]));
$status = $answer === false ? 503 : (int) explode(' ', $http_response_header[0])[1];
http_response_code($status);
header('Content-Type: application/json');
// The browser gets the ticket to wait for this one job, and nothing else.
echo json_encode($status === 202 ? ['wait_url' => json_decode($answer)->wait_url] : ['status' => 'failed']);
