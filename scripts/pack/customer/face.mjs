// What a caller sees of the installed package: import and require give the same, the engine starts. Prints it as JSON.
import { createRequire } from 'node:module';
import { KcopydClient, support } from 'kcopyd';

const required = createRequire(import.meta.url)('kcopyd');
const client = await KcopydClient.create();
const { engine } = client.stats;
await client.close();
console.log(
  JSON.stringify({
    node: process.version,
    cpu: process.arch,
    kernel: support().kernel,
    engine: engine.kind,
    reason: engine.reason,
    requireIsImport: required.KcopydClient === KcopydClient,
  }),
);
