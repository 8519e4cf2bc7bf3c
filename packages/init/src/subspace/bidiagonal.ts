import {
  concat,
  type Device,
  empty,
  permute,
  scale,
  scope,
  slice,
  square,
  sum,
  type Tensor,
  zeros,
} from '@zebra/tensor';
import { InitError } from '../init-error.js';
import { diagonaliseBidiagonal } from '../linear-algebra/bidiagonal-qr.js';
import { singularValues } from '../linear-algebra/svd.js';
import { BLOCK_ROWS, GROUP_COLUMNS, GROUP_ROWS, productKernel, rowKernel, updateKernel } from './bidiagonal.wgsl.js';

/** Steps recorded at once: enough that recording costs little, few enough that what is left has shrunk in between. */
const STEPS = 32;

/** Steps after which a program is recorded anew, for the smaller matrix that is left. */
const RERECORD = 256;

/**
 * All singular values of a matrix, largest first: Householder bidiagonalisation on the device in float32 (Golub and Van
 * Loan, algorithm 5.4.2; three dispatches a column, recorded and replayed, the update of a step merged with the first
 * product of the next), then the implicitly shifted QR iteration over the two diagonals on the host in float64.
 *
 * On an adapter that is a CPU all of it runs on the host in float64, which is many times faster there.
 *
 * Each value is off by a small multiple of the float32 ε times the largest (about 1e-6 of it at 4096), whatever its own
 * size: values below that are noise.
 *
 * @param w [m, n] float32
 * @returns min(m, n) values, float64
 * @throws InitError `data` for values that are not finite
 */
export async function deviceSingularValues(w: Tensor): Promise<Float64Array> {
  if (w.device.info.software) return singularValues({ shape: w.shape, data: (await w.read()) as Float32Array });
  // Divided by this, no square over- or underflows.
  const largest = (await frobeniusNormOf(w)) / Math.sqrt(Math.min(...w.shape));
  const [m, n] = w.shape as readonly [number, number];
  const count = Math.min(m, n);
  if (largest === 0) return new Float64Array(count);
  const device = w.device;
  const work = scope(() => prepare(w, 1 / largest));
  try {
    runSteps(device, work);
    const diagonal = Float64Array.from(await work.diagonal.read());
    const superdiagonal = Float64Array.from(await work.superdiagonal.read());
    diagonaliseBidiagonal({ diagonal, superdiagonal, leftTransposed: undefined, rightTransposed: undefined });
    const values = diagonal.map(Math.abs).sort().reverse();
    return values.subarray(0, count).map((value) => value * largest);
  } finally {
    for (const tensor of Object.values(work)) tensor.dispose();
  }
}

interface Workspace {
  /** At least as many rows as columns, columns a multiple of 4 (padding adds zeros to the singular values). */
  readonly a: Tensor;
  readonly state: Tensor;
  readonly column: Tensor;
  readonly pairs: Tensor;
  readonly row: Tensor;
  readonly sums: Tensor;
  readonly diagonal: Tensor;
  readonly superdiagonal: Tensor;
}

function prepare(w: Tensor, factor: number): Workspace {
  const { device } = w;
  const upright = w.shape[0]! >= w.shape[1]! ? w : permute(w, [1, 0]);
  const padding = -upright.shape[1]! & 3;
  const wide = padding ? concat([upright, zeros(device, [upright.shape[0]!, padding])], 1) : upright;
  // A square that became wider than high gets rows of zeros.
  const missing = Math.max(0, wide.shape[1]! - wide.shape[0]!);
  const a = scale(missing ? concat([wide, zeros(device, [missing, wide.shape[1]!])], 0) : wide, factor);
  const [rows, columns] = a.shape as [number, number];
  return {
    a,
    state: zeros(device, [8]),
    column: slice(a, 1, 0, 1),
    pairs: zeros(device, [rows, 2]),
    row: zeros(device, [columns, 2]),
    sums: empty(device, [Math.ceil(rows / BLOCK_ROWS), columns]),
    diagonal: empty(device, [columns]),
    superdiagonal: empty(device, [columns]),
  };
}

function runSteps(device: Device, work: Workspace): void {
  const columns = work.a.shape[1]!;
  for (let start = 0; start < columns; start += RERECORD) {
    const end = Math.min(columns, start + RERECORD);
    const steps = Math.min(STEPS, end - start);
    // What is past the last column does nothing, so the last replay may overshoot.
    const program = device.capture(() => {
      for (let i = 0; i < steps; i++) step(device, work, start);
    });
    for (let k = start; k < end; k += steps) program.run();
    program.dispose();
  }
}

/** One step; `start` is the first that the number of workgroups has to suffice for. */
function step(device: Device, work: Workspace, start: number): void {
  const [rows, columns] = work.a.shape as [number, number];
  const params = { rows, columns };
  const range = (name: keyof Workspace) => ({ [name]: work[name].range() });
  device.dispatch(updateKernel, {
    bindings: {
      ...range('state'),
      ...range('column'),
      ...range('pairs'),
      ...range('row'),
      ...range('a'),
      ...range('sums'),
      ...range('diagonal'),
    },
    params,
    groups: [Math.ceil(columns / GROUP_COLUMNS), Math.ceil((rows - start) / BLOCK_ROWS), 1],
  });
  device.dispatch(rowKernel, {
    bindings: { ...range('state'), ...range('a'), ...range('sums'), ...range('row') },
    params,
    groups: Math.ceil(columns / device.workgroupOf(rowKernel)),
  });
  device.dispatch(productKernel, {
    bindings: {
      ...range('state'),
      ...range('a'),
      ...range('row'),
      ...range('column'),
      ...range('pairs'),
      ...range('superdiagonal'),
    },
    params,
    groups: Math.max(1, Math.ceil((rows - start - 1) / GROUP_ROWS)),
  });
}

/** ‖x‖_F. Throws InitError `data` when it is not finite. */
export async function frobeniusNormOf(x: Tensor): Promise<number> {
  const total = scope(() => sum(square(x)));
  const squares = await total.item();
  total.dispose();
  if (Number.isFinite(squares)) return Math.sqrt(squares);
  throw new InitError({
    code: 'data',
    operation: 'leadingSubspace',
    argument: 'w',
    expected: 'finite values whose squares have a finite sum',
    got: `a sum of ${squares}`,
    advice: 'Check the checkpoint: it may be truncated or come from a run that diverged.',
  });
}
