import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dtypeBytes, dtypes } from './dtypes.js';
import { SafetensorsError } from './errors.js';
import { parseHeader } from './format.js';
import { openSafetensors } from './open.js';
import { isSafeShardName, parseShardIndex } from './shard-index.js';
import { rawFile } from './test-files.js';
import { serializeSafetensors } from './writer.js';

/** `SAFETENSORS_FUZZ_RUNS=100000` for a long run. */
const numRuns = Number(process.env.SAFETENSORS_FUZZ_RUNS ?? 300);
const timeout = 60_000 + numRuns * 20;

const tensor = fc
  .record({
    name: fc.string({ unit: 'grapheme' }).filter((name) => name !== '__metadata__'),
    dtype: fc.constantFrom(...dtypes),
    shape: fc.array(fc.nat(4), { maxLength: 4 }),
    seed: fc.nat(255),
  })
  .map(({ seed, ...rest }) => {
    const bytes = rest.shape.reduce((product, size) => product * size, dtypeBytes(rest.dtype));
    return { ...rest, data: Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + seed) & 255) };
  });
const tensors = fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 8 });
const metadata = fc.dictionary(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }));
const sort = fc.constantFrom('reference' as const, 'given' as const);

/** Runs it and lets only typed errors with readable messages pass. */
function typedErrorsOnly(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (!SafetensorsError.is(error)) throw error;
    expect(error.message.length).toBeLessThan(3000);
  }
}

describe('fuzz', () => {
  it('what is written is read back, and written again gives the same bytes', { timeout }, async () => {
    await fc.assert(
      fc.asyncProperty(tensors, metadata, sort, async (inputs, strings, order) => {
        const bytes = await serializeSafetensors(inputs, { metadata: strings, sort: order });
        const file = await openSafetensors(bytes);
        expect([...file.names].sort()).toEqual(inputs.map(({ name }) => name).sort());
        for (const { name, dtype, shape, data } of inputs) {
          expect(file.info(name)).toMatchObject({ name, dtype, shape, byteLength: data.length });
          expect(Buffer.compare(await file.readBytes(name), data)).toBe(0);
        }
        const copies = file.names.map((name) => ({ ...file.info(name), data: () => file.readBytes(name) }));
        const copy = await serializeSafetensors(copies, { metadata: file.metadata, sort: order });
        expect(Buffer.compare(copy, bytes)).toBe(0);
      }),
      { numRuns },
    );
  });

  it('damaged files either read within their bounds or fail with a typed error', { timeout }, async () => {
    const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(tensors, damage, fc.nat(), async (inputs, changes, cut) => {
        const bytes = await serializeSafetensors(inputs);
        for (const [at, value] of changes) bytes[at % Math.min(bytes.length, 400)] = value;
        const damaged = cut % 3 === 0 ? bytes.subarray(0, cut % (bytes.length + 1)) : bytes;
        typedErrorsOnly(() => {
          const { tensors: found, dataStart } = parseHeader(damaged);
          let total = dataStart;
          for (const { dtype, shape, begin, end } of found.values()) {
            expect(end - begin).toBe(shape.reduce((product, size) => product * size, dtypeBytes(dtype)));
            total += end - begin;
          }
          expect(total).toBe(damaged.length);
        });
      }),
      { numRuns: numRuns * 5 },
    );
  });

  it('any JSON as a header parses or fails with a typed error', { timeout }, () => {
    const number = fc.oneof(fc.nat(20), fc.integer(), fc.double(), fc.constantFrom(2 ** 53, 2 ** 63, 1e308, -1, 0.5));
    const almostEntry = fc.record(
      {
        dtype: fc.oneof(fc.constantFrom(...dtypes), fc.string(), number),
        shape: fc.oneof(fc.array(number, { maxLength: 4 }), number),
        data_offsets: fc.oneof(fc.tuple(number, number), fc.array(number), fc.jsonValue()),
      },
      { requiredKeys: [] },
    );
    const header = fc.dictionary(
      fc.oneof(fc.string(), fc.constantFrom('__metadata__', '__proto__')),
      fc.oneof(almostEntry, fc.jsonValue()),
    );
    fc.assert(
      fc.property(header, fc.nat(64), (value, size) =>
        typedErrorsOnly(() => parseHeader(rawFile(JSON.stringify(value), size))),
      ),
      { numRuns: numRuns * 5 },
    );
  });

  it('any bytes parse or fail with a typed error', { timeout }, () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, framed) =>
        typedErrorsOnly(() => parseHeader(framed ? rawFile(bytes) : bytes)),
      ),
      { numRuns: numRuns * 5 },
    );
  });

  it('any index parses or fails with a typed error, and safe names stay in the folder', { timeout }, () => {
    const part = fc.oneof(fc.string(), fc.constantFrom('..', '.', '', 'a', 'C:', '\\', '\0'));
    const name = fc.array(part, { maxLength: 4 }).map((parts) => `${parts.join('/')}.safetensors`);
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.oneof(name, fc.jsonValue())), (map) =>
        typedErrorsOnly(() => {
          for (const shard of parseShardIndex(JSON.stringify({ weight_map: map })).shards) {
            expect(isSafeShardName(shard)).toBe(true);
            expect(new URL(encodeURI(shard).replace(/[?#]/g, '_'), 'file:///base/').pathname.startsWith('/base/')).toBe(
              true,
            );
          }
        }),
      ),
      { numRuns: numRuns * 5 },
    );
  });
});
