// The types of the public face: checked by the compiler (npm run check), as users' editors do.
import { type FileHandle, readFile } from 'node:fs/promises';
import * as kcopyd from 'kcopyd';
import {
  type ClientOptions,
  type ClientStats,
  Device,
  type DeviceLike,
  type DeviceOptions,
  type Failure,
  IGNORE_ERROR,
  type IoRegion,
  type JobOptions,
  KcopydClient,
  KcopydError,
  type NotifyFn,
  type Outcome,
  type Progress,
  type SectorNumber,
  type Support,
  support,
  Throttle,
  type ThrottleLimits,
  WRITE_SEQ,
} from 'kcopyd';
import { expect, expectTypeOf, test } from 'vitest';

test('nothing else is exported', () => {
  expect(Object.keys(kcopyd).sort()).toEqual([
    'Device',
    'IGNORE_ERROR',
    'KcopydClient',
    'KcopydError',
    'Throttle',
    'WRITE_SEQ',
    'support',
  ]);
});

test('the flags have the numbers of the kernel', () => {
  expect([IGNORE_ERROR, WRITE_SEQ]).toEqual([2, 4]);
});

test('classes have the members of the contract, and no others', () => {
  // The symbol has another description where TypeScript or Node made it themselves.
  const name = (key: string | symbol): string => (key === Symbol.asyncDispose ? 'asyncDispose' : String(key));
  const members = (prototype: object): string[] => Reflect.ownKeys(prototype).map(name).sort();
  expect(members(Device.prototype)).toEqual(['asyncDispose', 'bytes', 'close', 'constructor', 'sectors']);
  const jobs = ['copy', 'delivered', 'prepareCallback', 'ref', 'stats', 'submitCopy', 'submitZero', 'unref', 'zero'];
  expect(members(KcopydClient.prototype)).toEqual(['asyncDispose', 'close', 'constructor', ...jobs]);
  expect(members(Throttle.prototype)).toEqual(['constructor', 'set']);
});

test('classes are made by their own functions', () => {
  // @ts-expect-error a private constructor
  expect(() => new Device()).toThrow(KcopydError);
  // @ts-expect-error a private constructor
  expect(() => new KcopydClient()).toThrow('a KcopydClient is made by KcopydClient.create(), not by new');
});

type Engine = 'io_uring' | 'threads';

test('every exported type is held by a test here', async () => {
  const declared = await readFile(new URL('../dist/index.d.ts', import.meta.url), 'utf8');
  const own = declared.matchAll(/^export (?:declare )?(?:type|interface|class|const|function) (\w+)/gm);
  const passedOn = declared.matchAll(/^export \{ (.*?) \} from/gm);
  const names = [...own, ...passedOn].map(([, name]) => name!);
  expect(names).toHaveLength(20);
  const tests = await readFile(new URL(import.meta.url), 'utf8');
  for (const name of names) expect(tests, name).toMatch(new RegExp(`expectTypeOf[<(](?:typeof )?${name}\\b`));
});

test('what is given to the face', () => {
  expectTypeOf<SectorNumber>().toEqualTypeOf<number | bigint>();
  expectTypeOf<DeviceLike>().toEqualTypeOf<Device | string | URL | Buffer | FileHandle | number>();
  expectTypeOf<DeviceOptions>().toEqualTypeOf<{
    access?: 'read' | 'write' | 'read-write';
    direct?: 'auto' | 'always' | 'never';
    exclusive?: boolean;
    create?: boolean;
    expect?: { rdev?: number; size?: number; diskSequence?: number };
  }>();
  expectTypeOf<IoRegion>().toEqualTypeOf<{ device: DeviceLike; sector?: SectorNumber; count?: SectorNumber }>();
  expectTypeOf<ClientOptions>().toEqualTypeOf<{
    pages?: number;
    subJobSectors?: number;
    engine?: 'auto' | Engine;
    throttle?: Throttle;
  }>();
  expectTypeOf<ThrottleLimits>().toEqualTypeOf<{ percent?: number; bytesPerSecond?: number; iops?: number }>();
  expectTypeOf<JobOptions>().toEqualTypeOf<{
    ignoreErrors?: boolean;
    sequential?: boolean;
    flush?: boolean;
    signal?: AbortSignal;
    onProgress?: (progress: Progress) => void;
  }>();
  expectTypeOf<NotifyFn<Date>>().toEqualTypeOf<(readErr: number, writeErr: number, context: Date) => void>();
  expectTypeOf(IGNORE_ERROR).toEqualTypeOf<number>();
  expectTypeOf(WRITE_SEQ).toEqualTypeOf<number>();
});

test('what the face gives back', () => {
  expectTypeOf<Outcome>().toEqualTypeOf<{
    sectors: number;
    bytes: number;
    readErr: number;
    writeErr: number;
    failures: Failure[];
    failuresOmitted: number;
    destinations: { sectors: number; ok: boolean }[];
    durationMs: number;
  }>();
  expectTypeOf<Failure>().toEqualTypeOf<{
    op: 'read' | 'write' | 'flush' | 'zero';
    destination: number | null;
    sector: number;
    count: number;
    code: string;
    errno: number;
  }>();
  expectTypeOf<Progress>().toEqualTypeOf<{
    sectorsDone: number;
    sectorsTotal: number;
    bytesPerSecond: number;
    etaMs: number | null;
    destinations: { sectorsDone: number; failed: boolean }[];
  }>();
  expectTypeOf<ClientStats>().toEqualTypeOf<{
    engine: { kind: Engine; reason: string; registeredBuffers: boolean };
    pages: { total: number; free: number };
    jobs: number;
    subJobs: number;
    bytes: number;
    submissions: number;
    zero: { offloadedBytes: number; writtenBytes: number };
  }>();
  expectTypeOf<Support>().toEqualTypeOf<{
    platform: string;
    engine: Engine | null;
    reason: string;
    kernel: string;
  }>();
  expectTypeOf(support).toEqualTypeOf<() => Support>();
  expectTypeOf<KcopydError>().toExtend<Error>();
  expectTypeOf<KcopydError['code']>().toEqualTypeOf<string>();
  expectTypeOf<KcopydError['errno' | 'destination']>().toEqualTypeOf<number | undefined>();
  expectTypeOf<KcopydError['syscall' | 'path']>().toEqualTypeOf<string | undefined>();
  expectTypeOf<KcopydError['outcome']>().toEqualTypeOf<Outcome | undefined>();
});

test('what its classes do', () => {
  expectTypeOf(KcopydClient.create).toEqualTypeOf<(options?: ClientOptions) => Promise<KcopydClient>>();
  expectTypeOf<KcopydClient['copy']>().toEqualTypeOf<
    (from: IoRegion, to: IoRegion | readonly IoRegion[], options?: JobOptions) => Promise<Outcome>
  >();
  expectTypeOf<KcopydClient['zero']>().toEqualTypeOf<
    (to: IoRegion | readonly IoRegion[], options?: JobOptions) => Promise<Outcome>
  >();
  expectTypeOf<KcopydClient['submitCopy']>().toEqualTypeOf<
    <C>(from: IoRegion, to: readonly IoRegion[], flags: number, notify: NotifyFn<C>, context?: C) => void
  >();
  expectTypeOf<KcopydClient['submitZero']>().toEqualTypeOf<
    <C>(to: readonly IoRegion[], flags: number, notify: NotifyFn<C>, context?: C) => void
  >();
  expectTypeOf<KcopydClient['prepareCallback']>().toEqualTypeOf<
    <C>(notify: NotifyFn<C>, context?: C) => (readErr: number, writeErr: number) => void
  >();
  expectTypeOf<KcopydClient['delivered' | 'close']>().toEqualTypeOf<() => Promise<void>>();
  expectTypeOf<KcopydClient['stats']>().toEqualTypeOf<ClientStats>();
  expectTypeOf<KcopydClient['ref']>().returns.toEqualTypeOf<KcopydClient>();
  expectTypeOf<KcopydClient['unref']>().returns.toEqualTypeOf<KcopydClient>();
  expectTypeOf(Device.open).toEqualTypeOf<(path: string | URL | Buffer, options?: DeviceOptions) => Promise<Device>>();
  expectTypeOf<Device['kind']>().toEqualTypeOf<'block' | 'file'>();
  expectTypeOf<Device['path' | 'directReason']>().toEqualTypeOf<string>();
  type Sizes = 'bytes' | 'sectors' | 'logicalBlockSize' | 'physicalBlockSize';
  expectTypeOf<Device[Sizes]>().toEqualTypeOf<number>();
  expectTypeOf<Device['direct']>().toEqualTypeOf<boolean>();
  expectTypeOf<Device['close']>().toEqualTypeOf<() => Promise<void>>();
  expectTypeOf<ConstructorParameters<typeof Throttle>>().toEqualTypeOf<[limits: ThrottleLimits]>();
  expectTypeOf<Throttle['set']>().toEqualTypeOf<(limits: ThrottleLimits) => void>();
  expectTypeOf<KcopydClient>().toExtend<AsyncDisposable>();
  expectTypeOf<Device>().toExtend<AsyncDisposable>();
});

// Never called: the compiler alone looks at them.

function mistakesWithJobs(client: KcopydClient, device: Device): void {
  // @ts-expect-error a region is an object
  void client.copy('/dev/a', { device });
  // @ts-expect-error without a device there is no region
  void client.copy({ sector: 0 }, { device });
  // @ts-expect-error without a destination there is no copy
  void client.copy({ device });
  // @ts-expect-error no such option
  void client.copy({ device }, { device }, { fsync: true });
  // @ts-expect-error sectors are numbers
  void client.copy({ device, sector: '0' }, { device });
  // @ts-expect-error a device is none of these
  void client.copy({ device: null }, { device });
  // @ts-expect-error a controller is no signal
  void client.copy({ device }, { device }, { signal: new AbortController() });
  // @ts-expect-error progress tells, it does not ask
  void client.copy({ device }, { device }, { onProgress: (percent: number) => percent });
  // @ts-expect-error zero() reads nothing
  void client.zero({ device }, { device });
  // @ts-expect-error a flag is a number
  client.submitCopy({ device }, [{ device }], { ignoreErrors: true }, () => {});
  // @ts-expect-error submitCopy takes an array
  client.submitCopy({ device }, { device }, 0, () => {});
  // @ts-expect-error without notify nobody would hear of it
  client.submitZero([{ device }], 0);
  // @ts-expect-error the context is of the callback's type
  client.submitCopy({ device }, [{ device }], 0, (_readErr, _writeErr, job: { id: number }) => job.id, { id: 'one' });
  // The context's type is the callback's.
  const notify: NotifyFn<{ id: number }> = (_readErr, _writeErr, job) => job.id;
  client.submitCopy({ device }, [{ device }], IGNORE_ERROR | WRITE_SEQ, notify, { id: 1 });
}

function mistakesWithObjects(client: KcopydClient, device: Device, outcome: Outcome): void {
  // @ts-expect-error an engine that is none
  void KcopydClient.create({ engine: 'aio' });
  // @ts-expect-error limits are no Throttle
  void KcopydClient.create({ throttle: { percent: 50 } });
  // @ts-expect-error no such access
  void Device.open('/dev/a', { access: 'rw' });
  // @ts-expect-error a descriptor is used as it is, not opened
  void Device.open(3);
  // @ts-expect-error limits are named
  new Throttle(50);
  // @ts-expect-error readonly
  device.path = '/dev/b';
  // @ts-expect-error readonly
  client.stats = {} as ClientStats;
  // @ts-expect-error closing is asynchronous: there is no `using`, only `await using`
  device[Symbol.dispose]();
  // @ts-expect-error a mask is a number, not a list
  outcome.writeErr.length;
}

test('mistakes do not compile', () => {
  expect([mistakesWithJobs, mistakesWithObjects].map((mistakes) => typeof mistakes)).toEqual(['function', 'function']);
});
