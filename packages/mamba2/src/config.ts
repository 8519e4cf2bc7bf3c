import { type Shape, ZebraError } from '@zebra/tensor';

/** What a Mamba2 layer is built from. Heads are groups, and the head size is the state size, as in the released layers. */
export interface Mamba2Config {
  /** Width of the residual stream, d. */
  readonly hiddenSize: number;
  /** Heads (and groups), n_h. */
  readonly headCount: number;
  /** Heads that x and B have before they are repeated, n_kv; divides `headCount`. */
  readonly keyValueHeadCount: number;
  /** Channels of a head (P) and size of its state (N), d_h. */
  readonly headDim: number;
  /** Width of the causal convolution. Only 4 exists. Default 4. */
  readonly convKernel?: number;
  /** Repeat x and B to all heads before the convolution rather than after it. Default false. */
  readonly repeatKvBeforeConv?: boolean;
  /** Added to the mean square in the gated norm. Default 1e-5. */
  readonly normEpsilon?: number;
}

/** A checked config with its derived sizes. */
export interface Mamba2Sizes extends Required<Mamba2Config> {
  /** d_inner = headCount · headDim. */
  readonly innerSize: number;
  /** d_xb = keyValueHeadCount · headDim. */
  readonly xbSize: number;
  /** Channels that the convolution sees: x, B and C. */
  readonly convSize: number;
  /** Rows of `in_proj`: z, x, B, C and dt. */
  readonly projectionSize: number;
  /** Query heads that share one x and B head. */
  readonly groupSize: number;
}

/** Name of a weight of a layer, as in the released checkpoints. */
export type Mamba2WeightName =
  | 'in_proj.weight'
  | 'conv1d.weight'
  | 'conv1d.bias'
  | 'dt_bias'
  | 'A_log'
  | 'D'
  | 'norm.weight'
  | 'out_proj.weight';

/**
 * Checks a config, fills in its defaults and derives the sizes.
 *
 * @throws ZebraError `argument` that names every field that is wrong
 */
export function mamba2Sizes(config: Mamba2Config): Mamba2Sizes {
  const { hiddenSize, headCount, keyValueHeadCount, headDim } = config;
  const convKernel = config.convKernel ?? 4;
  const normEpsilon = config.normEpsilon ?? 1e-5;
  const problems: string[] = [];
  for (const [name, value] of Object.entries({ hiddenSize, headCount, keyValueHeadCount, headDim })) {
    if (!Number.isSafeInteger(value) || value < 1)
      problems.push(`${name} must be a positive integer, got ${String(value)}`);
  }
  if (problems.length === 0 && headCount % keyValueHeadCount !== 0) {
    problems.push(`headCount (${headCount}) must be a multiple of keyValueHeadCount (${keyValueHeadCount})`);
  }
  if (convKernel !== 4) problems.push(`convKernel must be 4, the width of every released layer, got ${convKernel}`);
  if (!(normEpsilon > 0 && Number.isFinite(normEpsilon)))
    problems.push(`normEpsilon must be positive, got ${normEpsilon}`);
  if (problems.length > 0) throw new ZebraError('argument', `Mamba2Config: ${problems.join('; ')}`);
  const innerSize = headCount * headDim;
  const xbSize = keyValueHeadCount * headDim;
  const repeatKvBeforeConv = config.repeatKvBeforeConv ?? false;
  return {
    hiddenSize,
    headCount,
    keyValueHeadCount,
    headDim,
    convKernel,
    repeatKvBeforeConv,
    normEpsilon,
    innerSize,
    xbSize,
    convSize: repeatKvBeforeConv ? 3 * innerSize : innerSize + 2 * xbSize,
    projectionSize: 2 * innerSize + 2 * xbSize + headCount,
    groupSize: headCount / keyValueHeadCount,
  };
}

/** The shape of each weight of a layer by name, in the order of the released checkpoints' description. */
export function mamba2WeightSpecs(config: Mamba2Config): ReadonlyMap<Mamba2WeightName, Shape> {
  const sizes = mamba2Sizes(config);
  return new Map<Mamba2WeightName, Shape>([
    ['in_proj.weight', [sizes.projectionSize, sizes.hiddenSize]],
    ['conv1d.weight', [sizes.convSize, 1, sizes.convKernel]],
    ['conv1d.bias', [sizes.convSize]],
    ['dt_bias', [sizes.headCount]],
    ['A_log', [sizes.headCount]],
    ['D', [sizes.headCount]],
    ['norm.weight', [sizes.innerSize]],
    ['out_proj.weight', [sizes.hiddenSize, sizes.innerSize]],
  ]);
}
