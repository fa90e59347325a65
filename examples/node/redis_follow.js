// Follows all completions as a member of a group. Usage: node redis_follow.js GROUP MEMBER [HOW_MANY]
const { createClient, commandOptions } = require('redis');
const [group = 'shop', member = 'member-1', howMany = Infinity] = process.argv.slice(2);

async function main() {
  const redis = createClient({ url: process.env.REDIS_URL });
  await redis.connect();
  const streams = [];
  for (let partition = 0; partition < (process.env.XCO_PARTITIONS ?? 1); partition++) {
    const key = `{${process.env.XCO_NAMESPACE ?? 'xco'}:${partition}}:completions`;
    await redis.xGroupCreate(key, group, '0', { MKSTREAM: true }).catch((error) => {
      if (!error.message.startsWith('BUSYGROUP')) throw error; // The group exists.
    });
    streams.push({ key, id: '0' });                         // First what this member has read and not acknowledged.
  }
  for (let left = Number(howMany); left > 0;) {
    // A blocking read in a connection of its own.
    const options = commandOptions({ isolated: true });
    const read = await redis.xReadGroup(options, group, member, streams, { COUNT: Math.min(100, left), BLOCK: 5000 }) ?? [];
    for (const stream of streams) {                         // Then what no member has read.
      if (!read.some(({ name, messages }) => name === stream.key && messages.length)) stream.id = '>';
    }
    for (const { name, messages } of read) {
      for (const { id, message } of messages.filter(Boolean)) {
        console.log(message.id, message.status);            // May come twice: make your own work safe to repeat.
        left--;
        await redis.xAck(name, group, id);                  // Last: what is not acknowledged comes again.
      }
    }
  }
  await redis.quit();
}
main();
