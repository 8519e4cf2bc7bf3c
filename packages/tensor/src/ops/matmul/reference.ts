import { type HostTensor, hostTensor } from '../../core/host.js';
import { matmulGeometry } from './geometry.js';
import type { MatmulAttributes } from './matmul.js';

/** Calls `visit` with the indices of every product a·b that goes into an element of the output. */
function eachProduct(
  a: HostTensor,
  b: HostTensor,
  { transposeA, transposeB }: MatmulAttributes,
  visit: (ia: number, ib: number, ic: number) => void,
): void {
  const { m, n, k, batch, batchA, batchB } = matmulGeometry('matmul', a.shape, b.shape, transposeA, transposeB);
  for (let z = 0; z < batch; z++) {
    const atA = batchA === 1 ? 0 : z * m * k;
    const atB = batchB === 1 ? 0 : z * k * n;
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        for (let l = 0; l < k; l++) {
          visit(
            atA + (transposeA ? l * m + i : i * k + l),
            atB + (transposeB ? j * k + l : l * n + j),
            (z * m + i) * n + j,
          );
        }
      }
    }
  }
}

/** Batched matrix product in float64, plus a bias a column and a residual an element. */
export function matmulReference(
  a: HostTensor,
  b: HostTensor,
  attributes: MatmulAttributes,
  bias?: HostTensor,
  residual?: HostTensor,
): HostTensor {
  const out = hostTensor(
    matmulGeometry('matmul', a.shape, b.shape, attributes.transposeA, attributes.transposeB).shape,
  );
  eachProduct(a, b, attributes, (ia, ib, ic) => {
    out.data[ic]! += a.data[ia]! * b.data[ib]!;
  });
  out.data.forEach((_, i) => {
    out.data[i]! += (bias?.data[i % bias.data.length] ?? 0) + (residual?.data[i] ?? 0);
  });
  return out;
}

/** Gradients of both operands in float64. */
export function matmulGradientReference(
  a: HostTensor,
  b: HostTensor,
  attributes: MatmulAttributes,
  g: HostTensor,
): [HostTensor, HostTensor] {
  const gradientA = hostTensor(a.shape);
  const gradientB = hostTensor(b.shape);
  eachProduct(a, b, attributes, (ia, ib, ic) => {
    gradientA.data[ia]! += b.data[ib]! * g.data[ic]!;
    gradientB.data[ib]! += a.data[ia]! * g.data[ic]!;
  });
  return [gradientA, gradientB];
}
