import { scope, tensor } from '@zebra/tensor';
import { checkOp, normalValues, relativeError, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { stateSpaceScanOp, stateSpaceStep } from './index.js';
import { ssdReference } from './reference.js';

// float32 sums of up to T·N terms whose decays are powers of rounded numbers. The gradients of dt and A_log are
// differences of sums over a chunk, hence one digit less.
const TOLERANCE = { forward: 3e-6, gradient: 2e-5, numeric: 1e-5 };

// Where decays vanish, the gradient of A_log is some hundred times smaller than the terms that it is the difference of.
const toleranceOf = (size: Size) => (size.shift ? { ...TOLERANCE, gradient: 5e-4 } : TOLERANCE);

interface Size {
  batch: number;
  length: number;
  heads: number;
  shared: number;
  headDim: number;
  stateSize: number;
  segments?: (index: number) => number;
  initial?: boolean;
  /** Added to dt: large values make decays vanish. */
  shift?: number;
}

function caseOf(s: Size) {
  const random = uniformSource(5);
  return {
    inputs: [
      { shape: [s.batch, s.length, s.shared, s.headDim] },
      { shape: [s.batch, s.length, s.shared, s.stateSize] },
      { shape: [s.batch, s.length, s.heads, s.stateSize] },
      { shape: [s.batch, s.length, s.heads], values: () => 2 * random() - 1 + (s.shift ?? 0) },
      { shape: [s.heads], values: () => -2 - 3 * random() },
      { shape: [s.heads], values: () => Math.log(1 + 15 * random()) },
      { shape: [s.heads] },
      s.segments && { shape: [s.batch, s.length], dtype: 'int32' as const, values: s.segments },
      s.initial ? { shape: [s.batch, s.heads, s.headDim, s.stateSize] } : undefined,
    ],
    attributes: {},
  };
}

const native: [string, Size][] = [
  ['one token', { batch: 1, length: 1, heads: 1, shared: 1, headDim: 1, stateSize: 1 }],
  ['three tokens, shared heads', { batch: 2, length: 3, heads: 4, shared: 2, headDim: 4, stateSize: 8 }],
  ['a chunk less one, four heads to one', { batch: 1, length: 63, heads: 4, shared: 1, headDim: 3, stateSize: 5 }],
  ['many chunks', { batch: 1, length: 500, heads: 2, shared: 2, headDim: 4, stateSize: 4 }],
  ['continued', { batch: 2, length: 70, heads: 2, shared: 1, headDim: 4, stateSize: 8, initial: true }],
  ['vanishing decays', { batch: 1, length: 130, heads: 2, shared: 1, headDim: 4, stateSize: 4, shift: 4 }],
  [
    'packed documents',
    {
      batch: 2,
      length: 150,
      heads: 2,
      shared: 1,
      headDim: 4,
      stateSize: 4,
      segments: (i) => Math.floor((i % 150) / 33),
    },
  ],
  [
    'left padding, continued',
    {
      batch: 2,
      length: 80,
      heads: 2,
      shared: 1,
      headDim: 4,
      stateSize: 4,
      initial: true,
      segments: (i) => (i % 80 < 7 + Math.floor(i / 80) * 62 ? -1 : 0),
    },
  ],
  [
    'right padding',
    {
      batch: 1,
      length: 70,
      heads: 2,
      shared: 1,
      headDim: 4,
      stateSize: 4,
      segments: (i) => (i > 60 ? -1 : i > 20 ? 4 : 2),
    },
  ],
];

describe('state-space scan, the form for this adapter', async () => {
  const device = await testDevice();
  it.each(native)('%s', async (_name, size) => checkOp(device, stateSpaceScanOp, caseOf(size), toleranceOf(size)));

  it('steps through what the reference gives at once', async () => {
    const random = uniformSource(8);
    const [length, heads, shared, headDim, stateSize] = [5, 4, 2, 3, 6];
    const parts = [
      [shared, headDim],
      [shared, stateSize],
      [heads, stateSize],
    ].map((shape) => normalValues([1, length, ...shape], random));
    const dt = normalValues([1, length, heads], random);
    const gates = [0, 1, 2].map(() => normalValues([heads], random));
    const [wanted, final] = ssdReference([...parts, dt, ...gates]);
    const [dtBias, aLog, skip] = gates.map(({ data }) => tensor(device, data));
    const state = tensor(device, new Float32Array(heads * headDim * stateSize), [1, heads, headDim, stateSize]);
    const got: number[] = [];
    for (let t = 0; t < length; t++) {
      const at = (data: Float64Array) => [
        ...data.subarray((t * data.length) / length, ((t + 1) * data.length) / length),
      ];
      const y = scope(() =>
        stateSpaceStep({
          xbc: tensor(
            device,
            parts.flatMap(({ data }) => at(data)),
            [1, 1, shared * (headDim + stateSize) + heads * stateSize],
          ),
          dt: tensor(device, at(dt.data), [1, 1, heads]),
          dtBias: dtBias!,
          aLog: aLog!,
          skip: skip!,
          state,
          keyValueHeadCount: shared,
        }),
      );
      got.push(...(await y.read()));
      y.dispose();
    }
    expect(relativeError(got, wanted!.data)).toBeLessThan(TOLERANCE.forward);
    expect(relativeError(await state.read(), final!.data)).toBeLessThan(TOLERANCE.forward);
    for (const made of [dtBias, aLog, skip, state]) made?.dispose();
  });

  it('names the operand that does not fit', () => {
    const spec = (...shape: number[]) => ({ shape, dtype: 'float32' as const });
    const inputs = [spec(1, 2, 2, 4), spec(1, 2, 2, 4), spec(1, 2, 4, 4), spec(1, 2, 3), spec(4), spec(4), spec(4)];
    expect(() => stateSpaceScanOp.shape(inputs, {})).toThrow(
      /stateSpaceScan: dt must have shape \[1, 2, 4\], got \[1, 2, 3\]/,
    );
  });
});

describe('state-space scan, chunked', async () => {
  const device = await testDevice('hardware');
  const sizes: [string, Size][] = [
    ...native.filter(([name]) => /three|less one|many|continued|packed|vanishing/.test(name)),
    ['more than a tile', { batch: 1, length: 66, heads: 2, shared: 1, headDim: 70, stateSize: 18 }],
  ];
  it.each(sizes)('%s', async (_name, size) => checkOp(device, stateSpaceScanOp, caseOf(size), toleranceOf(size)));
});
