import { describe, expect, it } from 'vitest';
import { zeros } from '../../core/create.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { projectOp } from './index.js';

// Emulated matrix units: the kernel that multiplies by both weights of a gated MLP at once.
const device = await testDevice('matrix');
const half = (_: number, random: () => number) => Math.round((random() - 0.5) * 512) / 256;

describe.skipIf(device.info.subgroupMatrix.length === 0)('project on emulated matrix units', () => {
  it.each([
    [64, 2048, 96],
    [41, 2056, 136],
    [17, 2048, 64],
  ])('computes a gated MLP: %i rows, %i columns, sums of %i', async (rows, columns, size) => {
    const input = (shape: number[]) => ({ shape, dtype: 'float16' as const, values: half });
    const weight = input([columns, size]);
    const inputs = [input([rows, 1, size]), weight, weight, undefined, undefined, undefined];
    const attributes = { start: 0, eps: 0, gated: true, dtype: 'float16' as const };
    // Inputs are exact in float16, the result is rounded to it; products of one kernel are not rounded before.
    await checkOp(device, projectOp, { inputs, attributes }, { forward: 4e-4, gradient: 0 });
    const tensors = inputs.map((each) => each && zeros(device, each.shape, { dtype: 'float16' }));
    const program = device.capture(() => projectOp.apply(tensors, attributes));
    // Poisoning the output is the other one.
    expect(program.statistics.dispatches).toBe(2);
    for (const made of [...program.result, program, ...tensors]) made?.dispose();
  });
});
