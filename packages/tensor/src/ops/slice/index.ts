export { slice, sliceOp } from './slice.js';
export { split, splitOp } from './split.js';
