<?php // Follows all completions as a member of a group. Usage: php redis_follow.php GROUP MEMBER [HOW_MANY]
[, $group, $member, $left] = $argv + [1 => 'shop', 'member-1', PHP_INT_MAX];
$url = parse_url(getenv('REDIS_URL') ?: 'redis://127.0.0.1:6379');
$redis = new Redis();
$redis->connect($url['host'], $url['port'] ?? 6379, 2.0, null, 0, 10.0);    // Longer than the 5 s that a read blocks.
if (isset($url['pass'])) {
    $redis->auth(array_filter([$url['user'] ?? '', urldecode($url['pass'])]));
}

$from = [];
for ($partition = 0; $partition < (int) (getenv('XCO_PARTITIONS') ?: 1); $partition++) {
    $stream = '{' . (getenv('XCO_NAMESPACE') ?: 'xco') . ":$partition}:completions";
    $redis->xGroup('CREATE', $stream, $group, '0', true);   // False if the group exists, which is well.
    $from[$stream] = '0';                                   // First what this member has read and not acknowledged.
}
while ($left > 0) {
    $read = array_filter($redis->xReadGroup($group, $member, $from, min(100, $left), 5000) ?: []);
    foreach ($from as $stream => $id) {
        $from[$stream] = isset($read[$stream]) ? $id : '>'; // Then what no member has read.
    }
    foreach ($read as $stream => $entries) {
        foreach ($entries as $id => $fields) {
            if ($fields) {                                  // Otherwise it was trimmed before it was acknowledged.
                echo "{$fields['id']} {$fields['status']}\n"; // May come twice: make your own work safe to repeat.
                $left--;
            }
            $redis->xAck($stream, $group, [$id]);           // Last: what is not acknowledged comes again.
        }
    }
}
