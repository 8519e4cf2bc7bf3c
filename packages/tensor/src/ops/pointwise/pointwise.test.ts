import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { sum } from '../reduce/index.js';
import { reshape } from '../reshape/index.js';
import { add, binaryOps, multiply, unaryOps } from './index.js';

// float32 rounding of inputs that are exact, one or two operations deep; WGSL allows exp and log a few ulp more.
const TOLERANCE = { forward: 2e-6, gradient: 4e-6, numeric: 1e-5 };
const positive = (_: number, random: () => number) => 0.2 + 3 * random();

describe('unary pointwise operations', async () => {
  const device = await testDevice();
  it.each(Object.entries(unaryOps))('%s agrees with its reference', async (_name, op) => {
    const values = op.name === 'logarithm' || op.name === 'squareRoot' ? { values: positive } : {};
    for (const shape of [[1], [3, 63], [500], [2, 3, 5, 7]]) {
      await checkOp(device, op, { inputs: [{ shape, ...values }], attributes: { a: 1.7 } }, TOLERANCE);
    }
  });

  it('agree where an invocation handles several items, whole blocks and parts of them', async () => {
    const hardware = await testDevice('hardware');
    for (const shape of [[512], [513], [700, 3], [4100]]) {
      await checkOp(hardware, unaryOps.silu, { inputs: [{ shape }], attributes: { a: 0 } }, TOLERANCE);
      await checkOp(hardware, binaryOps.multiply, { inputs: [{ shape }, { shape }], attributes: {} }, TOLERANCE);
    }
  });

  it.each(['sigmoid', 'silu', 'softplus', 'tanh'] as const)(
    '%s is stable at large and small arguments',
    async (name) => {
      const at = [-80, -30, -15, -3.5, -1e-3, 0, 1e-3, 3.5, 15, 30, 80];
      const input = { shape: [at.length], values: (i: number) => at[i]! };
      await checkOp(device, unaryOps[name], { inputs: [input], attributes: { a: 0 } }, { ...TOLERANCE, numeric: 1e-4 });
      const x = tensor(device, at);
      const y = unaryOps[name].apply([x], { a: 0 })[0]!;
      const expected = unaryOps[name].reference.forward([{ shape: [at.length], data: Float64Array.from(at) }], {
        a: 0,
      })[0]!;
      // Element by element, because a norm hides the small ones. tanh and sigmoid carry exp's few ulp.
      (await y.read()).forEach((value, i) => {
        expect(Math.abs(value - expected.data[i]!), `at ${at[i]}`).toBeLessThanOrEqual(
          2e-5 * Math.abs(expected.data[i]!) + 1e-38,
        );
      });
      x.dispose();
      y.dispose();
    },
  );
});

describe('binary pointwise operations', async () => {
  const device = await testDevice();
  it.each(Object.entries(binaryOps))('%s broadcasts', async (_name, op) => {
    const shapes = [
      [[63], [63]],
      [[500, 3], [3]],
      [
        [2, 1, 7],
        [3, 1],
      ],
      [[1], [4, 5]],
      [
        [2, 1, 3, 1],
        [1, 5, 1, 7],
      ],
    ];
    for (const [a, b] of shapes) {
      const inputs = [{ shape: a! }, { shape: b!, ...(op.name === 'divide' && { values: positive }) }];
      await checkOp(device, op, { inputs, attributes: {} }, TOLERANCE);
    }
  });

  it('refuses shapes that do not broadcast', () => {
    scope(() => {
      expect(() => add(tensor(device, [1, 2, 3]), tensor(device, [1, 2]))).toThrow(
        /add: b must be broadcastable with \[3\], got \[2\]/,
      );
    });
  });
});

describe('the tape', async () => {
  const device = await testDevice();
  it('adds up the gradients of a tensor used many times, and frees everything', async () => {
    const before = device.statistics().liveBuffers;
    const x = tensor(device, [1, 2, 3]);
    const { value, gradients } = valueAndGradients(() => sum(add(multiply(x, x), add(x, x))), [x]);
    expect(await value.item()).toBeCloseTo(26);
    expect([...(await gradients[0]!.read())]).toEqual([4, 6, 8]);
    for (const t of [x, value, ...gradients]) t?.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it("adds gradients in place only where they are nobody else's", async () => {
    const x = tensor(device, [1, 2, 3]);
    const seed = tensor(device, [5]);
    // add() hands its own incoming gradient on, reshape() a view of it; the seed is the caller's.
    const { value, gradients } = valueAndGradients(
      () => {
        const y = add(x, x);
        return sum(add(add(y, reshape(y, [3])), multiply(y, y)));
      },
      [x],
      { seed },
    );
    expect([...(await gradients[0]!.read())]).toEqual([60, 100, 140]);
    expect([...(await seed.read())]).toEqual([5]);
    for (const t of [x, seed, value, ...gradients]) t?.dispose();
  });
});
