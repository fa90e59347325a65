<?php // Follows all completions over HTTP. Usage: php gateway_follow.php CURSOR_FILE [HOW_MANY]
[, $file, $left] = $argv + [1 => 'cursor', PHP_INT_MAX];
$url = (getenv('GATEWAY_URL') ?: 'http://127.0.0.1:8080') . '/v1/completions?from=beginning';
while ($left > 0) {
    $header = ['Accept: text/event-stream'];
    if (getenv('GATEWAY_TOKEN')) {
        $header[] = 'Authorization: Bearer ' . getenv('GATEWAY_TOKEN');
    }
    if (is_file($file)) {
        $header[] = 'Last-Event-ID: ' . file_get_contents($file);   // Goes on after it; otherwise from the beginning.
    }
    // A comment comes every 15 s, so 40 s of silence mean that the connection is lost.
    $events = fopen($url, 'r', false, stream_context_create(['http' => ['header' => $header, 'timeout' => 40]]));
    $event = [];
    while ($left > 0 && $events && ($line = fgets($events)) !== false) {
        [$field, $value] = explode(':', rtrim($line), 2) + ['', ''];
        $event[$field] = ltrim($value);
        if (rtrim($line) !== '') {
            continue;                                       // An event ends with an empty line.
        }
        if (($event['event'] ?? '') === 'completion') {
            $completion = json_decode($event['data']);
            echo "$completion->id $completion->status\n";
            file_put_contents($file, $event['id']);         // After the work: what is not noted comes again.
            $left--;
        } elseif (isset($event['event'])) {
            fwrite(STDERR, "{$event['event']} {$event['data']}\n"); // gap: completions were missed.
        }
        $event = [];
    }
    if ($left > 0) {
        sleep(2);
    }
}
