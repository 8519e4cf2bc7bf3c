import { mean, scale, scope, softplus, subtract, type Tensor } from '@zebra/tensor';

/** Log-probabilities of whole responses, float32 [B] each. */
export interface PreferenceLogProbabilities {
  readonly policyChosen: Tensor;
  readonly policyRejected: Tensor;
  readonly referenceChosen: Tensor;
  readonly referenceRejected: Tensor;
}

/** Options of {@link preferenceLoss}. */
export interface PreferenceLossOptions {
  /** β: how strongly the policy is held to the reference. Default 0.01, as published for Zebra-Llama. */
  readonly beta?: number;
}

/**
 * The DPO loss (Rafailov et al. 2023): the mean over pairs of
 *
 *   −log σ(β[(log π − log ref)(chosen) − (log π − log ref)(rejected)]),
 *
 * in its stable form softplus(−β·margin).
 *
 * @returns a float32 tensor of one element
 */
export function preferenceLoss(logs: PreferenceLogProbabilities, { beta = 0.01 }: PreferenceLossOptions = {}): Tensor {
  return scope(() => mean(softplus(scale(preferenceMargins(logs), -beta))));
}

/** (log π − log ref)(chosen) − (log π − log ref)(rejected) of each pair, [B]; the implicit reward is β times it. */
export function preferenceMargins(logs: PreferenceLogProbabilities): Tensor {
  return scope(() => {
    const chosen = subtract(logs.policyChosen, logs.referenceChosen);
    return subtract(chosen, subtract(logs.policyRejected, logs.referenceRejected));
  });
}
