// Enqueues a job over HTTP and waits for its end. Usage: node gateway_wait.js EMAIL [ID] [SECONDS]
const crypto = require('crypto');
const { setTimeout: sleep } = require('timers/promises');
const [email = 'ada@example.com', id = `signup-${crypto.randomUUID()}`, seconds = 10] = process.argv.slice(2);
const url = `${process.env.GATEWAY_URL ?? 'http://127.0.0.1:8080'}/v1/jobs`;

async function enqueueAndWait() {
  const headers = {
    'Content-Type': 'application/json',
    Prefer: `wait=${seconds}`,
    'Idempotency-Key': id,                                  // The request may be repeated: the job is done once.
  };
  if (process.env.GATEWAY_TOKEN) headers.Authorization = `Bearer ${process.env.GATEWAY_TOKEN}`;
  const body = JSON.stringify({ type: 'CheckUser', caller_id: '203.0.113.9', args: { email } });
  for (let attempt = 1; ; attempt++) {
    const signal = AbortSignal.timeout((Number(seconds) + 5) * 1000);
    const response = await fetch(url, { method: 'POST', headers, body, signal });
    if (![429, 503].includes(response.status) || attempt === 5) return response;
    // The lane is full, or Redis is away. The answer says how long it takes.
    await sleep(Number(response.headers.get('Retry-After') ?? 1) * 1000);
  }
}

async function main() {
  let response = await enqueueAndWait();
  if (response.status === 202) {   // Not in time. The job goes on; wait_url, without the token, is also for the browser.
    const { wait_url: waitUrl } = await response.json();
    response = await fetch(waitUrl);                        // It answers after 25 s at most: {"status":"pending"}.
  }
  console.log(await response.text());                       // The completion; of wait_url only status, outcome, error.kind.
  process.exitCode = response.status === 200 ? 0 : 1;       // With 422 the body says what is wrong.
}
main();
