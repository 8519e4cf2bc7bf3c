export { fromFloat32, toFloat32 } from "./convert.js";
export { dtypeBytes, dtypes, elementCount, isDtype, type SafetensorsDtype } from "./dtypes.js";
export { SafetensorsError, type SafetensorsErrorCode, type SafetensorsErrorParts } from "./errors.js";
export type { WriterFileSystem, WriterHandle } from "./file-system.js";
export { openSafetensorsFolder, type OpenFolderOptions } from "./folder.js";
export { writeSafetensorsFolder, type WriteFolderOptions, type WrittenFolder } from "./folder-writer.js";
export {
  maxHeaderBytes,
  parseHeader,
  parseHeaderLength,
  type ParseHeaderOptions,
  type SafetensorsHeader,
  type TensorEntry,
} from "./format.js";
export { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./half.js";
export type { LayoutOptions, MetadataInput } from "./layout.js";
export { nodeFileSource, type NodeFileSource } from "./node-file.js";
export { openSafetensors, type SafetensorsInput } from "./open.js";
export { SafetensorsFile, type ReadBytesOptions, type StreamOptions, type TensorInfo, type TensorReader } from "./reader.js";
export { isSafeShardName, parseShardIndex, type ShardIndex } from "./shard-index.js";
export { ShardedSafetensors, type JoinShardsOptions } from "./sharded.js";
export { blobSource, memorySource, type ByteSource } from "./source.js";
export type { TensorData, TensorInput } from "./tensor-input.js";
export { serializeSafetensors, writeSafetensors, type WriteOptions, type WriteProgress } from "./writer.js";
