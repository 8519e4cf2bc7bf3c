import { describe, expect, it } from 'vitest';
import { fill } from '../core/create.js';
import { scope } from '../core/scope.js';
import { multiply } from '../ops/pointwise/index.js';
import { testDevice } from '../testing/index.js';
import { drain, regression } from '../train/test-run.js';
import { train } from '../train/train.js';
import { memoryReport } from './memory-report.js';

describe('memoryReport', async () => {
  const device = await testDevice();

  it('names what it is told, programs and operations, and adds up', () => {
    const x = fill(device, [64, 1024], 1);
    const view = x.view({ shape: [1024, 64], dtype: 'float32' });
    const y = multiply(x, 2);
    const program = device.capture(() => scope(() => void multiply(multiply(x, 2), 3)));
    const categories = { weights: new Map([['x', x]]), twice: new Map([['view', view]]) };
    const report = memoryReport(device, categories, { items: 1000 });
    expect(report.categories).toMatchObject({ weights: 2 ** 18, twice: 0 });
    expect(report.categories['workspace']).toBeGreaterThanOrEqual(2 ** 19);
    expect(Object.values(report.categories).reduce((a, b) => a + b)).toBe(report.liveBytes);
    expect(report.liveBytes).toBe(device.statistics().liveBytes);
    const names = report.largest.map(({ category, name }) => `${category}: ${name}`);
    expect(names).toContain('weights: x');
    expect(names).toContain('workspace: scale float32 [64, 1024]');
    expect(names).toContain('other: scale float32 [64, 1024]');
    expect(memoryReport(device).largest).toHaveLength(Math.min(10, names.length));
    for (const item of [program, x, view, y]) item.dispose();
    expect(memoryReport(device).categories['workspace'] ?? 0).toBeLessThan(report.categories['workspace']!);
  });

  it('comes with a finished run', async () => {
    const model = regression(device, { steps: 2, accumulate: 2 });
    const { result } = await drain(train(model.options));
    const { categories, liveBytes } = result!.memory;
    // Buffers of at least 256 bytes: two parameters, each with two moments and a sum of gradients, and two of a batch.
    expect(categories).toMatchObject({ weights: 512, optimizer: 1024, gradients: 512 });
    expect(categories['batch']).toBeGreaterThanOrEqual(512);
    expect(categories['workspace']).toBeGreaterThan(0);
    expect(Object.values(categories).reduce((a, b) => a + b)).toBe(liveBytes);
    model.dispose();
  });
});
