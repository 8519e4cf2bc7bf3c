import type { Random } from '@zebra/tensor';
import { oneIn, pick } from './draw.js';

const BYTES = [
  0, 1, 0x20, 0x22, 0x2c, 0x2d, 0x30, 0x39, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d, 0x7f, 0x80, 0xc0, 0xe2, 0xf4, 0xff,
];

/** Bytes with one to four of them changed, cut out, put in or repeated; most changes near the start. */
export function mutateBytes(bytes: Uint8Array, random: Random): Uint8Array {
  let result: Uint8Array = bytes.slice();
  for (let left = 1 + random.integer(4); left > 0; left--) result = mutateOnce(result, random);
  return result;
}

/** The same for text, which may not be UTF-8 afterwards: what could not be decoded becomes U+FFFD. */
export function mutateText(text: string, random: Random): string {
  return new TextDecoder().decode(mutateBytes(new TextEncoder().encode(text), random));
}

function mutateOnce(bytes: Uint8Array, random: Random): Uint8Array {
  const near = oneIn(random, 3) ? bytes.length : Math.min(bytes.length, 16 + random.integer(400));
  const at = random.integer(Math.max(1, near));
  const length = 1 + random.integer(oneIn(random, 4) ? 64 : 4);
  switch (random.integer(6)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return joined(bytes.subarray(0, at), bytes.subarray(at + length));
    case 2: {
      const part = bytes.subarray(at, at + length);
      return joined(bytes.subarray(0, at), part, part, bytes.subarray(at + length));
    }
    case 3: {
      const inserted = Uint8Array.from({ length }, () => pick(random, BYTES));
      return joined(bytes.subarray(0, at), inserted, bytes.subarray(at));
    }
    default: {
      const changed = bytes.slice();
      if (changed.length > 0)
        changed[at] = oneIn(random, 2) ? changed[at]! ^ (1 << random.integer(8)) : pick(random, BYTES);
      return changed;
    }
  }
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
