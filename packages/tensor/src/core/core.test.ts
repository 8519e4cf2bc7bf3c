import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { add, multiply, silu, square } from '../ops/pointwise/index.js';
import { sum } from '../ops/reduce/index.js';
import { testDevice } from '../testing/index.js';
import { checkpoint } from './checkpoint.js';
import { empty, fill, tensor, zeros } from './create.js';
import { valueAndGradients } from './gradients.js';
import { keep, scope } from './scope.js';
import type { Tensor } from './tensor.js';

const device = await testDevice();
let before = 0;
beforeEach(() => {
  before = device.statistics().liveBuffers;
});
afterEach(() => {
  expect(device.statistics().liveBuffers).toBe(before);
});

describe('tensors', () => {
  it.each([
    ['float32', [1.5, -2, 3e-8]],
    ['float16', [1.5, -2, 65504]],
    ['bfloat16', [1.5, -2, 3.3895e38]],
    ['int32', [-5, 0, 2147483647]],
    ['uint32', [5, 0, 4294967295]],
  ] as const)('hold %s values', async (dtype, values) => {
    using x = tensor(device, values, [3], { dtype });
    const back = [...(await x.read())];
    values.forEach((value, i) => {
      expect(Math.abs(back[i]! - value)).toBeLessThanOrEqual(
        Math.abs(value) * (dtype === 'bfloat16' ? 2 ** -8 : 2 ** -23),
      );
    });
  });

  it('are zero, filled or undefined as asked; fresh memory is poisoned in tests', async () => {
    using a = zeros(device, [70]);
    using b = fill(device, [3, 5], 2.5);
    using c = empty(device, [9]);
    expect((await a.read()).every((v) => v === 0)).toBe(true);
    expect([...(await b.read())]).toEqual(new Array(15).fill(2.5));
    expect((await c.read()).every((v) => Number.isNaN(v))).toBe(true);
  });

  it('can be rewritten, in order with what was queued before', async () => {
    using x = tensor(device, [1, 2]);
    using y = add(x, x);
    x.write([10, 20]);
    using z = add(x, x);
    expect([...(await y.read())]).toEqual([2, 4]);
    expect([...(await z.read())]).toEqual([20, 40]);
  });

  it('say so when used after disposal', async () => {
    const x = tensor(device, [1]);
    x.dispose();
    x.dispose();
    expect(() => add(x, x)).toThrow(/disposed tensor/);
    await expect(x.read()).rejects.toThrow(/disposed tensor/);
  });

  it('refuse wrong numbers of values and impossible shapes', () => {
    expect(() => tensor(device, [1, 2], [3])).toThrow(/needs 3 values, got 2/);
    expect(() => zeros(device, [2, 0])).toThrow(/positive integers/);
    expect(() => zeros(device, [2 ** 40])).toThrow(/kernels count at most/);
  });
});

describe('scopes', () => {
  it('free what they made, but not what they return or keep', () => {
    let kept: Tensor | undefined;
    const returned = scope(() => {
      const x = tensor(device, [1, 2]);
      kept = keep(add(x, x));
      return { deep: [multiply(x, x)] };
    });
    expect(device.statistics().liveBuffers).toBe(before + 2);
    expect(returned.deep[0]!.disposed).toBe(false);
    returned.deep[0]!.dispose();
    kept!.dispose();
  });

  it('free everything when the function throws, and refuse promises', () => {
    expect(() =>
      scope(() => {
        tensor(device, [1]);
        throw new Error('no');
      }),
    ).toThrow('no');
    expect(() => scope(async () => tensor(device, [1]))).toThrow(/synchronous/);
  });
});

describe('valueAndGradients', () => {
  it('takes tensors by name and leaves out those that the loss does not depend on', async () => {
    const named = new Map([
      ['x', tensor(device, [1, 2])],
      ['idle', tensor(device, [5])],
    ]);
    const { value, gradients } = valueAndGradients(() => sum(square(named.get('x')!)), named);
    expect([...gradients.keys()]).toEqual(['x']);
    expect([...(await gradients.get('x')!.read())]).toEqual([2, 4]);
    for (const made of [value, ...gradients.values(), ...named.values()]) made.dispose();
  });

  it('gives its results to the surrounding scope', async () => {
    const x = tensor(device, [3]);
    const kept = scope(() => valueAndGradients(() => ({ loss: sum(square(x)), extra: add(x, x) }), [x]).gradients[0]!);
    expect(device.statistics().liveBuffers).toBe(before + 2);
    expect(await kept.item()).toBe(6);
    kept.dispose();
    x.dispose();
  });

  it('refuses losses of several elements and integer tensors, and frees what it had', () => {
    const x = tensor(device, [3, 4]);
    const ids = tensor(device, new Int32Array([1]));
    expect(() => valueAndGradients(() => square(x), [x])).toThrow(/must be one element/);
    expect(() => valueAndGradients(() => sum(x), [ids])).toThrow(/int32 tensor has no gradient/);
    x.dispose();
    ids.dispose();
  });
});

describe('checkpoint', () => {
  it('gives the same gradients as without, to inputs and to captured weights, and nests', async () => {
    const x = tensor(device, [0.5, -1, 2]);
    const w = tensor(device, [1.5, 0.25, -0.75]);
    const block = (input: Tensor) => silu(multiply(add(input, w), w));
    const inner = (input: Tensor) => checkpoint([input], block);
    const run = async (f: (input: Tensor) => Tensor) => {
      const { value, gradients } = valueAndGradients(() => sum(square(f(f(multiply(x, w))))), [x, w]);
      const numbers = [await value.item(), ...(await gradients[0]!.read()), ...(await gradients[1]!.read())];
      for (const t of [value, ...gradients]) t?.dispose();
      return numbers;
    };
    const plain = await run(block);
    expect(await run(inner)).toEqual(plain);
    expect(await run((input) => checkpoint([input], inner))).toEqual(plain);
    x.dispose();
    w.dispose();
  });
});

describe('programs', () => {
  it('replay with new data, share memory by lifetime and give everything back', async () => {
    const x = tensor(device, [1, 2, 3]);
    const program = device.capture(() => {
      const deep = scope(() => {
        let y = x;
        for (let i = 0; i < 10; i++) y = add(y, x);
        return y;
      });
      return deep;
    });
    program.run();
    expect([...(await program.result.read())]).toEqual([11, 22, 33]);
    x.write([10, 20, 30]);
    program.run();
    expect([...(await program.result.read())]).toEqual([110, 220, 330]);
    expect(program.statistics.workspaceBytes).toBeLessThan(program.statistics.unsharedBytes / 2);
    program.result.dispose();
    program.dispose();
    expect(() => program.run()).toThrow(/disposed/);
    x.dispose();
  });

  it('say what each of their kernels took', async () => {
    if (!device.info.timestamps) return;
    using x = tensor(device, [1, 2, 3]);
    using program = device.capture(() => scope(() => add(square(x), square(x))));
    const times = await program.profile();
    // The device fills fresh memory with NaN, which is a kernel too.
    const counts = new Map(times.map(({ name, dispatches }) => [name, dispatches]));
    expect(counts.get('unary_square')).toBe(2);
    expect(counts.get('binary_add')).toBe(1);
    for (const { milliseconds } of times) expect(milliseconds).toBeGreaterThanOrEqual(0);
    expect([...(await program.result.read())]).toEqual([2, 8, 18]);
    program.result.dispose();
  });

  it('keep outside tensors alive, and their outputs die with them', async () => {
    const x = tensor(device, [2]);
    const program = device.capture(() => square(x));
    x.dispose();
    const other = tensor(device, [5]);
    program.run();
    expect(await program.result.item()).toBe(4);
    program.dispose();
    await expect(program.result.read()).rejects.toThrow(/disposed/);
    other.dispose();
  });

  it('run a whole training step: the gradients of a replay are those of the eager run', async () => {
    const x = tensor(device, [0.5, -1, 2]);
    const step = () => valueAndGradients(() => sum(silu(square(x))), [x]);
    const program = device.capture(step);
    x.write([1, 2, 3]);
    program.run();
    const eager = step();
    expect([...(await program.result.gradients[0]!.read())]).toEqual([...(await eager.gradients[0]!.read())]);
    for (const t of [eager.value, ...eager.gradients, x]) t?.dispose();
    program.dispose();
  });

  it('refuse to freeze host data or read inside', async () => {
    expect(() => device.capture(() => tensor(device, [1]))).toThrow(/frozen/);
    expect(() => device.capture(() => device.capture(() => 0))).toThrow(/captured already/);
  });
});
