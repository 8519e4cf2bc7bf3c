import { defineKernel, empty, linearMain, scale } from '@zebra/tensor';
import type { Benchmark, Case } from '../runner/case.js';
import { copyBytes, copyCase } from '../runner/copy-bandwidth.js';
import { recorded } from '../runner/recorded.js';
import { randomTensor } from './inputs.js';
import { matmulCase } from './matmul.js';

const CHAINS = 8;

/** Independent chains of multiply-adds on values that stay in registers: what the lanes do when nothing is loaded. */
const multiplyAddKernel = defineKernel({
  name: 'bench_multiply_add',
  bindings: { y: 'write' },
  params: { count: 'u32', steps: 'u32', factor: 'f32', summand: 'f32' },
  source() {
    const each = (line: (chain: number) => string) => Array.from({ length: CHAINS }, (_, i) => line(i)).join('\n');
    return linearMain(
      'p.count',
      `${each((c) => `  var s${c} = f32(i + ${c}u);`)}
  for (var step = 0u; step < p.steps; step += 4u) {
${[0, 1, 2, 3].map(() => each((c) => `    s${c} = s${c} * p.factor + p.summand;`)).join('\n')}
  }
  y[i] = ${Array.from({ length: CHAINS }, (_, c) => `s${c}`).join(' + ')};`,
    );
  },
});

function multiplyAddCase(count: number, steps: number): Case {
  return {
    shape: `multiply-add in registers float32`,
    work: { flops: 2 * CHAINS * count * steps, bytes: 0 },
    prepare(device) {
      const y = empty(device, [count]);
      return recorded(device, [y], () => {
        device.dispatch(multiplyAddKernel, {
          bindings: { y: y.range() },
          params: { count, steps, factor: 0.999, summand: 0.5 },
          groups: Math.ceil(count / device.workgroupOf(multiplyAddKernel)),
        });
        return [];
      });
    },
  };
}

/** What a kernel of the library does with as many bytes: on CPUs that can be more than the copy. */
function scaleCase(bytes: number): Case {
  return {
    shape: `scale ${bytes / 2 ** 20} MiB`,
    work: { flops: 0, bytes: 2 * bytes },
    prepare(device) {
      const x = randomTensor(device, [bytes / 4]);
      return recorded(device, [x], () => [scale(x, 1.5)]);
    },
  };
}

/** What floors are made of; runs in front of whatever else is asked for. */
export const peak: Benchmark = {
  name: 'peak',
  cases({ large, float16 }) {
    const copied = copyBytes(large);
    const copy = copyCase(copied, `copy by a kernel ${copied / 2 ** 20} MiB`);
    if (!large) {
      return [copy, scaleCase(2 ** 23), multiplyAddCase(8192, 512), matmulCase(1024, 256, 256, 'NN', 'float32')];
    }
    const sizes = [4096, 8192];
    return [
      copy,
      scaleCase(2 ** 28),
      multiplyAddCase(2 ** 20, 2048),
      ...sizes.map((n) => matmulCase(n, n, n, 'NT', 'float32')),
      ...(float16 ? sizes.map((n) => matmulCase(n, n, n, 'NT', 'float16')) : []),
    ];
  },
};
