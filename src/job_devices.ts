// The devices of one job with a promise: those that were opened before are taken and given back, paths and descriptors are
// opened for the job alone and closed before its promise settles (P33). It refuses to know what the job does with them.
import { adoptForJob, OpenDevice, openPathForJob } from './device.js';
import type { NativeAccess } from './native.js';
import { type DeviceChoice, devicesOf, type RegionRequest, type Regions } from './regions.js';

/** One device of the job, however many regions lie on it. */
interface Wanted {
  readonly choice: DeviceChoice;
  /** The first region that is on it: an error names that one. */
  readonly region: RegionRequest;
  access: NativeAccess;
}

/** What a job holds of its devices. */
export interface JobDevices {
  readonly regions: Regions<OpenDevice>;
  /** Taken from opened devices: to be given back, one for one. */
  readonly taken: readonly OpenDevice[];
  /** Opened for the job: to be closed. */
  readonly owned: readonly OpenDevice[];
}

/** Gives back what was taken and closes what was opened. Fails if a close fails, after all are closed. */
export function releaseDevices({ taken, owned }: JobDevices): Promise<void> | undefined {
  giveBack(taken);
  return owned.length > 0 ? closeAll(owned) : undefined;
}

/** Gets a job its devices: at once if all are opened ones, which are taken before this returns in any case. */
export function takeDevices(regions: Regions): JobDevices | Promise<JobDevices> {
  if (areOpened(regions)) return { regions, taken: takeOpened(regions), owned: [] };
  const wanted = listWanted(regions);
  const taken: OpenDevice[] = [];
  try {
    for (const { choice, region } of wanted.values()) {
      if (choice instanceof OpenDevice) taken.push(take(region, choice));
    }
  } catch (error) {
    giveBack(taken);
    throw error;
  }
  return openRest(regions, wanted, taken);
}

/** Takes opened devices, each as often as a region is on it: there is no list to make of which are the same. */
export function takeOpened({ source, destinations }: Regions<OpenDevice>): readonly OpenDevice[] {
  const taken: OpenDevice[] = [];
  try {
    if (source) taken.push(take(source, source.device));
    for (const destination of destinations) taken.push(take(destination, destination.device));
  } catch (error) {
    giveBack(taken);
    throw error;
  }
  return taken;
}

/** The end of {@link takeOpened}. */
export function giveBack(taken: readonly OpenDevice[]): void {
  for (const device of taken) device.giveBack();
}

function take(region: RegionRequest<unknown>, device: OpenDevice): OpenDevice {
  device.take(region.name, region.destination);
  return device;
}

function areOpened(regions: Regions): regions is Regions<OpenDevice> {
  const isOpened = ({ device }: RegionRequest): boolean => device instanceof OpenDevice;
  return (!regions.source || isOpened(regions.source)) && regions.destinations.every(isOpened);
}

async function openRest(regions: Regions, wanted: Map<unknown, Wanted>, taken: OpenDevice[]): Promise<JobDevices> {
  const devices = new Map<unknown, OpenDevice>();
  const owned: OpenDevice[] = [];
  const opening = [...wanted].map(async ([key, want]) => {
    const { choice } = want;
    const device = choice instanceof OpenDevice ? choice : await open(choice, want);
    if (device !== choice) owned.push(device);
    devices.set(key, device);
  });
  const failed = (await Promise.allSettled(opening)).find((result) => result.status === 'rejected');
  if (failed) {
    giveBack(taken);
    // The reason why it cannot be opened is worth more than what a close of the others says.
    await closeAll(owned).catch(() => {});
    throw failed.reason;
  }
  const on = (region: RegionRequest): RegionRequest<OpenDevice> => ({
    ...region,
    device: devices.get(keyOf(region.device))!,
  });
  const source = regions.source && on(regions.source);
  return { regions: { source, destinations: regions.destinations.map(on) }, taken, owned };
}

function open(choice: Exclude<DeviceChoice, OpenDevice>, { access, region }: Wanted): OpenDevice | Promise<OpenDevice> {
  const known = region.destination === undefined ? {} : { destination: region.destination };
  return 'path' in choice ? openPathForJob(choice.path, access, known) : adoptForJob(choice.descriptor, access, known);
}

/** The same path, or the same descriptor, twice in a job is one device, opened for all that the job does with it. */
function listWanted(regions: Regions): Map<unknown, Wanted> {
  const wanted = new Map<unknown, Wanted>();
  for (const region of devicesOf(regions)) {
    const access = region === regions.source ? 'read' : 'write';
    const known = wanted.get(keyOf(region.device));
    if (!known) wanted.set(keyOf(region.device), { choice: region.device, region, access });
    else if (known.access !== access) known.access = 'read-write';
  }
  return wanted;
}

function keyOf(choice: DeviceChoice): unknown {
  if (choice instanceof OpenDevice) return choice;
  return 'path' in choice ? `path ${choice.path.toString('latin1')}` : choice.descriptor;
}

async function closeAll(devices: readonly OpenDevice[]): Promise<void> {
  const results = await Promise.allSettled(devices.map((device) => device.close()));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
