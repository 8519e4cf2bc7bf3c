import { defineOp, type Kernel, type KernelVariant, type Tensor, tensor, valueAndGradients } from '@zebra/tensor';
import { assembleSource, checkOp, relativeError, testDevice, uniformSource, validateWgsl } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { stateSpaceScan, stateSpaceScanOp } from '../index.js';
import { ssdReferenceBackward } from '../reference.js';
import { edgesBytes, matrixEdgesKernel } from './edges.wgsl.js';
import { forwardBytes, matrixForwardKernel } from './forward.wgsl.js';
import { gradientBytes, matrixGradientKernel } from './gradient.wgsl.js';
import type { ScanConstants } from './tiles.wgsl.js';

// Operands of every product are float16 (11 bits): inputs with their decays, masked scores, states at chunks' edges.
const TOLERANCE = { forward: 1e-3, gradient: 2e-3, numeric: 1e-5 };

interface Size {
  batch: number;
  length: number;
  heads: number;
  shared: number;
  headDim?: number;
  stateSize?: number;
  segments?: (index: number) => number;
  initial?: boolean;
  /** Added to dt: large values make decays vanish, very negative ones make them 1. */
  shift?: number;
}

/** To the nearest float16, so that host and device start from the same numbers. */
function half(value: number): number {
  const unit = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(value)))) - 10);
  return value === 0 ? 0 : Math.round(value / unit) * unit;
}

const normal = (_index: number, random: () => number) =>
  half(Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));

function caseOf(s: Size) {
  const random = uniformSource(5);
  const [p, n] = [s.headDim ?? 32, s.stateSize ?? 32];
  const float16 = { dtype: 'float16' as const, values: normal };
  return {
    inputs: [
      { shape: [s.batch, s.length, s.shared, p], ...float16 },
      { shape: [s.batch, s.length, s.shared, n], ...float16 },
      { shape: [s.batch, s.length, s.heads, n], ...float16 },
      {
        shape: [s.batch, s.length, s.heads],
        dtype: 'float16' as const,
        values: () => half(2 * random() - 1 + (s.shift ?? 0)),
      },
      { shape: [s.heads], values: () => -2 - 3 * random() },
      { shape: [s.heads], values: () => Math.log(1 + 15 * random()) },
      { shape: [s.heads] },
      s.segments && { shape: [s.batch, s.length], dtype: 'int32' as const, values: s.segments },
      s.initial ? { shape: [s.batch, s.heads, p, n] } : undefined,
    ],
    attributes: {},
  };
}

describe('state-space scan on matrix units, emulated', async () => {
  const device = await testDevice('matrix');
  const cases: [string, Size][] = [
    ['one token', { batch: 1, length: 1, heads: 1, shared: 1 }],
    ['a chunk less one', { batch: 1, length: 63, heads: 2, shared: 2 }],
    ['shared heads', { batch: 2, length: 64, heads: 4, shared: 2 }],
    ['four chunks, the last one short', { batch: 1, length: 200, heads: 2, shared: 1 }],
    [
      'packed documents and padding',
      {
        batch: 2,
        length: 150,
        heads: 2,
        shared: 1,
        segments: (i) => [0, 0, 1, 1, 2, 2, 2, -1, 4, -1][Math.floor((i % 150) / 16)] ?? -1,
      },
    ],
    [
      'left padding, continued',
      {
        batch: 2,
        length: 80,
        heads: 1,
        shared: 1,
        initial: true,
        segments: (i) => (i % 80 < 7 + Math.floor(i / 80) * 62 ? -1 : 0),
      },
    ],
    ['continued', { batch: 1, length: 130, heads: 2, shared: 2, initial: true }],
    // In blocks: software adapters have no memory for more than 32 rows and columns at once.
    [
      'blocks of heads and states',
      {
        ...{ batch: 1, length: 100, heads: 2, shared: 1, headDim: 64, stateSize: 64, initial: true },
        segments: (i) => (i < 70 ? 0 : 1),
      },
    ],
    ['larger heads than states', { batch: 1, length: 90, heads: 2, shared: 1, headDim: 64 }],
    ['larger states than heads', { batch: 1, length: 90, heads: 4, shared: 2, stateSize: 64, initial: true }],
    ['decays of nearly 1', { batch: 1, length: 130, heads: 2, shared: 1, shift: -6 }],
    ['vanishing decays', { batch: 1, length: 130, heads: 2, shared: 1, shift: 4 }],
  ];
  it.skipIf(device.info.subgroupMatrix.length === 0).each(cases)('%s', async (_name, size) =>
    checkOp(device, stateSpaceScanOp, caseOf(size), TOLERANCE),
  );

  it.skipIf(device.info.subgroupMatrix.length === 0)('takes gradients that are scaled', async () => {
    const testCase = caseOf({ batch: 1, length: 130, heads: 2, shared: 1 });
    const random = uniformSource(3);
    const hosts = testCase.inputs.map((input) => {
      if (!input) return undefined;
      const count = input.shape.reduce((a, b) => a * b, 1);
      return {
        shape: input.shape,
        data: Float64Array.from({ length: count }, (_, i) => input.values?.(i, random) ?? half(random())),
      };
    });
    const inputs = hosts.map(
      (host, i) => host && tensor(device, host.data, host.shape, { dtype: i < 4 ? 'float16' : 'float32' }),
    );
    const up = { shape: [1, 130, 2, 32], data: Float64Array.from({ length: 130 * 64 }, () => half(random() - 0.5)) };
    const wanted = ssdReferenceBackward(hosts, up);
    // From gradients of 1e-4 up to some hundred: a loss scale of 2^16 on such as an average over 8192 tokens has.
    for (const scale of [2 ** -12, 2 ** 8]) {
      const g = tensor(
        device,
        up.data.map((v) => v * scale),
        up.shape,
        { dtype: 'float16' },
      );
      const [x, b, c, dt, dtBias, aLog, skip] = inputs;
      const { value, gradients } = valueAndGradients(
        () => {
          const { y } = stateSpaceScan({ x: x!, b: b!, c: c!, dt: dt!, dtBias: dtBias!, aLog: aLog!, skip: skip! });
          return probeOp.apply([y], { g })[0]!;
        },
        inputs.slice(0, 7) as NonNullable<(typeof inputs)[number]>[],
      );
      for (const [i, gradient] of gradients.entries()) {
        const got = (await gradient!.read()).map((v) => v / scale);
        // The small ones partly lie below the smallest normal float16, 6e-5.
        expect(relativeError(got, wanted[i]!.data), `${i}`).toBeLessThan(scale < 1 ? 1e-2 : TOLERANCE.gradient);
      }
      for (const made of [g, value, ...gradients]) made!.dispose();
    }
    for (const made of inputs) made?.dispose();
  });
});

/** A loss with a given gradient. */
const probeOp = defineOp<{ readonly g: Tensor }>({
  name: 'probe',
  shape: () => [{ shape: [1], dtype: 'float32' }],
  forward: ({ device, outputs: [y] }) => device.clear(y!.range()),
  backward: ({ attributes: { g } }) => [g.alias()],
  saves: { inputs: [], outputs: [] },
  reference: { forward: () => [{ shape: [1], data: Float64Array.of(0) }] },
});

describe('the WGSL for matrix units', () => {
  const sizes = [32, 64, 128];
  const all: ScanConstants[] = sizes.flatMap((headDim) =>
    sizes.flatMap((stateSize) =>
      [
        [32, 32],
        [32, 64],
        [64, 32],
        [64, 64],
      ]
        .filter(([rows, columns]) => rows! <= headDim && columns! <= stateSize)
        .map(([rows, columns]) => ({
          ...{ matrixM: 16, matrixN: 16, matrixK: 16, lanes: 32 },
          ...{ headDim, stateSize, rows: rows!, columns: columns! },
        })),
    ),
  );

  it('keeps within the 48 KiB of a workgroup, and with small blocks within 32', () => {
    for (const constants of all) {
      const most = constants.rows + constants.columns === 64 ? 32768 : 49152;
      for (const bytes of [forwardBytes, edgesBytes, gradientBytes]) {
        expect(bytes(constants)).toBeLessThanOrEqual(most);
      }
    }
  });

  it('is valid in every variant', async () => {
    const codes: string[] = [];
    const floats = ['gates', 'skip', 'state', 'initial', 'initial_gradient', 'products', 'through'];
    for (const constants of all) {
      for (const kernel of [matrixForwardKernel, matrixEdgesKernel, matrixGradientKernel] as Kernel[]) {
        const optional = ['state', 'initial', 'initial_gradient', 'db', 'dc'];
        for (const left of [[], optional]) {
          const present = Object.keys(kernel.bindings).filter((name) => !left.includes(name));
          const variant: KernelVariant = {
            ...{ software: false, subgroups: true, matrixEmulated: false, workgroup: 256 },
            dtype: (name) => (floats.includes(name) ? 'float32' : 'uint32'),
            has: (name) => present.includes(name),
            constants: { ...constants },
          };
          codes.push(assembleSource(kernel, variant, present));
        }
      }
    }
    expect(codes.length).toBe(all.length * 6);
    expect(await validateWgsl(codes)).toEqual([]);
  });
});
