const UNITS = ['', 'k', 'M', 'G', 'T', 'P'] as const;

/** Three digits with an SI prefix: `12.3 GFLOP/s`. */
export function withPrefix(value: number, unit: string): string {
  let step = 0;
  for (; Math.abs(value) >= 999.5 && step < UNITS.length - 1; step++) value /= 1000;
  return `${threeDigits(value)} ${UNITS[step]}${unit}`;
}

/** Milliseconds as µs, ms or s. */
export function duration(milliseconds: number): string {
  if (milliseconds >= 999.5) return `${threeDigits(milliseconds / 1e3)} s`;
  if (milliseconds < 0.9995) return `${threeDigits(milliseconds * 1e3)} µs`;
  return `${threeDigits(milliseconds)} ms`;
}

/** A share in whole percent, or one decimal where it is small. */
export function percent(share: number): string {
  const value = share * 100;
  return `${Math.abs(value) < 9.95 ? value.toFixed(1) : value.toFixed(0)}%`;
}

function threeDigits(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}
