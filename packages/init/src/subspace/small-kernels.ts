import { allocateTensor, type Device, defineKernel, linearMain, type Tensor } from '@zebra/tensor';

const shiftKernel = defineKernel({
  name: 'shift-diagonal',
  bindings: { x: 'write' },
  params: { count: 'u32', columns: 'u32', factor: 'f32', shift: 'f32' },
  source: () =>
    linearMain('p.count', '  x[i] = x[i] * p.factor + select(0.0, p.shift, i / p.columns == i % p.columns);'),
});

/** x ← factor·x + shift·I in place, for a float32 matrix of its own storage. */
export function shiftDiagonal(x: Tensor, factor: number, shift: number): void {
  x.device.dispatch(shiftKernel, {
    bindings: { x: x.range() },
    params: { count: x.size, columns: x.shape[1]!, factor, shift },
    groups: Math.ceil(x.size / x.device.workgroupOf(shiftKernel)),
  });
}

const randomKernel = defineKernel({
  name: 'random-matrix',
  bindings: { x: 'write' },
  params: { count: 'u32', seed: 'u32', factor: 'f32' },
  source: () => /* wgsl */ `
// PCG-RXS-M-XS-32 (O'Neill 2014) as a hash.
fn hash(v: u32) -> u32 {
  let s = v * 747796405u + 2891336453u;
  let word = ((s >> ((s >> 28u) + 4u)) ^ s) * 277803737u;
  return (word >> 22u) ^ word;
}
${linearMain(
  'p.count',
  `  let bits = hash(i ^ hash(p.seed));
  x[i] = p.factor * (f32(bits >> 8u) * (2.0 / 16777216.0) - 1.0);`,
)}`,
});

/** A matrix of independent uniform numbers of mean 0 and the given standard deviation: the same for the same seed. */
export function randomMatrix(
  device: Device,
  shape: readonly [number, number],
  deviation: number,
  seed: number,
): Tensor {
  const x = allocateTensor(device, { shape, dtype: 'float32' });
  device.dispatch(randomKernel, {
    bindings: { x: x.range() },
    params: { count: x.size, seed, factor: deviation * Math.sqrt(3) },
    groups: Math.ceil(x.size / device.workgroupOf(randomKernel)),
  });
  return x;
}
