import { describe, expect, it } from 'vitest';
import { readOptions } from './options.js';

describe('the command line of the benchmarks', () => {
  it('chooses by the beginnings of names', () => {
    expect(
      readOptions(['--only', 'matm', '--only', 'decode'])!
        .chosen.map(({ name }) => name)
        .sort(),
    ).toEqual(expect.arrayContaining(['decode', 'matmul']));
    expect(readOptions([])).toMatchObject({ adapter: 'auto', seconds: 1 });
    expect(readOptions(['--help'])).toBeUndefined();
  });

  it.each([
    [['--only', 'nosuch'], /--only nosuch: no benchmark's name begins so; there are .*matmul/],
    // A name that is known does not hide one that is not.
    [['--only', 'matmul', '--only', 'nosuch'], /--only nosuch/],
    [['--adapter', 'cuda'], /--adapter must be one of auto, .*got cuda/],
    [['--size', 'huge'], /--size must be one of small, large, got huge/],
    [['--seconds', '0'], /--seconds must be a number above 0, got 0/],
    [['--jsn', 'x'], /^bench: Unknown option '--jsn' \(--help lists the options\)$/],
  ])('is refused: %j', (args, message) => {
    expect(() => readOptions(args)).toThrow(message);
  });
});
