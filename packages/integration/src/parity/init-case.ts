import { join } from 'node:path';
import { type HostTensor, mlaWeightsFromAttention } from '@zebra/init';
import { Golden, readJsonFile } from './golden.js';
import { readLayerConfig } from './layer-config.js';
import { compared, type ParityRow, TOLERANCE } from './row.js';

/** The weights that initialisation makes of an attention layer: products, since factors are unique only up to a rotation. */
export async function checkInitialisation(name: string, folder: string, root: string): Promise<ParityRow[]> {
  const golden = await Golden.read(folder, 'golden.safetensors');
  const { source } = await readJsonFile<{ source: string }>(folder, 'README.json');
  const [model, prefix] = source.split(' ') as [string, string];
  const teacher = await Golden.read(join(root, model), 'model.safetensors');
  const attention: Record<string, HostTensor> = {};
  for (const [key, data] of teacher.under(`${prefix}.`))
    attention[key] = { shape: teacher.shape(`${prefix}.${key}`), data };
  const mla = (await readLayerConfig(folder)).mla(0);
  const { weights } = mlaWeightsFromAttention(attention, {
    hiddenSize: mla.hiddenSize,
    headCount: mla.headCount,
    keyValueHeadCount: mla.keyValueHeadCount,
    headDim: mla.vHeadDim,
    qLoraRank: mla.qLoraRank,
    kvLoraRank: mla.kvLoraRank,
    qkNopeHeadDim: mla.qkNopeHeadDim,
    qkRopeHeadDim: mla.qkRopeHeadDim,
    vHeadDim: mla.vHeadDim,
    useFullKvHead: mla.useFullKvHead,
    useLoraLayerNorm: mla.useLoraLayerNorm,
  });
  const weight = (key: string) => weights.get(key) as HostTensor;
  const down = weight('kv_a_proj_with_mqa.weight');
  const latent = rows(down, 0, mla.kvLoraRank);
  return [
    check(name, 'q_product', product(weight('q_b_proj.weight'), weight('q_a_proj.weight')), golden),
    check(name, 'kv_product', product(weight('kv_b_proj.weight'), latent), golden),
    check(name, 'k_rope_rows', rows(down, mla.kvLoraRank, mla.qkRopeHeadDim).data, golden),
    check(name, 'out_proj', weight('out_proj.weight').data, golden),
  ];
}

function check(name: string, key: string, got: ArrayLike<number>, golden: Golden): ParityRow {
  return compared(name, key, got, golden.data(key), TOLERANCE.initialisation);
}

function rows({ shape, data }: HostTensor, start: number, count: number): HostTensor {
  const columns = shape[1] as number;
  return { shape: [count, columns], data: data.slice(start * columns, (start + count) * columns) };
}

function product(a: HostTensor, b: HostTensor): Float64Array {
  const [m, k] = a.shape as [number, number];
  const n = b.shape[1] as number;
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let l = 0; l < k; l++) for (let j = 0; j < n; j++) out[i * n + j]! += a.data[i * k + l]! * b.data[l * n + j]!;
  }
  return out;
}
