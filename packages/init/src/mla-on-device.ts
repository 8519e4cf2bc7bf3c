import { concat, fill, matmul, scale, scope, type Tensor } from '@zebra/tensor';
import {
  type AttentionTensors,
  copyOf,
  disposeLinear,
  type LinearAttentionTensors,
  linearAttentionTensors,
  stackKeyValue,
} from './attention-tensors.js';
import { hostMatrix } from './host-tensor.js';
import type { InitWarning } from './init-error.js';
import { type MlaFromAttentionResult, rankWarnings } from './mla-from-attention.js';
import { checkMlaOptions, type MlaFromAttentionOptions } from './mla-options.js';
import { type MlaRowPlan, planMlaRows } from './mla-rows.js';
import { combineRows } from './subspace/combine-rows.js';
import { type LeadingSubspace, leadingSubspace } from './subspace/leading-subspace.js';

/** Singular values of the two matrices that an MLA layer is made of; null where W_Q is not decomposed. */
export type AttentionSpectra = MlaFromAttentionResult['singularValues'];

/**
 * As `mlaWeightsFromAttention`, on the device in float32: the same maths with the bases of {@link leadingSubspace}.
 * Nothing large is read back, but W_K for `sharedRopeKey: 'aligned'`, which is worked out on the host.
 *
 * @param spectra singular values that are known already (`attentionSingularValues`)
 */
export async function mlaTensorsFromAttention(
  attention: AttentionTensors,
  options: MlaFromAttentionOptions,
  spectra?: AttentionSpectra,
): Promise<Omit<MlaFromAttentionResult, 'weights'> & { readonly weights: Map<string, Tensor> }> {
  const operation = 'initialiseMla';
  const linear = await linearAttentionTensors(operation, attention, options);
  const bases: LeadingSubspace[] = [];
  const stack = stackKeyValue(linear);
  try {
    checkMlaOptions(operation, options);
    const known = (values: Float64Array | null | undefined) => (values ? { singularValues: values } : {});
    const { qLoraRank, kvLoraRank } = options;
    const query = qLoraRank === null ? null : await leadingSubspace(linear.query, qLoraRank, known(spectra?.query));
    if (query) bases.push(query);
    const keyValue = await leadingSubspace(stack, kvLoraRank, known(spectra?.keyValue));
    bases.push(keyValue);
    const plan = planMlaRows(options, options.sharedRopeKey === 'aligned' ? await readMatrix(linear.key) : undefined);
    const weights = assemble({ linear, stack, query: query?.basis ?? null, keyValue: keyValue.basis, plan, options });
    const warnings: InitWarning[] = [...linear.warnings, ...plan.warnings];
    if (query) warnings.push(...rankWarnings('qLoraRank', query.singularValues, linear.query.shape, query.rank));
    warnings.push(...rankWarnings('kvLoraRank', keyValue.singularValues, stack.shape, keyValue.rank));
    return {
      weights,
      ranks: { query: query?.rank ?? null, keyValue: keyValue.rank },
      energies: { query: query?.energy ?? null, keyValue: keyValue.energy },
      singularValues: { query: query?.singularValues ?? null, keyValue: keyValue.singularValues },
      errors: { query: query?.errors ?? null, keyValue: keyValue.errors },
      warnings,
    };
  } finally {
    for (const { basis } of bases) basis.dispose();
    stack.dispose();
    disposeLinear(linear);
  }
}

interface Assembly {
  readonly linear: LinearAttentionTensors;
  readonly stack: Tensor;
  readonly query: Tensor | null;
  readonly keyValue: Tensor;
  readonly plan: MlaRowPlan;
  readonly options: MlaFromAttentionOptions;
}

function assemble({ linear, stack, query, keyValue, plan, options }: Assembly): Map<string, Tensor> {
  return scope(() => {
    const { device } = stack;
    const weights = new Map<string, Tensor>();
    if (query === null) {
      weights.set('q_proj.weight', combineRows(linear.query, plan.query));
    } else {
      weights.set('q_a_proj.weight', matmul(query, linear.query, { transposeA: true }));
      if (options.useLoraLayerNorm) weights.set('q_a_layernorm.weight', fill(device, [query.shape[1]!], 1));
      weights.set('q_b_proj.weight', combineRows(query, plan.query));
    }
    const latent = scale(matmul(keyValue, stack, { transposeA: true }), plan.latentScale);
    weights.set('kv_a_proj_with_mqa.weight', concat([latent, combineRows(linear.key, plan.ropeKey)], 0));
    if (options.useLoraLayerNorm) weights.set('kv_a_layernorm.weight', fill(device, [keyValue.shape[1]!], 1));
    weights.set('kv_b_proj.weight', combineRows(keyValue, plan.keyValue));
    weights.set('out_proj.weight', copyOf(linear.output));
    return weights;
  });
}

async function readMatrix(x: Tensor): Promise<ReturnType<typeof hostMatrix>> {
  const [rows, columns] = x.shape as [number, number];
  return hostMatrix(rows, columns, Float64Array.from(await x.read()));
}
