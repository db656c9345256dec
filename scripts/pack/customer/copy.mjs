// A caller's copy: node copy.mjs ENGINE SOURCE DESTINATION…; flushed. Prints as JSON what it came to.
import { KcopydClient } from 'kcopyd';

const [engine, source, ...destinations] = process.argv.slice(2);
const client = await KcopydClient.create({ engine });
const { bytes, destinations: held } = await client.copy(
  { device: source },
  destinations.map((device) => ({ device })),
  { flush: true },
);
console.log(JSON.stringify({ bytes, ok: held.every(({ ok }) => ok), engine: client.stats.engine.kind }));
await client.close();
