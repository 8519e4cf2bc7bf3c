export type { FloatType } from './convert.wgsl.js';
export { type DownloadOptions, downloadTensor } from './download.js';
export type { ConversionFindings } from './findings.js';
export { type TensorUpload, type UploadOptions, uploadTensors } from './upload.js';
