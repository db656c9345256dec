// The types of the public face: checked by the compiler (npm run check), as users' editors do.
import type { FileHandle } from 'node:fs/promises';
import * as kcopyd from 'kcopyd';
import {
  type ClientStats,
  Device,
  type DeviceLike,
  IGNORE_ERROR,
  type IoRegion,
  type JobOptions,
  KcopydClient,
  KcopydError,
  type NotifyFn,
  type Outcome,
  type SectorNumber,
  support,
  Throttle,
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

test('types say what the contract declares', () => {
  expectTypeOf<SectorNumber>().toEqualTypeOf<number | bigint>();
  expectTypeOf<DeviceLike>().toEqualTypeOf<Device | string | URL | Buffer | FileHandle | number>();
  expectTypeOf<IoRegion>().toEqualTypeOf<{ device: DeviceLike; sector?: SectorNumber; count?: SectorNumber }>();
  expectTypeOf<NotifyFn<Date>>().toEqualTypeOf<(readErr: number, writeErr: number, context: Date) => void>();
  expectTypeOf(KcopydClient.create).returns.resolves.toEqualTypeOf<KcopydClient>();
  expectTypeOf<KcopydClient['copy']>().toEqualTypeOf<
    (from: IoRegion, to: IoRegion | readonly IoRegion[], options?: JobOptions) => Promise<Outcome>
  >();
  expectTypeOf<KcopydClient['zero']>().toEqualTypeOf<
    (to: IoRegion | readonly IoRegion[], options?: JobOptions) => Promise<Outcome>
  >();
  expectTypeOf<KcopydClient['delivered']>().toEqualTypeOf<() => Promise<void>>();
  expectTypeOf<KcopydClient['prepareCallback']>().returns.toEqualTypeOf<(readErr: number, writeErr: number) => void>();
  expectTypeOf<ConstructorParameters<typeof Throttle>>().toEqualTypeOf<
    [limits: { percent?: number; bytesPerSecond?: number; iops?: number }]
  >();
  expectTypeOf<KcopydClient['stats']>().toEqualTypeOf<ClientStats>();
  expectTypeOf<KcopydClient>().toExtend<AsyncDisposable>();
  expectTypeOf<Device>().toExtend<AsyncDisposable>();
  expectTypeOf<KcopydError>().toExtend<Error & { code: string }>();
  expectTypeOf<KcopydError['outcome']>().toEqualTypeOf<Outcome | undefined>();
  expectTypeOf(support).returns.toEqualTypeOf<{
    platform: string;
    engine: 'io_uring' | 'threads' | null;
    reason: string;
    kernel: string;
  }>();
});

test('mistakes do not compile', () => {
  // Never called: the compiler alone looks at it.
  const mistakes = (client: KcopydClient, device: Device): void => {
    // @ts-expect-error a region is an object
    void client.copy('/dev/a', { device });
    // @ts-expect-error no such option
    void client.copy({ device }, { device }, { fsync: true });
    // @ts-expect-error sectors are numbers
    void client.copy({ device, sector: '0' }, { device });
    // @ts-expect-error submitCopy takes an array
    client.submitCopy({ device }, { device }, 0, () => {});
    // @ts-expect-error readonly
    device.path = '/dev/b';
    // The context's type is the callback's.
    client.submitCopy(
      { device },
      [{ device }],
      IGNORE_ERROR | WRITE_SEQ,
      (_readErr, _writeErr, job: { id: number }) => job.id,
      { id: 1 },
    );
  };
  expect(mistakes).toBeTypeOf('function');
});
