export { type SliceAttributes, slice, sliceOp } from './slice.js';
export { type SplitAttributes, split, splitOp } from './split.js';
