export { TEACHER_CONFIG } from './config.js';
export { meanLoss } from './evaluate.js';
