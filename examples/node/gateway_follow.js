// Follows all completions over HTTP. Usage: node gateway_follow.js CURSOR_FILE [HOW_MANY]
const fs = require('fs');
const { setTimeout: sleep } = require('timers/promises');
const [file = 'cursor', howMany = Infinity] = process.argv.slice(2);
const url = `${process.env.GATEWAY_URL ?? 'http://127.0.0.1:8080'}/v1/completions?from=beginning`;
let left = Number(howMany);

async function follow() {
  const headers = { Accept: 'text/event-stream' };
  if (process.env.GATEWAY_TOKEN) headers.Authorization = `Bearer ${process.env.GATEWAY_TOKEN}`;
  if (fs.existsSync(file)) headers['Last-Event-ID'] = fs.readFileSync(file, 'utf8'); // Goes on after it.
  const response = await fetch(url, { headers });
  if (!response.ok) throw new Error(await response.text());
  let text = '';
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (text + chunk).split('\n\n');            // An event ends with an empty line.
    text = blocks.pop();
    for (const block of blocks) {
      const event = Object.fromEntries(block.split('\n').map((line) => line.split(/: ?(.*)/s)));
      if (event.event === 'completion') {
        const completion = JSON.parse(event.data);
        console.log(completion.id, completion.status);
        fs.writeFileSync(file, event.id);                   // After the work: what is not noted comes again.
        if (--left <= 0) return;
      } else if (event.event) console.error(event.event, event.data); // gap: completions were missed.
    }
  }
}

async function main() {
  while (left > 0) {                                        // The stream ends when the gateway restarts.
    await follow().catch((error) => console.error(error.message));
    if (left > 0) await sleep(2000);
  }
}
main();
