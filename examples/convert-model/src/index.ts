export { convertModel } from './convert-model.js';
export { readOptions } from './options.js';
export { Stages } from './stages.js';
