import { readFileSync } from 'node:fs';
import { type Device, type Tensor, tensor } from '@zebra/tensor';
import { openSafetensors } from '@zebra/tensor/safetensors';
import type { Mamba2Config } from '../src/index.js';

/** One case of the recorded numbers: a layer's weights, and what PyTorch made of them. */
export interface GoldenCase {
  readonly config: Mamba2Config;
  weights(device: Device): Promise<Map<string, Tensor>>;
  /** A recorded array, float32. */
  values(name: string): Promise<Float32Array>;
  shape(name: string): readonly number[];
  tensor(device: Device, name: string): Promise<Tensor>;
}

/** Opens `test/goldens/<name>`. */
export async function goldenCase(name: string): Promise<GoldenCase> {
  const file = (path: string) => readFileSync(new URL(`./goldens/${name}/${path}`, import.meta.url));
  const hybrid = JSON.parse(file('hybrid_config.json').toString('utf8'));
  const weights = await openSafetensors(new Uint8Array(file('weights.safetensors')));
  const golden = await openSafetensors(new Uint8Array(file('golden.safetensors')));
  return {
    config: {
      hiddenSize: hybrid.hidden_size,
      headCount: hybrid.ssm_cfg.ngroups,
      keyValueHeadCount: hybrid.d_xb / hybrid.ssm_cfg.d_state,
      headDim: hybrid.ssm_cfg.d_state,
      repeatKvBeforeConv: hybrid.ssm_cfg.repeat_kv_before_conv,
    },
    async weights(device) {
      const made = new Map<string, Tensor>();
      for (const key of weights.names)
        made.set(key, tensor(device, await weights.readFloat32(key), weights.info(key).shape));
      return made;
    },
    values: (key) => golden.readFloat32(key),
    shape: (key) => golden.info(key).shape,
    tensor: async (device, key) => tensor(device, await golden.readFloat32(key), golden.info(key).shape),
  };
}
