export { type Companions, finishWrite, readCompanion } from './companions.js';
export { fromFloat32, toFloat32 } from './convert.js';
export { dtypeBytes, dtypes, elementCount, isDtype, type SafetensorsDtype } from './dtypes.js';
export { SafetensorsError, type SafetensorsErrorCode, type SafetensorsErrorParts } from './errors.js';
export type { WriterFileSystem, WriterHandle } from './file-system.js';
export { type OpenFolderOptions, openSafetensorsFolder } from './folder.js';
export { type WriteFolderOptions, type WrittenFolder, writeSafetensorsFolder } from './folder-writer.js';
export {
  maxHeaderBytes,
  type ParseHeaderOptions,
  parseHeader,
  parseHeaderLength,
  type SafetensorsHeader,
  type TensorEntry,
} from './format.js';
export { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half.js';
export type { LayoutOptions, MetadataInput } from './layout.js';
export { type NodeFileSource, nodeFileSource } from './node-file.js';
export { openSafetensors, type SafetensorsInput } from './open.js';
export {
  type ReadBytesOptions,
  SafetensorsFile,
  type StreamOptions,
  type TensorInfo,
  type TensorReader,
} from './reader.js';
export { isSafeShardName, parseShardIndex, type ShardIndex } from './shard-index.js';
export { type JoinShardsOptions, ShardedSafetensors } from './sharded.js';
export { type ByteSource, blobSource, memorySource } from './source.js';
export type { TensorData, TensorInput } from './tensor-input.js';
export { serializeSafetensors, type WriteOptions, type WriteProgress, writeSafetensors } from './writer.js';
