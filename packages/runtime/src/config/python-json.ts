/** A number that Python would hold as a float: written with a point or an exponent. */
export class PythonFloat {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

/** What {@link pythonJson} writes. */
export type PythonJson =
  | null
  | boolean
  | number
  | string
  | PythonFloat
  | readonly PythonJson[]
  | { readonly [key: string]: PythonJson | undefined };

/** JSON text as Python's `json.dumps(value, indent=indent)` spells it; keys that are undefined are left out. */
export function pythonJson(value: PythonJson, indent: number): string {
  return write(value, indent, '\n');
}

function write(value: PythonJson, indent: number, newline: string): string {
  if (value instanceof PythonFloat) return pythonFloat(value.value);
  if (typeof value === 'string') return pythonString(value);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const inner = newline + ' '.repeat(indent);
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const items = Array.isArray(value)
    ? value.map((item: PythonJson) => write(item, indent, inner))
    : Object.entries(value as { [key: string]: PythonJson | undefined })
        .filter((entry): entry is [string, PythonJson] => entry[1] !== undefined)
        .map(([key, item]) => `${pythonString(key)}: ${write(item, indent, inner)}`);
  return items.length === 0 ? `${open}${close}` : `${open}${inner}${items.join(`,${inner}`)}${newline}${close}`;
}

/** ASCII alone, as Python writes strings unless told otherwise. */
function pythonString(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * Python's `repr` of a float: the shortest digits that give it back, always with a point or an exponent (of at least
 * two digits), positional from 1e-4 up to below 1e16.
 */
export function pythonFloat(value: number): string {
  if (Object.is(value, -0)) return '-0.0';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
  }
  const digits = String(value);
  return digits.includes('.') ? digits : `${digits}.0`;
}
