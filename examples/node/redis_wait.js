// Enqueues a job and waits for its end. Usage: node redis_wait.js EMAIL [ID] [SECONDS]
const { createClient } = require('redis');
const crypto = require('crypto');
const { crc32 } = require('zlib');                          // Node 20.15, 22.2 or later.
const [email = 'ada@example.com', id = `signup-${crypto.randomUUID()}`, seconds = 10] = process.argv.slice(2);
const caller = '203.0.113.9';                               // In a shop: the browser's address.

async function main() {
  // All jobs of one caller are in one partition.
  const partition = crc32(caller) % (process.env.XCO_PARTITIONS ?? 1);
  const prefix = `{${process.env.XCO_NAMESPACE ?? 'xco'}:${partition}}`;
  const redis = createClient({ url: process.env.REDIS_URL });
  await redis.connect();
  const waiting = redis.duplicate();                        // BLPOP blocks its connection: one for each waiting request.
  await waiting.connect();

  const job = { id, type: 'CheckUser', caller_id: caller, reply: true, args: { email } };
  await redis.xAdd(`${prefix}:jobs:interactive`, '*', { job: JSON.stringify(job) });
  const answer = await waiting.blPop(`${prefix}:reply:${id}`, Number(seconds));
  if (answer) {
    console.log(answer.element);                            // The completion. Look at its status, then at its outcome.
  } else {
    // The job goes on. Run this again with the same id: a job with a known id is not done twice, and its reply comes
    // again. Or a program that follows the completions sees its end: redis_follow.js.
    console.log(`${id} has not ended after ${seconds} s`);
  }
  await Promise.all([redis.quit(), waiting.quit()]);
}
main();
