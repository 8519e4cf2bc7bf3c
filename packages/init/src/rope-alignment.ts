import { type HostMatrix, hostMatrix } from './host-tensor.js';
import { leftSingularVectors } from './linear-algebra/svd.js';

/** The complex number by which a pair of rows (x, y), read as x + iy, is turned and scaled. */
export interface Turn {
  readonly real: number;
  readonly imaginary: number;
}

/**
 * MLA's heads share one rotated key. A plain mean of the key heads loses what points in different directions; but turning
 * a pair of rows in its own plane commutes with the rotary embedding, so every key head may first be turned towards the
 * others if its queries are turned alike.
 *
 * With K_g = k_x + i·k_y in ℂᵈ for the rows (x, y) of key head g, the best K_g ≈ c_g·k̄ in the least squares is the
 * leading complex singular pair of the matrix of all K_g. Scores are then Re(conj(conj(c_g)·q)·k̄), so the queries of the
 * heads that use g are multiplied by conj(c_g), and k̄ is the mean of conj(c_g)·K_g with Σ|c_g|² = n_kv. Equal heads give
 * c_g = 1 and the plain mean. This is ours, not the reference's.
 *
 * Before any distillation, on a five-layer TinyStories Llama (8 query, 4 key heads of 8; all layers MLA, d_nope = d_rope
 * = 4, no down-projection loss), KL to the teacher: 3.14 nats with `last`, 2.63 `frequency-aware`, 1.80 `aligned`.
 *
 * @param key W_K [n_kv·d_h, d].
 * @param pairs the rows (x, y) of a head, for each rope pair.
 * @returns conj(c_g) for each rope pair and key head.
 */
export function alignKeyHeads(
  key: HostMatrix,
  headCount: number,
  pairs: readonly (readonly [x: number, y: number])[],
): Turn[][] {
  return pairs.map((pair) => alignPair(key, headCount, pair));
}

function alignPair(key: HostMatrix, headCount: number, [x, y]: readonly [number, number]): Turn[] {
  const columns = key.shape[1];
  const headDim = key.shape[0] / headCount;
  // The complex matrix [n_kv, d] as the real [Re, −Im; Im, Re]: a leading left vector (a; b) of it is a + ib.
  const real = hostMatrix(2 * headCount, 2 * columns);
  for (let head = 0; head < headCount; head++) {
    const upper = head * 2 * columns;
    const lower = (headCount + head) * 2 * columns;
    for (let i = 0; i < columns; i++) {
      const re = key.data[(head * headDim + x) * columns + i];
      const im = key.data[(head * headDim + y) * columns + i];
      real.data[upper + i] = re;
      real.data[upper + columns + i] = -im;
      real.data[lower + i] = im;
      real.data[lower + columns + i] = re;
    }
  }
  const { u, s } = leftSingularVectors(real);
  // Keys that are zero give no direction.
  if (s[0] === 0) return Array.from({ length: headCount }, () => ({ real: 1, imaginary: 0 }));
  const count = u.shape[1];
  const vector = Array.from({ length: headCount }, (_, head) => [
    u.data[head * count],
    u.data[(headCount + head) * count],
  ]);
  // The common phase is free: the one that makes Σ c_g real and positive turns the heads least.
  const sumReal = vector.reduce((sum, [a]) => sum + a, 0);
  const sumImaginary = vector.reduce((sum, [, b]) => sum + b, 0);
  const size = Math.hypot(sumReal, sumImaginary);
  const cosine = size === 0 ? 1 : sumReal / size;
  const sine = size === 0 ? 0 : sumImaginary / size;
  const scale = Math.sqrt(headCount);
  return vector.map(([a, b]) => ({
    real: scale * (a * cosine + b * sine),
    imaginary: -scale * (b * cosine - a * sine),
  }));
}
