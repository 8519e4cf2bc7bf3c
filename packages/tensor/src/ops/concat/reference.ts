export { concatReference, sliceReference } from '../slice/reference.js';
