import { preferenceLoss } from '@zebra/dpo';
import {
  type Device,
  klDivergence,
  mean,
  reshape,
  rowDistance,
  scale,
  scope,
  type Tensor,
  tensor,
  valueAndGradients,
} from '@zebra/tensor';
import { Golden } from './golden.js';
import { compared, type ParityRow, TOLERANCE } from './row.js';

/** The losses on given numbers: KL, ILD and DPO with their gradients. */
export async function checkLosses(device: Device, name: string, folder: string): Promise<ParityRow[]> {
  const golden = await Golden.read(folder, 'golden.safetensors');
  return [
    ...(await divergence(device, name, golden)),
    ...(await layerDistance(device, name, golden)),
    ...(await preference(device, name, golden, '0.01')),
    ...(await preference(device, name, golden, '0.1')),
  ];
}

/** Logits as hidden states under an identity head, so that the streamed loss is what is tested. */
async function divergence(device: Device, name: string, golden: Golden): Promise<ParityRow[]> {
  const [batch, tokens, vocabulary] = golden.shape('student_logits') as [number, number, number];
  const identity = Float32Array.from({ length: vocabulary * vocabulary }, (_, i) =>
    i % (vocabulary + 1) === 0 ? 1 : 0,
  );
  const head = tensor(device, identity, [vocabulary, vocabulary]);
  const student = golden.tensor(device, 'student_logits');
  const teacher = golden.tensor(device, 'teacher_logits');
  const perToken = () => klDivergence({ teacher: { logits: teacher }, student: { hidden: student, head } });
  const token = scope(perToken);
  // batchmean divides by the number of sequences alone.
  const whole = valueAndGradients(() => scale(perToken(), tokens), [student]);
  const rows = [
    compared(name, 'kl_per_token', await token.read(), golden.data('kl_per_token'), TOLERANCE.output),
    compared(name, 'kl_batchmean', await whole.value.read(), golden.data('kl_batchmean'), TOLERANCE.output),
    compared(
      name,
      'grad_student_logits',
      (await whole.gradients[0]?.read()) ?? [],
      golden.data('grad_student_logits'),
      TOLERANCE.gradient,
    ),
  ];
  free([head, student, teacher, token, whole.value, ...whole.gradients]);
  if (batch < 1) throw new Error('losses: empty batch');
  return rows;
}

async function layerDistance(device: Device, name: string, golden: Golden): Promise<ParityRow[]> {
  const [layers, , , size] = golden.shape('ild_student') as [number, number, number, number];
  const student = golden.tensor(device, 'ild_student');
  const teacher = golden.tensor(device, 'ild_teacher');
  // The sum over layers of means over tokens is the mean over all rows times the number of layers.
  const found = valueAndGradients(
    () => scale(mean(rowDistance(reshape(student, [-1, size]), reshape(teacher, [-1, size]))), layers),
    [student],
  );
  const rows = [
    compared(name, 'ild_loss', await found.value.read(), golden.data('ild_loss'), TOLERANCE.output),
    compared(
      name,
      'ild_grad_student',
      (await found.gradients[0]?.read()) ?? [],
      golden.data('ild_grad_student'),
      TOLERANCE.gradient,
    ),
  ];
  free([student, teacher, found.value, ...found.gradients]);
  return rows;
}

async function preference(device: Device, name: string, golden: Golden, beta: string): Promise<ParityRow[]> {
  const [policyChosen, policyRejected, referenceChosen, referenceRejected] = [
    'policy_chosen',
    'policy_rejected',
    'ref_chosen',
    'ref_rejected',
  ].map((key) => golden.tensor(device, `dpo_${key}`)) as [Tensor, Tensor, Tensor, Tensor];
  const logs = { policyChosen, policyRejected, referenceChosen, referenceRejected };
  const found = valueAndGradients(() => preferenceLoss(logs, { beta: Number(beta) }), [policyChosen, policyRejected]);
  const gradient = async (index: number, which: string) =>
    compared(
      name,
      `dpo_grad_${which}_beta${beta}`,
      (await found.gradients[index]?.read()) ?? [],
      golden.data(`dpo_grad_${which}_beta${beta}`),
      TOLERANCE.gradient,
    );
  const rows = [
    compared(
      name,
      `dpo_loss_beta${beta}`,
      await found.value.read(),
      golden.data(`dpo_loss_beta${beta}`),
      TOLERANCE.output,
    ),
    await gradient(0, 'chosen'),
    await gradient(1, 'rejected'),
  ];
  free([...Object.values(logs), found.value, ...found.gradients]);
  return rows;
}

function free(tensors: readonly (Tensor | undefined)[]): void {
  for (const item of tensors) item?.dispose();
}
