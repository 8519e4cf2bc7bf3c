import type { Device } from '../device/device.js';
import { type AdapterChoice, openDevice } from '../device/open.js';

/**
 * Which variants of kernels to test: those of the adapter at hand, those meant for hardware GPUs, or those for GPUs with
 * matrix units, which are emulated (needs an adapter with float16: see `info.subgroupMatrix`, empty where it has none).
 */
export type TestVariant = 'native' | 'hardware' | 'matrix';

const devices = new Map<string, Promise<Device>>();

/**
 * The device that all tests of a process share: fresh memory is poisoned with NaN. `ZEBRA_TEST_ADAPTER` (auto,
 * hardware, software, swiftshader) chooses the adapter; `ZEBRA_TEST_BINDING_LIMIT` (bytes) lets tensors past it be bound
 * in pieces, as tensors past an adapter's limit are.
 */
export function testDevice(variant: TestVariant = 'native'): Promise<Device> {
  let device = devices.get(variant);
  if (!device) {
    const adapter = (process.env['ZEBRA_TEST_ADAPTER'] ?? 'auto') as AdapterChoice;
    const hardware = variant !== 'native' && { software: false };
    const limit = process.env['ZEBRA_TEST_BINDING_LIMIT'];
    const pieces = limit !== undefined && { bindingLimit: Number(limit) };
    device = openDevice({ adapter, poison: true, ...hardware, ...pieces, emulateMatrixUnits: variant === 'matrix' });
    devices.set(variant, device);
  }
  return device;
}
