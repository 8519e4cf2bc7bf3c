import { defineKernel, defineOp, hostTensor, linearMain, scope, type Tensor, tensor } from '@zebra/tensor';
import type { RowTerms } from '../mla-rows.js';

const kernel = defineKernel({
  name: 'combine-rows',
  bindings: { x: 'read', rows: 'read', factors: 'read', y: 'write' },
  params: { count: 'u32', columns: 'u32', terms: 'u32', limit: 'u32' },
  source: () =>
    linearMain(
      'p.count',
      `  let row = i / p.columns;
  let column = i % p.columns;
  var total = 0.0;
  for (var t = 0u; t < p.terms; t++) {
    let source = min(rows[row * p.terms + t], p.limit);
    total += factors[row * p.terms + t] * x[source * p.columns + column];
  }
  y[i] = total;`,
    ),
});

/**
 * Sums of scaled rows as an operation: y_i = Σ_t factors_it · x_(rows_it), for x [R, C], rows [N, T] uint32 (bounded in
 * the kernel) and factors [N, T]. No gradient: it makes weights, and nothing is trained through it.
 */
export const combineRowsOp = defineOp<Record<string, never>>({
  name: 'combineRows',
  shape: ([x, rows]) => [{ shape: [rows!.shape[0]!, x!.shape[1]!], dtype: 'float32' }],
  forward({ device, inputs: [x, rows, factors], outputs: [y] }) {
    device.dispatch(kernel, {
      bindings: { x: x!.range(), rows: rows!.range(), factors: factors!.range(), y: y!.range() },
      params: { count: y!.size, columns: x!.shape[1]!, terms: rows!.shape[1]!, limit: x!.shape[0]! - 1 },
      groups: Math.ceil(y!.size / device.workgroupOf(kernel)),
    });
  },
  reference: {
    forward([x, rows, factors]) {
      const [count, terms] = rows!.shape as [number, number];
      const columns = x!.shape[1]!;
      const y = hostTensor([count, columns]);
      for (let i = 0; i < count; i++) {
        for (let t = 0; t < terms; t++) {
          const from = rows!.data[i * terms + t]!;
          const factor = factors!.data[i * terms + t]!;
          for (let j = 0; j < columns; j++) y.data[i * columns + j]! += factor * x!.data[from * columns + j]!;
        }
      }
      return [y];
    },
  },
});

/** The planned rows of a float32 matrix [R, C], a new [plan.length, C]. */
export function combineRows(x: Tensor, plan: readonly RowTerms[]): Tensor {
  const terms = Math.max(1, ...plan.map((row) => row.length));
  const rows = new Uint32Array(plan.length * terms);
  const factors = new Float32Array(plan.length * terms);
  plan.forEach((row, i) => {
    row.forEach((term, t) => {
      rows[i * terms + t] = term.row;
      factors[i * terms + t] = term.scale;
    });
  });
  const shape = [plan.length, terms];
  return scope(
    () => combineRowsOp.apply([x, tensor(x.device, rows, shape), tensor(x.device, factors, shape)], {})[0] as Tensor,
  );
}
