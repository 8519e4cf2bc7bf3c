import type { Benchmark } from '../runner/case.js';
import { copyBytes, copyCase } from '../runner/copy-bandwidth.js';

/** The copy that is a peak of bandwidth, as a row that stands beside a peer's. */
export const copyBenchmark: Benchmark = {
  name: 'copy',
  cases: ({ large }) => [copyCase(copyBytes(large))],
};
