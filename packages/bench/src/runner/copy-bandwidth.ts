import { type Device, defineKernel, empty, randomNormal, type Tensor } from '@zebra/tensor';
import type { Case } from './case.js';
import { recorded } from './recorded.js';
import { runCase } from './run-case.js';

// Why not the copy of a command encoder: drivers do it on whatever unit they like. On an H100 it moves 0.8 TB/s where a
// kernel moves 2.9, and shares of it mean nothing.

/** 16-byte vectors that an invocation copies, a workgroup apart, so that neighbours touch neighbours. */
const EACH = 4;
const WORKGROUP = 256;

const copyKernel = defineKernel({
  name: 'bench_copy',
  bindings: { x: 'read', y: 'write' },
  params: { count: 'u32' },
  vectors: () => ({ x: 4, y: 4 }),
  workgroup: WORKGROUP,
  source() {
    const each = (line: (k: number) => string) => Array.from({ length: EACH }, (_, k) => line(k)).join('\n');
    return /* wgsl */ `
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let first = (wid.x + wid.y * nwg.x) * (${EACH}u * WORKGROUP) + lid;
  if (first + ${EACH - 1}u * WORKGROUP < p.count) {
${each((k) => `    let v${k} = x[first + ${k}u * WORKGROUP];`)}
${each((k) => `    y[first + ${k}u * WORKGROUP] = v${k};`)}
    return;
  }
  for (var i = first; i < p.count; i += WORKGROUP) { y[i] = x[i]; }
}`;
  },
});

/** Copies between tensors of one size, a multiple of 16 bytes, by a kernel that does nothing else. */
export function copyByKernel(device: Device, from: Tensor, to: Tensor): void {
  const { size } = from.range();
  if (size !== to.range().size || size % 16 !== 0)
    throw new RangeError('copyByKernel: sizes of 16 bytes, and the same');
  const bound = (tensor: Tensor) => ({ ...tensor.range(), dtype: 'uint32' as const });
  device.dispatch(copyKernel, {
    bindings: { x: bound(from), y: bound(to) },
    params: { count: size / 16 },
    groups: Math.ceil(size / (16 * EACH * WORKGROUP)),
  });
}

/** Bytes that are copied to measure the bandwidth: far more than caches hold, and no more than one binding can. */
export function copyBytes(large: boolean): number {
  return large ? 2 ** 30 : 2 ** 23;
}

/** The copy as a case: `bytes` read and as many written. */
export function copyCase(bytes: number, shape = `${bytes} bytes`): Case {
  return {
    shape,
    work: { flops: 0, bytes: 2 * bytes },
    prepare(device) {
      const from = randomNormal(device, [bytes / 4]);
      const to = empty(device, [bytes / 4]);
      return recorded(device, [from, to], () => {
        copyByKernel(device, from, to);
        return [];
      });
    },
  };
}

/**
 * Bytes a second that a kernel copies, read and written together: what shares of memory-bound kernels are of. For
 * scripts; `npm run bench` has it as a row.
 *
 * @param options.large sizes for GPUs
 * @throws Error where the copy is not the original
 */
export async function copyBandwidth(device: Device, { large }: { readonly large: boolean }): Promise<number> {
  await checkCopy(device);
  const budget = { total: large ? 400 : 50, sample: large ? 40 : 10, minSamples: 3, maxSamples: 50 };
  const one = copyCase(copyBytes(large));
  const { min } = await runCase(device, one, budget);
  return (one.work.bytes / min) * 1e3;
}

/** Sizes that end within a workgroup's piece, too. */
async function checkCopy(device: Device): Promise<void> {
  for (const vectors of [1, 300, EACH * WORKGROUP + 5]) {
    const from = randomNormal(device, [4 * vectors]);
    const to = empty(device, [4 * vectors]);
    copyByKernel(device, from, to);
    const [wanted, got] = [await from.read(), await to.read()];
    from.dispose();
    to.dispose();
    if (!wanted.every((value, i) => Object.is(value, got[i]))) throw new Error('copyBandwidth: the copy is wrong');
  }
}
