#!/usr/bin/env node
// The command `kcopyd`: reads the arguments, runs what they ask for, turns how it came out into an exit code. It is bundled
// into one file and uses the package by its public face alone, as any caller would.
import { parse } from './arguments.js';
import { copy } from './copy.js';
import { info } from './info.js';
import { forgiveClosedPipes } from './streams.js';

forgiveClosedPipes();
const parsed = parse(process.argv.slice(2));
if (parsed.command === 'copy') process.exitCode = await copy(parsed);
else if (parsed.command === 'info') process.exitCode = await info(parsed);
else process.exitCode = parsed.exitCode;
