// Adds to package-lock.json the platform packages that a registry mirror did not have: npm leaves them out, and `npm ci`
// then calls the lock incomplete, here and everywhere. Run it after adding a dependency if `npm ci` says "Missing". It
// knows names and platforms, no registry; an entry without a hash is for another platform and is never fetched here.
import { readFileSync, writeFileSync } from 'node:fs';

const SYSTEMS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32'];
const LIBRARIES = { gnu: 'glibc', gnueabihf: 'glibc', musl: 'musl', musleabihf: 'musl' };

/** What npm must know to skip the package: `@x/tar-linux-arm64-musl` is for os linux, cpu arm64, libc musl. */
function platform(name) {
  const words = name.split('/').pop().split('-');
  if (words.includes('wasm32')) return { cpu: ['wasm32'] };
  const at = words.findIndex((word) => SYSTEMS.includes(word));
  if (at < 0) throw new Error(`no platform in the name ${name}: is it really missing from the registry?`);
  const [os, cpu, abi] = words.slice(at);
  return { os: [os], cpu: [cpu], ...(LIBRARIES[abi] && { libc: [LIBRARIES[abi]] }) };
}

const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'));
const packages = { ...lock.packages };
for (const holder of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(holder.optionalDependencies ?? {})) {
    packages[`node_modules/${name}`] ??= { version, ...platform(name), dev: true, optional: true };
  }
}
lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => a.localeCompare(b, 'en')));
writeFileSync('package-lock.json', `${JSON.stringify(lock, null, 2)}\n`);
