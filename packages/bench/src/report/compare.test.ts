import { describe, expect, it } from 'vitest';
import { makeRow, type Row } from '../runner/row.js';
import { type Change, compareRow, confirmed, describeChanges } from './compare.js';
import { makeTable } from './table.js';

function row(median: number, spread: number): Row {
  const timing = {
    median,
    min: median,
    max: median,
    spread,
    host: 0.01,
    cpu: 10,
    cpuSpread: 0,
    first: median,
    samples: 5,
    runsPerSample: 1,
  };
  const peaks = { bandwidth: 1e9, arithmetic: { float32: 1e9 } };
  return makeRow('add', '8×8', { flops: 64, bytes: 768 }, timing, peaks);
}

describe('compareRow', () => {
  it('tells changes beyond the spreads of both runs', () => {
    expect(compareRow(row(7, 0.1), row(10, 0.1), 'median')).toMatchObject({ verdict: 'faster', noise: 0.2 });
    expect(compareRow(row(13, 0.1), row(10, 0.1), 'median').verdict).toBe('slower');
    expect(compareRow(row(13, 0.1), row(10, 0.25), 'median').verdict).toBe('same');
    expect(compareRow(row(7, 0.2), row(10, 0.2), 'median').verdict).toBe('same');
  });

  it('goes by processor time where it is asked to, whatever the clock on the wall said', () => {
    expect(compareRow(row(70, 0.1), row(10, 0.1), 'cpu')).toMatchObject({ verdict: 'same', change: 0 });
    expect(compareRow({ ...row(10, 0), cpu: 12 }, row(10, 0), 'cpu').verdict).toBe('slower');
  });

  it('does not tell a few percent even of quiet runs', () => {
    expect(compareRow({ ...row(10, 0), cpu: 11.4 }, row(10, 0), 'cpu').verdict).toBe('same');
    expect(compareRow(row(10.4, 0), row(10, 0), 'median').verdict).toBe('same');
    expect(compareRow(row(10.6, 0), row(10, 0), 'median').verdict).toBe('slower');
  });
});

describe('makeTable', () => {
  const table = makeTable(
    [
      { name: 'add', shape: '8×8' },
      { name: 'softmax', shape: 'a longer one' },
    ],
    { compared: true, software: true },
  );

  it('keeps columns in line whatever comes', () => {
    const at = table.header[0]!.indexOf('cpu against');
    const lines = [row(7, 0.1), row(0.0123, 0), row(123456, 1.5)].map((one) =>
      table.line(one, compareRow(one, row(10, 0.1), 'median')),
    );
    for (const line of lines) expect(line.slice(0, at)).toMatch(/ {2}$/);
    expect(lines[0]!.slice(at)).toMatch(/^ +−30% +FASTER \(noise 20%\)$/);
    expect(lines[2]!.slice(at)).toMatch(/SLOWER/);
  });

  it('marks a row that the earlier run did not have', () => {
    expect(table.line(row(7, 0.1))).toMatch(/ {2}new$/);
  });

  it('gives rates of what the work is bound by', () => {
    expect(table.line(row(1, 0))).toContain('768 kB/s');
  });
});

describe('changes of a whole run', () => {
  const change = (median: number) => compareRow(row(median, 0), row(10, 0), 'median');

  it('stand only where a second look agrees, and then as the smaller of the two', () => {
    expect(confirmed(change(13), change(12))).toEqual(change(12));
    expect(confirmed(change(12), change(13))).toEqual(change(12));
    expect(confirmed(change(13), change(10.1)).verdict).toBe('same');
    expect(confirmed(change(13), change(7)).verdict).toBe('same');
  });

  it('are told largest first, a halving before a rise by half', () => {
    const lines = describeChanges([change(10), change(15), change(5)] satisfies Change[]);
    expect(lines[0]).toContain('2 of 3 rows');
    expect(lines.slice(1).map((line) => line.split(' ')[0])).toEqual(['faster', 'slower']);
  });
});
