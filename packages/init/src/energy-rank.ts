import { InitError } from './init-error.js';

/** Knobs of {@link energyRank}. */
export interface EnergyRankOptions {
  /** The rank is rounded up to a multiple of this. Default 8. */
  readonly multipleOf?: number;
}

/** What {@link layerEnergyRank} chooses a rank for. */
export interface LayerEnergyRankRequest extends EnergyRankOptions {
  /** Singular values of the layer's matrix, largest first. */
  readonly singularValues: ArrayLike<number>;
  /** δ, in (0, 1]. */
  readonly energy: number;
  /** Which layer of how many, from 0. */
  readonly layerIndex: number;
  readonly layerCount: number;
  /** The rank of the first and of the last layer, whatever their spectra. Left out: they are treated as the others. */
  readonly firstAndLastRank?: number;
}

/**
 * The dynamic rank of X-EcoMLA (arXiv 2503.11132): R = max(1, #{j : Σ_{i≤j} sᵢ² / Σ sᵢ² ≤ δ}), rounded up to a multiple
 * of 8, and never more than there are singular values (so it is then not always a multiple of 8). δ = 1 keeps all.
 *
 * Note that before rounding R is the largest rank whose energy does *not exceed* δ: a spectrum whose first value alone
 * holds more than δ gives R = 1.
 *
 * @throws InitError when δ is not in (0, 1], or the values are not finite, not sorted, negative or none.
 */
export function energyRank(singularValues: ArrayLike<number>, energy: number, options: EnergyRankOptions = {}): number {
  const { multipleOf = 8 } = options;
  if (!(energy > 0 && energy <= 1)) {
    throw new InitError({
      code: 'argument',
      operation: 'energyRank',
      argument: 'energy',
      expected: 'a share of the energy in (0, 1]',
      got: String(energy),
      advice: 'X-EcoMLA uses about 0.95.',
    });
  }
  checkPositiveInteger('energyRank', 'multipleOf', multipleOf);
  const cumulative = cumulativeEnergy(singularValues, 'energyRank');
  const count = cumulative.length;
  const total = cumulative[count - 1];
  let rank = 0;
  // The same sums as the total's, in the same order, so that δ = 1 counts every value. A zero matrix counts none.
  while (rank < count && total > 0 && cumulative[rank] / total <= energy) rank++;
  const rounded = Math.ceil(Math.max(1, rank) / multipleOf) * multipleOf;
  return Math.min(rounded, count);
}

/** {@link energyRank} of one layer of a stack, with the first and last layer's rank fixed if so wanted. */
export function layerEnergyRank(request: LayerEnergyRankRequest): number {
  const { singularValues, energy, layerIndex, layerCount, firstAndLastRank } = request;
  checkPositiveInteger('layerEnergyRank', 'layerCount', layerCount);
  if (!Number.isInteger(layerIndex) || layerIndex < 0 || layerIndex >= layerCount) {
    throw new InitError({
      code: 'argument',
      operation: 'layerEnergyRank',
      argument: 'layerIndex',
      expected: `an integer from 0 to ${layerCount - 1}`,
      got: String(layerIndex),
      advice: 'Count layers from 0.',
    });
  }
  if (firstAndLastRank === undefined || (layerIndex > 0 && layerIndex < layerCount - 1)) {
    return energyRank(singularValues, energy, request);
  }
  checkPositiveInteger('layerEnergyRank', 'firstAndLastRank', firstAndLastRank);
  if (firstAndLastRank > singularValues.length) {
    throw new InitError({
      code: 'argument',
      operation: 'layerEnergyRank',
      argument: 'firstAndLastRank',
      expected: `at most ${singularValues.length}, the number of singular values`,
      got: String(firstAndLastRank),
      advice: 'Choose a smaller rank.',
    });
  }
  return firstAndLastRank;
}

/** The share Σ_{i≤rank} sᵢ² / Σ sᵢ² that the first `rank` singular values hold; 1 for a zero matrix. */
export function energyKept(singularValues: ArrayLike<number>, rank: number): number {
  const cumulative = cumulativeEnergy(singularValues, 'energyKept');
  const total = cumulative[cumulative.length - 1];
  if (total === 0) return 1;
  return rank < 1 ? 0 : cumulative[Math.min(rank, cumulative.length) - 1] / total;
}

/** √Σ_{i>rank} s²: the error ‖W − W_r‖_F of the best approximation of a rank (Eckart and Young). */
export function smallestError(singularValues: Float64Array, rank: number): number {
  return Math.sqrt(singularValues.subarray(rank).reduce((total, value) => total + value * value, 0));
}

/** Running sums of the squares, relative to the largest value so that they neither overflow nor vanish. */
function cumulativeEnergy(singularValues: ArrayLike<number>, operation: string): Float64Array {
  const values = Array.from(singularValues);
  const wrong = values.findIndex((value, i) => !(value >= 0 && value < Infinity) || (i > 0 && value > values[i - 1]));
  if (values.length === 0 || wrong >= 0) {
    throw new InitError({
      code: 'data',
      operation,
      argument: 'singularValues',
      expected: 'at least one finite value, none negative, largest first',
      got: wrong < 0 ? 'none' : `${values[wrong]} at index ${wrong}`,
      advice: 'Pass the values of singularValues() as they come.',
    });
  }
  const largest = values[0] || 1;
  let sum = 0;
  return Float64Array.from(values, (value) => {
    sum += (value / largest) ** 2;
    return sum;
  });
}

function checkPositiveInteger(operation: string, argument: string, value: number): void {
  if (Number.isInteger(value) && value > 0) return;
  throw new InitError({
    code: 'argument',
    operation,
    argument,
    expected: 'a positive integer',
    got: String(value),
    advice: 'Pass a whole number from 1.',
  });
}
