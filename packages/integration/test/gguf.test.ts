import { Random } from '@zebra/tensor';
import { describe, expect, it } from 'vitest';
import { writeGguf } from '../src/llama-cpp/gguf.js';
import { neighbouringPairs } from '../src/llama-cpp/llama-gguf.js';

describe('the GGUF writer', () => {
  it('permutes rows so that turning neighbours does what turning halves does', () => {
    const [heads, size, columns] = [3, 8, 5];
    const random = new Random(1);
    const draw = (count: number) => Float32Array.from({ length: count }, () => random.normal());
    const [query, key, x, y] = [
      draw(heads * size * columns),
      draw(heads * size * columns),
      draw(columns),
      draw(columns),
    ];
    const project = (w: Float32Array, v: Float32Array) =>
      Array.from({ length: heads * size }, (_, row) =>
        v.reduce((sum, value, i) => sum + w[row * columns + i]! * value, 0),
      );
    // Partner of pair i of a head, in the layout of Hugging Face and in llama.cpp's.
    const halves = (i: number) => [i, i + size / 2] as const;
    const neighbours = (i: number) => [2 * i, 2 * i + 1] as const;
    const turned = (rows: number[], position: number, pairOf: typeof halves) => {
      const result = [...rows];
      for (let head = 0; head < heads; head++) {
        for (let i = 0; i < size / 2; i++) {
          const [a, b] = pairOf(i).map((row) => head * size + row) as [number, number];
          const angle = position * 10_000 ** ((-2 * i) / size);
          result[a] = rows[a]! * Math.cos(angle) - rows[b]! * Math.sin(angle);
          result[b] = rows[b]! * Math.cos(angle) + rows[a]! * Math.sin(angle);
        }
      }
      return result;
    };
    const scores = (q: number[], k: number[]) =>
      Array.from({ length: heads }, (_, head) =>
        q.slice(head * size, (head + 1) * size).reduce((sum, value, i) => sum + value * k[head * size + i]!, 0),
      );
    const plain = scores(turned(project(query, x), 11, halves), turned(project(key, y), 4, halves));
    const [q, k] = [neighbouringPairs(query, size, columns), neighbouringPairs(key, size, columns)];
    const permuted = scores(turned(project(q, x), 11, neighbours), turned(project(k, y), 4, neighbours));
    permuted.forEach((score, head) => {
      expect(score).toBeCloseTo(plain[head]!, 10);
    });
  });

  it('writes header, metadata and aligned tensors as the format says', () => {
    const bytes = writeGguf({ a: { type: 'uint32', value: 7 } }, [
      { name: 'x', shape: [1, 3], data: Float32Array.of(1, 2, 3) },
      { name: 'y', shape: [2], data: Float32Array.of(4, 5) },
    ]);
    const view = new DataView(bytes.buffer);
    expect(new TextDecoder().decode(bytes.subarray(0, 4))).toBe('GGUF');
    expect([view.getUint32(4, true), view.getBigUint64(8, true), view.getBigUint64(16, true)]).toEqual([3, 2n, 1n]);
    // key: length 1, "a", type 4, 7; then x: length 1, "x", 2 dimensions from the innermost, float32, offset 0.
    const x = 24 + 9 + 8;
    expect([view.getUint32(33, true), view.getUint32(37, true)]).toEqual([4, 7]);
    expect([view.getUint32(x + 9, true), view.getBigUint64(x + 13, true), view.getBigUint64(x + 21, true)]).toEqual([
      2,
      3n,
      1n,
    ]);
    const y = x + 9 + 4 + 16 + 4 + 8;
    expect(view.getBigUint64(y + 9 + 4 + 8 + 4, true)).toBe(32n);
    const data = Math.ceil((y + 9 + 4 + 8 + 4 + 8) / 32) * 32;
    expect(bytes).toHaveLength(data + 64);
    expect([0, 4, 8, 32, 36].map((at) => view.getFloat32(data + at, true))).toEqual([1, 2, 3, 4, 5]);
  });
});
