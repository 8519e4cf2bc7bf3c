import { ZebraError } from '@zebra/tensor';
import { z } from 'zod';
import { Problems, showValue } from './problems.js';

const MOST_LAYERS = 4096;

// The message of each schema is what was expected; `readFields` adds the file, the key and what came.
const POSITIVE_INTEGER = 'a positive integer';
const NON_NEGATIVE_INTEGER = 'a non-negative integer';
const LAYER_COUNT = `an integer from 1 to ${MOST_LAYERS}`;
const POSITIVE = 'a positive number';
const AT_LEAST_ONE = 'a number of at least 1';
const ABOVE_ONE = 'a number above 1';
const LAYER_LIST = 'a list of layer numbers';

export const positiveInteger = z.int(POSITIVE_INTEGER).min(1, POSITIVE_INTEGER);
const nonNegativeInteger = z.int(NON_NEGATIVE_INTEGER).min(0, NON_NEGATIVE_INTEGER);
export const layerCount = z.int(LAYER_COUNT).min(1, LAYER_COUNT).max(MOST_LAYERS, LAYER_COUNT);
export const positive = z.number(POSITIVE).gt(0, POSITIVE);
export const nonNegative = z.number('a non-negative number').min(0, 'a non-negative number');
export const atLeastOne = z.number(AT_LEAST_ONE).min(1, AT_LEAST_ONE);
export const aboveOne = z.number(ABOVE_ONE).gt(1, ABOVE_ONE);
export const boolean = z.boolean('true or false');
export const text = z.string('a string');
export const layerList = z.array(nonNegativeInteger, LAYER_LIST);
export const object = z.looseObject({}, 'an object');
/** No id, one, or several. */
export const tokenIds = z
  .union([nonNegativeInteger, z.array(nonNegativeInteger)], 'a token id, a list of them, or null')
  .nullish()
  .transform((ids) => (ids === null || ids === undefined ? [] : typeof ids === 'number' ? [ids] : ids));

/** Parses JSON text where it is text, and makes sure that an object came out. */
export function readObject(file: string, json: unknown): Record<string, unknown> {
  let value = json;
  if (typeof json === 'string') {
    try {
      value = JSON.parse(json);
    } catch (cause) {
      throw new ZebraError('format', `${file}: this is not JSON: ${(cause as Error).message}`, { cause });
    }
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ZebraError('format', `${file}: expected a JSON object, got ${showValue(value)}`);
  }
  return value as Record<string, unknown>;
}

/**
 * Checks an object against a schema.
 *
 * @throws ZebraError `format` that names the file and, for every wrong key, what was expected and what came
 */
export function readFields<T extends z.ZodType>(file: string, schema: T, value: Record<string, unknown>): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = new Problems(file);
  for (const issue of result.error.issues) {
    problems.expected(issue.path.join('.'), issue.message, valueAt(value, issue.path));
  }
  problems.throwIfAny();
  throw new ZebraError('format', `${file}: ${result.error.message}`);
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let at = value;
  for (const key of path) at = (at as Record<PropertyKey, unknown> | null | undefined)?.[key];
  return at;
}
