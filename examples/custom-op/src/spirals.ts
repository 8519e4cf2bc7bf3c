import { Random } from '@zebra/tensor';
import type { BatchSource } from '@zebra/tensor/train';

/** One point of two spirals that are wound around each other, with a little noise; the class is the spiral. */
function point(random: Random): { readonly x: readonly [number, number]; readonly label: number } {
  const label = random.integer(2);
  const radius = 0.1 + 0.9 * random.uniform();
  const angle = 6 * radius + Math.PI * label;
  const noise = () => 0.02 * random.normal();
  return { x: [radius * Math.cos(angle) + noise(), radius * Math.sin(angle) + noise()], label };
}

/** Points as arrays: `x` [rows, 2] and `labels` [rows]. */
export function spiralPoints(rows: number, random: Random): { readonly x: Float32Array; readonly labels: Int32Array } {
  const x = new Float32Array(2 * rows);
  const labels = new Int32Array(rows);
  for (let row = 0; row < rows; row++) {
    const next = point(random);
    x.set(next.x, 2 * row);
    labels[row] = next.label;
  }
  return { x, labels };
}

/**
 * An endless source of batches, as the trainer takes them: shapes and dtypes once, then arrays. `state` and `restore`
 * are what makes a run resumable; the state of the random numbers is all there is to remember here.
 */
export function spiralSource(rows: number, seed: number): BatchSource {
  let random = new Random(seed);
  return {
    specs: { x: { shape: [rows, 2], dtype: 'float32' }, labels: { shape: [rows], dtype: 'int32' } },
    next: () => ({ ...spiralPoints(rows, random) }),
    state: () => [...random.state],
    restore(state) {
      random = Random.from(state as [number, number, number, number]);
    },
    tokensIn: () => rows,
  };
}
