import { SafetensorsError } from './errors.js';
import type { TensorEntry } from './format.js';

/** The tensors, taken in the order of their offsets, must cover the data from its first byte to its last. */
export function checkTiling(
  tensors: ReadonlyMap<string, TensorEntry>,
  dataBytes: number,
  file: string | undefined,
): void {
  const sorted = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  let previous = '';
  for (const [tensor, { begin, end }] of sorted) {
    const got = `offsets [${begin}, ${end}]`;
    if (begin < covered) {
      throw new SafetensorsError('overlap', {
        problem: `the tensor overlaps tensor ${JSON.stringify(previous.slice(0, 120))}`,
        file,
        tensor,
        expected: `begin = ${covered}`,
        got,
      });
    }
    if (begin > covered) {
      throw new SafetensorsError(end > dataBytes ? 'bad_offsets' : 'hole', {
        problem:
          end > dataBytes ? 'data_offsets point outside the file' : 'bytes before the tensor belong to no tensor',
        file,
        tensor,
        expected: `begin = ${covered}${end > dataBytes ? ` and end ≤ ${dataBytes}` : ''}`,
        got,
      });
    }
    covered = end;
    previous = tensor;
  }
  if (covered === dataBytes) return;
  throw new SafetensorsError(covered > dataBytes ? 'truncated' : 'hole', {
    problem:
      covered > dataBytes
        ? 'the file ends before its last tensor does'
        : 'bytes after the last tensor belong to no tensor',
    file,
    tensor: sorted.at(-1)?.[0],
    expected: `${covered} bytes of data`,
    got: `${dataBytes} bytes`,
    fix: covered > dataBytes ? 'The download or copy is incomplete; fetch the file again' : undefined,
  });
}
