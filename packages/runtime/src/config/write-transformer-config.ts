import { ZebraError } from '@zebra/tensor';
import { PythonFloat, type PythonJson, pythonJson } from './python-json.js';

/** Keys whose values Python holds as floats, so that a whole number among them gets its ".0". */
const FLOATS: ReadonlySet<string> = new Set([
  'rope_theta',
  'rms_norm_eps',
  'initializer_range',
  'attention_dropout',
  'factor',
  'low_freq_factor',
  'high_freq_factor',
  'attention_factor',
  'beta_fast',
  'beta_slow',
  'mscale',
  'mscale_all_dim',
  'partial_rotary_factor',
]);

/**
 * The text of a `config.json` from an object, as the transformers library writes it: two spaces a level, ASCII, floats
 * as Python spells them. An object has lost whether 500000 was an integer or a float; the keys that are floats in the
 * library's classes become some. Where the file must be the same byte for byte, copy its text.
 *
 * @throws ZebraError `argument` for values that JSON cannot hold
 */
export function writeTransformerConfig(json: Readonly<Record<string, unknown>>): string {
  return `${pythonJson(python(json, 'config.json'), 2)}\n`;
}

function python(value: unknown, key: string): PythonJson {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number' && Number.isFinite(value)) {
    return FLOATS.has(key) || !Number.isInteger(value) ? new PythonFloat(value) : value;
  }
  if (Array.isArray(value)) return value.map((item) => python(item, key));
  if (typeof value === 'object') {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    return Object.fromEntries(entries.map(([name, item]) => [name, python(item, name)]));
  }
  throw new ZebraError('argument', `config.json: ${key}: ${String(value)} cannot be written`);
}
