// A caller whose package manager left the native part out: importing works, `support()` answers, the first use says what is missing.
import { KcopydClient, support } from 'kcopyd';

const { engine, reason } = support();
const code = await KcopydClient.create().then(
  () => 'created',
  (error) => error.code,
);
console.log(JSON.stringify({ engine, reason, code }));
