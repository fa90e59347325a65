<?php // Enqueues a job and waits for its end. Usage: php redis_wait.php EMAIL [ID] [SECONDS]
[, $email, $id, $seconds] = $argv + [1 => 'ada@example.com', 'signup-' . bin2hex(random_bytes(8)), 10];
$caller = '203.0.113.9';                                    // In a shop: $_SERVER['REMOTE_ADDR'].
// All jobs of one caller are in one partition.
$partition = crc32($caller) % (int) (getenv('XCO_PARTITIONS') ?: 1);
$prefix = '{' . (getenv('XCO_NAMESPACE') ?: 'xco') . ":$partition}";

$url = parse_url(getenv('REDIS_URL') ?: 'redis://127.0.0.1:6379');
// BLPOP blocks its connection: one connection for each waiting request, whose read timeout is longer than the wait.
$redis = new Redis();
$redis->connect($url['host'], $url['port'] ?? 6379, 2.0, null, 0, $seconds + 5.0);
if (isset($url['pass'])) {
    $redis->auth(array_filter([$url['user'] ?? '', urldecode($url['pass'])]));
}

$job = ['id' => $id, 'type' => 'CheckUser', 'caller_id' => $caller, 'reply' => true, 'args' => ['email' => $email]];
$redis->xAdd("$prefix:jobs:interactive", '*', ['job' => json_encode($job)]);
$answer = $redis->blPop(["$prefix:reply:$id"], (int) $seconds);

if ($answer) {
    echo $answer[1], "\n";                                  // The completion. Look at its status, then at its outcome.
} else {
    // The job goes on. Run this again with the same id: a job with a known id is not done twice, and its reply comes again.
    // Or a program that follows the completions sees its end: redis_follow.php.
    echo "$id has not ended after $seconds s\n";
}
